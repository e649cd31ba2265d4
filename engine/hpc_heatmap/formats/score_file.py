"""Scores of one group, ``scores/NNNNNN.h5``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hpc_heatmap.cells import Cells
from hpc_heatmap.formats.hdf5 import open_for_reading, open_for_writing

__all__ = ["GroupScores", "read_scores", "write_scores"]

KIND = "hpc-heatmap scores"
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
