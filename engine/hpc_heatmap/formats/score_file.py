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
            np.asarray(file["cells"]),
            np.asarray(file["scores"]),
            np.asarray(file["readable"]),
            # Files of before stains were normalised have none.
            int(file.attrs.get("raw_patches", 0)),
            np.asarray(file["refined"]) if "refined" in file else None,
        )


def has_scores(files: SlidePaths, group: int) -> bool:
    """Whether a group is scored."""
    return files.group_scores(group).exists() or files.slide_scores.exists()


def pack_scores(files: SlidePaths, n_groups: int) -> int:
    """Write the scores of all groups of a slide into one file; gives the bytes that were read.

    The groups' own files stay until :func:`remove_packed`. Where the one file is there already,
    nothing is done.

    Raises
    ------
    FormatError
        A group's file is missing or damaged.
    StorageError
        The file cannot be written.
    """
    if files.slide_scores.exists():
        return 0
    each = [files.group_scores(group) for group in range(n_groups)]
    counts, shapes, adaptive = [], set(), False
    for path in each:
        with open_for_reading(path, KIND, VERSION) as file:
            counts.append(len(file["cells"]))
            shapes.add(file["scores"].shape[1:])
            adaptive |= "refined" in file
    start = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    n = int(start[-1])
    raw = np.zeros(n_groups, np.int32)
    with open_for_writing(files.slide_scores, SLIDE_KIND, VERSION) as file:
        cells = file.create_dataset("cells", (n, 2), np.int32)
        values = file.create_dataset("scores", (n, *shapes.pop()), np.float32)
        readable = file.create_dataset("readable", n, bool)
        refined = file.create_dataset("refined", n, bool) if adaptive else None
        for group, path in enumerate(each):
            scores = read_scores(path)
            mine = slice(start[group], start[group + 1])
            cells[mine], values[mine], readable[mine] = scores.cells, scores.scores, scores.readable
            if refined is not None:
                refined[mine] = scores.refined
            raw[group] = scores.raw_patches
        file.create_dataset("group_start", data=start)
        file.create_dataset("raw_patches", data=raw)
    return sum(path.stat().st_size for path in each)


def remove_packed(files: SlidePaths) -> None:
    """Delete the groups' own files of a slide whose scores are in one file."""
    if files.slide_scores.exists():
        shutil.rmtree(files.scores, ignore_errors=True)


class SlideScores:
    """The scores of a slide in one file, open for reading.

    Attributes
    ----------
    raw_patches
        (groups,) of each group, see :class:`GroupScores`.
    """

    def __init__(self, file: h5py.File) -> None:
        self._file = file
        self._start = np.asarray(file["group_start"])
        self.raw_patches: npt.NDArray[np.int32] = np.asarray(file["raw_patches"])

    def group(self, group: int) -> GroupScores:
        """Read the scores of a group."""
        mine = slice(self._start[group], self._start[group + 1])
        file = self._file
        return GroupScores(
            file["cells"][mine],
            file["scores"][mine],
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
