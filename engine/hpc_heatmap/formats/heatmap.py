"""Heatmaps, ``heatmap.h5``: scores on the lattice with a pyramid, read lazily.

Each level ``levels/N`` is a chunked, compressed float32 dataset (rows, columns), NaN where there
is no tissue; level 0 has the scores themselves, each further level the mean of the scored samples
in 2 x 2 of the one before. The attributes ``origin_px`` (of sample (0, 0)) and ``step_px``, both
(x, y), place the samples in level-0 pixels, pixel-centre convention.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np
import numpy.typing as npt

from hpc_heatmap.formats.hdf5 import (
    COMPRESSED,
    open_for_reading,
    open_for_writing,
    write_chunk,
)
from hpc_heatmap.geometry import Geometry

__all__ = ["BLOCK", "Heatmap", "ScoreMap", "write_heatmap"]

KIND = "hpc-heatmap heatmap"
VERSION = 1
#: Side of a chunk, samples.
CHUNK = 256
#: Side of what is worked on at once, samples: two chunks, so that half of it is whole chunks.
BLOCK = 512
#: Blocks that may wait to be written.
_UNWRITTEN = 8
#: The coarsest level has no side longer than this.
COARSEST = 256

Scores = npt.NDArray[np.float32]


def write_heatmap(
    path: Path,
    geometry: Geometry,
    scores_of_block: Callable[[int, int, int, int], Scores | None],
    attributes: dict[str, Any],
    refined: npt.NDArray[np.bool_] | None = None,
) -> None:
    """Write a heatmap block by block; memory does not depend on its size.

    Parameters
    ----------
    path
        Where to.
    geometry
        Lattice of the slide.
    scores_of_block
        Gives the scores of rows and columns ``[row, row + n) x [column, column + m)``, called
        with (row, column, n, m); None where all of them are NaN.
    attributes
        More attributes of the file (slide, model, spacing).
    refined
        (cell rows, cell columns) False where an adaptive run has scored a cell coarsely.
    """
    with open_for_writing(path, KIND, VERSION) as file:
        size = (geometry.width_px * geometry.scale_x, geometry.height_px * geometry.scale_y)
        file.attrs["slide_size_px"] = size
        file.attrs.update(attributes)
        if refined is not None:
            file.create_dataset("refined", data=refined)
        origin = np.array([geometry.x.origin_px, geometry.y.origin_px])
        step = np.array([geometry.x.step_px, geometry.y.step_px])
        file.attrs["origin_px"], file.attrs["step_px"] = origin, step
        file.attrs["stride_px"] = geometry.stride_px
        levels = [_create_level(file, 0, geometry.shape, origin, step)]
        while max(levels[-1].shape) > COARSEST:
            origin, step = origin + step / 2, step * 2
            shape = tuple(-(-n // 2) for n in levels[-1].shape)
            levels.append(_create_level(file, len(levels), shape, origin, step))
        file.attrs["n_levels"] = len(levels)
        _Pyramid(levels, scores_of_block).write()


def _create_level(
    file: h5py.File,
    number: int,
    shape: tuple[int, ...],
    origin: npt.NDArray[np.float64],
    step: npt.NDArray[np.float64],
) -> h5py.Dataset:
    level = file.create_dataset(
        f"levels/{number}",
        shape,
        np.float32,
        chunks=tuple(min(CHUNK, n) for n in shape),
        fillvalue=np.nan,
        **COMPRESSED,
    )
    level.attrs["origin_px"], level.attrs["step_px"] = origin, step
    return level


class _Pyramid:
    """Writes all levels at once: a block as soon as the four finer ones below it are known.

    Another thread writes it while the next one is put together.
    """

    def __init__(
        self,
        levels: Sequence[h5py.Dataset],
        scores_of_block: Callable[[int, int, int, int], Scores | None],
    ) -> None:
        self._levels = levels
        self._scores_of_block = scores_of_block
        self._writer = ThreadPoolExecutor(1)
        self._unwritten: deque[Future[None]] = deque()

    def write(self) -> None:
        """Write all blocks."""
        rows, columns = self._levels[-1].shape
        with self._writer:
            for row, column in product(range(0, rows, BLOCK), range(0, columns, BLOCK)):
                self._block(len(self._levels) - 1, row, column)
            self._wait(0)

    def _wait(self, unwritten: int) -> None:
        """Wait until no more blocks than that are unwritten; raises what writing raised."""
        while len(self._unwritten) > unwritten:
            self._unwritten.popleft().result()

    def _block(self, level: int, row: int, column: int) -> Scores | None:
        """Write the block of a level that begins at a sample, and all below; None if all NaN."""
        rows, columns = self._levels[level].shape
        n, m = min(BLOCK, rows - row), min(BLOCK, columns - column)
        if level == 0:
            scores = self._scores_of_block(row, column, n, m)
        else:
            scores = self._from_finer(level, row, column, n, m)
        if scores is not None:
            task = self._writer.submit(self._write_chunks, self._levels[level], row, column, scores)
            self._unwritten.append(task)
            self._wait(_UNWRITTEN)
        return scores

    def _from_finer(self, level: int, row: int, column: int, n: int, m: int) -> Scores | None:
        scores = None
        half = BLOCK // 2
        for top, left in product(range(0, n, half), range(0, m, half)):
            finer = self._block(level - 1, 2 * (row + top), 2 * (column + left))
            if finer is None:
                continue
            if scores is None:
                scores = np.full((n, m), np.nan, np.float32)
            scores[top : top + half, left : left + half] = halve(finer)
        return scores

    @staticmethod
    def _write_chunks(level: h5py.Dataset, row: int, column: int, scores: Scores) -> None:
        """Write a block. Chunks without a score are left out of the file; they read as NaN."""
        height, width = level.chunks
        for top, left in product(*map(range, (0, 0), scores.shape, level.chunks)):
            chunk = scores[top : top + height, left : left + width]
            if not np.isnan(chunk).all():
                write_chunk(level, (row + top, column + left), chunk)


def halve(scores: Scores) -> Scores:
    """Mean of the scored samples in 2 x 2; NaN where none is."""
    rows, columns = scores.shape
    if rows % 2 or columns % 2:
        scores = np.pad(scores, ((0, rows % 2), (0, columns % 2)), constant_values=np.nan)
    pairs = scores[::2].astype(np.float64)
    pairs += scores[1::2]
    halved: Scores = ((pairs[:, ::2] + pairs[:, 1::2]) / 4).astype(np.float32)
    # A sum is NaN where one of the four is.
    some = np.isnan(halved)
    if some.any():
        corners = [scores[i::2, j::2][some] for i in (0, 1) for j in (0, 1)]
        values = np.array(corners, np.float64)
        scored = ~np.isnan(values)
        with np.errstate(invalid="ignore"):
            mean = values.sum(axis=0, where=scored) / scored.sum(axis=0)
        halved[some] = mean
    return halved


class _Level:
    """A level as dask wants it; keeps its heatmap, and so the file, open while it is used."""

    def __init__(self, heatmap: Heatmap, level: int) -> None:
        self._heatmap = heatmap
        self._dataset = heatmap.dataset(level)
        self.shape: tuple[int, int] = self._dataset.shape
        self.dtype = self._dataset.dtype
        self.chunks: tuple[int, int] = self._dataset.chunks
        self.ndim = 2

    def __getitem__(self, key: Any) -> Any:
        return self._dataset[key]


class ScoreMap(Protocol):
    """Scores on a lattice, wherever they are kept."""

    @property
    def origin_px(self) -> tuple[float, float]:
        """Position of sample (0, 0), (x, y), level-0 pixels."""

    @property
    def step_px(self) -> tuple[float, float]:
        """Distance of samples, (x, y), level-0 pixels."""

    def dataset(self) -> Any:
        """The scores (rows, columns) as an array, or an HDF5 dataset."""


class Heatmap:
    """The scores of a slide on its lattice, read lazily. Close it, or use it in a `with` block.

    Parameters
    ----------
    path
        ``heatmap.h5`` of a run.

    Raises
    ------
    FormatError
        The file is missing or damaged.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._context = open_for_reading(self.path, KIND, VERSION)
        self._file = self._context.__enter__()
        attributes = self._file.attrs
        self.slide_path = str(attributes.get("slide_path", ""))
        self.origin_px: tuple[float, float] = tuple(map(float, attributes["origin_px"]))  # type: ignore[assignment]
        self.step_px: tuple[float, float] = tuple(map(float, attributes["step_px"]))  # type: ignore[assignment]

    @property
    def attributes(self) -> dict[str, Any]:
        """All attributes of the file: slide, spacing, stride, model."""
        return dict(self._file.attrs)

    @cached_property
    def levels(self) -> list[Any]:
        """The pyramid as dask arrays, finest first."""
        import dask.array as da

        levels = [_Level(self, level) for level in range(self.n_levels)]
        return [da.from_array(level, chunks=level.chunks, name=False) for level in levels]

    @property
    def scores(self) -> Any:
        """The finest level as a dask array, float32 (rows, columns), NaN off tissue."""
        return self.levels[0]

    @property
    def n_levels(self) -> int:
        """Number of levels of the pyramid."""
        return int(self._file.attrs["n_levels"])

    @property
    def refined(self) -> npt.NDArray[np.bool_] | None:
        """Of an adaptive run: (cell rows, cell columns), True where a cell was scored at the run's
        stride. None for a run without an adaptive stride, whose every score is the model's own.
        """
        return np.asarray(self._file["refined"]) if "refined" in self._file else None

    def dataset(self, level: int = 0) -> h5py.Dataset:
        """A level as the HDF5 dataset itself."""
        return self._file[f"levels/{level}"]

    def placement_px(self, level: int = 0) -> tuple[tuple[float, float], tuple[float, float]]:
        """Origin and step of a level, (x, y) each, level-0 pixels."""
        attributes = self.dataset(level).attrs
        origin, step = attributes["origin_px"], attributes["step_px"]
        return (float(origin[0]), float(origin[1])), (float(step[0]), float(step[1]))

    def at(self, x_px: float, y_px: float) -> float:
        """Score nearest to a level-0 position; NaN off tissue and outside of the slide."""
        width_px, height_px = self._file.attrs["slide_size_px"]
        if not (-0.5 <= x_px < width_px - 0.5 and -0.5 <= y_px < height_px - 0.5):
            return float("nan")
        rows, columns = self.dataset().shape
        # The slide goes on for up to a step beyond the outermost samples.
        column = min(max(round((x_px - self.origin_px[0]) / self.step_px[0]), 0), columns - 1)
        row = min(max(round((y_px - self.origin_px[1]) / self.step_px[1]), 0), rows - 1)
        return float(self.dataset()[row, column])

    @property
    def closed(self) -> bool:
        """Whether the file was closed."""
        return not self._file

    def close(self) -> None:
        """Close the file."""
        self._context.__exit__(None, None, None)

    def __enter__(self) -> Heatmap:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        if self.closed:
            return f"Heatmap({str(self.path)!r}, closed)"
        rows, columns = self.dataset().shape
        return f"Heatmap({str(self.path)!r}, {rows} x {columns}, step {self.step_px} px)"
