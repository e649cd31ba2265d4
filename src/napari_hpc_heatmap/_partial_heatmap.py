"""The heatmap of a slide whose scoring goes on: what is there so far, in memory, as a pyramid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hpc_heatmap.formats.heatmap import CHUNK, COARSEST, halve
from hpc_heatmap.formats.score_file import GroupScores
from hpc_heatmap.geometry import Geometry

__all__ = ["PartialHeatmap"]

Scores = npt.NDArray[np.float32]


class _SparseLevel:
    """Samples in squares that exist from their first score on; an array-like for napari."""

    ndim = 2
    dtype = np.dtype(np.float32)

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape = shape
        self.size = shape[0] * shape[1]
        self.chunks = (min(CHUNK, shape[0]), min(CHUNK, shape[1]))
        self.squares: dict[tuple[int, int], Scores] = {}

    def square(self, place: tuple[int, int]) -> Scores:
        """A square to write to."""
        if place not in self.squares:
            self.squares[place] = np.full((CHUNK, CHUNK), np.nan, np.float32)
        return self.squares[place]

    def write(self, row: int, column: int, scores: Scores) -> set[tuple[int, int]]:
        """Write a block; gives the squares that it touches."""
        n, m = scores.shape
        touched = set()
        for i in range(row // CHUNK, (row + n - 1) // CHUNK + 1):
            for j in range(column // CHUNK, (column + m - 1) // CHUNK + 1):
                top, left = max(row, i * CHUNK), max(column, j * CHUNK)
                bottom, right = min(row + n, (i + 1) * CHUNK), min(column + m, (j + 1) * CHUNK)
                self.square((i, j))[
                    top - i * CHUNK : bottom - i * CHUNK, left - j * CHUNK : right - j * CHUNK
                ] = scores[top - row : bottom - row, left - column : right - column]
                touched.add((i, j))
        return touched

    def __getitem__(self, key: Any) -> Any:
        keys = key if isinstance(key, tuple) else (key,)
        keys += (slice(None),) * (2 - len(keys))
        starts: list[int] = []
        stops: list[int] = []
        inside: list[int | slice] = []
        for item, n in zip(keys, self.shape, strict=True):
            if isinstance(item, slice):
                start, stop, step = item.indices(n)
                inside.append(slice(None, None, step))
            else:
                start = range(n)[item]
                stop = start + 1
                inside.append(0)
            starts.append(start)
            stops.append(max(start, stop))
        values = np.full((stops[0] - starts[0], stops[1] - starts[1]), np.nan, np.float32)
        for i in range(starts[0] // CHUNK, -(-stops[0] // CHUNK)):
            for j in range(starts[1] // CHUNK, -(-stops[1] // CHUNK)):
                square = self.squares.get((i, j))
                if square is None:
                    continue
                top, left = max(starts[0], i * CHUNK), max(starts[1], j * CHUNK)
                bottom, right = min(stops[0], (i + 1) * CHUNK), min(stops[1], (j + 1) * CHUNK)
                values[
                    top - starts[0] : bottom - starts[0], left - starts[1] : right - starts[1]
                ] = square[
                    top - i * CHUNK : bottom - i * CHUNK, left - j * CHUNK : right - j * CHUNK
                ]
        return values[tuple(inside)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.asarray(self[:], dtype=dtype)

    def __len__(self) -> int:
        return self.shape[0]


class PartialHeatmap:
    """Scores so far, with the levels, places and values that the finished heatmap will have.

    One thread may add while others read.

    Parameters
    ----------
    geometry
        Lattice of the slide.
    slide_path
        The slide.
    """

    def __init__(self, geometry: Geometry, slide_path: Path) -> None:
        self.geometry = geometry
        self.slide_path = str(slide_path)
        self.origin_px = (geometry.x.origin_px, geometry.y.origin_px)
        self.step_px = (geometry.x.step_px, geometry.y.step_px)
        shape = geometry.shape
        self._levels = [_SparseLevel(shape)]
        while max(shape) > COARSEST:
            shape = (-(-shape[0] // 2), -(-shape[1] // 2))
            self._levels.append(_SparseLevel(shape))

    @property
    def n_levels(self) -> int:
        """Number of levels of the pyramid."""
        return len(self._levels)

    def dataset(self, level: int = 0) -> _SparseLevel:
        """A level as an array-like, float32 (rows, columns), NaN where there is no score."""
        return self._levels[level]

    def add(self, group: GroupScores) -> None:
        """Put the scores of a group in their places."""
        touched: set[tuple[int, int]] = set()
        for (row, column), scores in zip(group.cells.tolist(), group.scores, strict=True):
            y, x = self.geometry.y.points_of(row), self.geometry.x.points_of(column)
            if y and x:
                block = scores[: len(y), : len(x)]
                touched |= self._levels[0].write(y.start, x.start, block)
        half = CHUNK // 2
        for finer, coarser in zip(self._levels, self._levels[1:], strict=False):
            for i, j in touched:
                quarter = np.s_[i % 2 * half :, j % 2 * half :]
                coarser.square((i // 2, j // 2))[quarter][:half, :half] = halve(
                    finer.square((i, j))
                )
            touched = {(i // 2, j // 2) for i, j in touched}

    def at(self, x_px: float, y_px: float) -> float:
        """Score nearest to a level-0 position; NaN where there is none (yet)."""
        rows, columns = self._levels[0].shape
        column = round((x_px - self.origin_px[0]) / self.step_px[0])
        row = round((y_px - self.origin_px[1]) / self.step_px[1])
        if not (-1 <= row <= rows and -1 <= column <= columns):
            return float("nan")
        row, column = min(max(row, 0), rows - 1), min(max(column, 0), columns - 1)
        return float(self._levels[0][row, column])
