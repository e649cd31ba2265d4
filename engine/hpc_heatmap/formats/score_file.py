"""Scores: a file a group while a slide is scored, ``scores/NNNNNN.h5``, then one, ``scores.h5``.

So a group that is complete is seen from a name, and a finished run has one file a slide, however
many groups there were.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from hpc_heatmap.cells import Cells
from hpc_heatmap.errors import FormatError
from hpc_heatmap.formats.hdf5 import open_for_reading, open_for_writing
from hpc_heatmap.formats.paths import SlidePaths

__all__ = [
    "GroupScores",
    "SlideScores",
    "has_scores",
    "open_scores",
    "pack_scores",
    "read_scores",
    "remove_packed",
    "write_scores",
]

KIND = "hpc-heatmap scores"
SLIDE_KIND = "hpc-heatmap scores of a slide"
VERSION = 1


@dataclass(frozen=True)
class GroupScores:
    """Scores of one group.

    Attributes
    ----------
    cells
        (n, 2) row and column.
    scores
        (n, rows, columns) float32: the lattice points of each cell in lattice order. NaN where a
        cell has fewer points than the largest, and for patches that could not be read.
    readable
        (n,) False for patches that could not be read.
    refined
        (n,) False for cells that were scored at the coarse stride alone; None without an adaptive
        stride.
    raw_patches
        Patches whose stain was to be normalised and could not be: scored in their raw colours.
    """

    cells: Cells
    scores: npt.NDArray[np.float32]
    readable: npt.NDArray[np.bool_]
    raw_patches: int = 0
    refined: npt.NDArray[np.bool_] | None = None


def write_scores(path: Path, scores: GroupScores) -> None:
    """Write the scores of a group."""
    with open_for_writing(path, KIND, VERSION) as file:
        file.create_dataset("cells", data=scores.cells)
        file.create_dataset("scores", data=scores.scores)
        file.create_dataset("readable", data=scores.readable)
        if scores.refined is not None:
            file.create_dataset("refined", data=scores.refined)
        file.attrs["raw_patches"] = scores.raw_patches


def read_scores(path: Path) -> GroupScores:
    """Read the scores of a group.

    Raises
    ------
    FormatError
        The file is missing or damaged.
    """
    with open_for_reading(path, KIND, VERSION) as file:
        return GroupScores(
            file["cells"][()],
            file["scores"][()],
            file["readable"][()],
            # Files of before stains were normalised have none.
            int(file.attrs.get("raw_patches", 0)),
            file["refined"][()] if "refined" in file else None,
        )


def has_scores(files: SlidePaths, group: int) -> bool:
    """Whether a group is scored."""
    return files.group_scores(group).exists() or files.slide_scores.exists()


def pack_scores(files: SlidePaths, n_groups: int, n_cells: int) -> int:
    """Write the scores of all groups of a slide into one file; gives the bytes that were read.

    The groups' own files stay until :func:`remove_packed`. Where the one file is there already,
    nothing is done.

    Parameters
    ----------
    files
        The slide's.
    n_groups, n_cells
        Its groups, and the tissue cells of all of them.

    Raises
    ------
    FormatError
        A group's file is missing or damaged.
    StorageError
        The file cannot be written.
    """
    if files.slide_scores.exists():
        return 0
    bytes_read, stop = 0, 0
    start, raw = [0], []
    with open_for_writing(files.slide_scores, SLIDE_KIND, VERSION) as file:
        for path in map(files.group_scores, range(n_groups)):
            scores = read_scores(path)
            if not stop:
                datasets = _create_datasets(file, n_cells, scores)
            mine = slice(stop, stop := stop + len(scores.cells))
            if stop > n_cells:
                break
            for name, dataset in datasets.items():
                dataset[mine] = getattr(scores, name)
            start.append(stop)
            raw.append(scores.raw_patches)
            bytes_read += path.stat().st_size
        if stop != n_cells:
            raise FormatError(
                f"{files.scores} has scores of other cells than the slide's {n_cells}: delete it "
                "and `hpc-heatmap resume` the run."
            )
        file.create_dataset("group_start", data=np.array(start, np.int64))
        file.create_dataset("raw_patches", data=np.array(raw, np.int32))
    return bytes_read


def _create_datasets(file: h5py.File, n_cells: int, like: GroupScores) -> dict[str, h5py.Dataset]:
    """Room for the scores of all cells of a slide, by the names of what its groups have."""
    values = {name: getattr(like, name) for name in ("cells", "scores", "readable", "refined")}
    return {
        name: file.create_dataset(name, (n_cells, *array.shape[1:]), array.dtype)
        for name, array in values.items()
        if array is not None
    }


def remove_packed(files: SlidePaths) -> None:
    """Delete the groups' own files of a slide whose scores are in one file."""
    if files.slide_scores.exists():
        shutil.rmtree(files.scores, ignore_errors=True)


class SlideScores:
    """The scores of a slide in one file, open for reading.

    Attributes
    ----------
    scores
        (n, rows, columns) of all cells, as an HDF5 dataset; see :class:`GroupScores`.
    raw_patches
        (groups,) of each group.
    """

    def __init__(self, file: h5py.File) -> None:
        self._file = file
        self._start = file["group_start"][()]
        self.scores: h5py.Dataset = file["scores"]
        self.raw_patches: npt.NDArray[np.int32] = file["raw_patches"][()]

    @property
    def cells(self) -> Cells:
        """(n, 2) row and column of all cells, those of a group one after another."""
        cells: Cells = self._file["cells"][()]
        return cells

    @property
    def refined(self) -> npt.NDArray[np.bool_] | None:
        """(n,) False for cells that were scored at the coarse stride alone; None as in a group."""
        return self._file["refined"][()] if "refined" in self._file else None

    def group(self, group: int) -> GroupScores:
        """Read the scores of a group."""
        mine = slice(self._start[group], self._start[group + 1])
        file = self._file
        return GroupScores(
            file["cells"][mine],
            self.scores[mine],
            file["readable"][mine],
            int(self.raw_patches[group]),
            file["refined"][mine] if "refined" in file else None,
        )


@contextmanager
def open_scores(path: Path) -> Iterator[SlideScores]:
    """Open the scores of a slide.

    Raises
    ------
    FormatError
        The file is missing or damaged.
    """
    with open_for_reading(path, SLIDE_KIND, VERSION) as file:
        yield SlideScores(file)
