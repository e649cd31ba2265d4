"""Last layer: from the scores of a slide's groups to its heatmap."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hpc_heatmap.cells import CellTable
from hpc_heatmap.formats.heatmap import write_heatmap
from hpc_heatmap.formats.score_file import GroupScores, read_scores
from hpc_heatmap.geometry import Axis, Geometry

__all__ = ["stitch"]

#: Scores that are kept in memory while neighbouring blocks are stitched.
_BYTES_IN_MEMORY = 2**25


def stitch(
    path: Path,
    geometry: Geometry,
    table: CellTable,
    score_path: Callable[[int], Path],
    attributes: dict[str, Any],
    go_on: Callable[[], None] = lambda: None,
) -> None:
    """Write the heatmap of a slide from its score files, block by block.

    Parameters
    ----------
    path
        Where to.
    geometry
        Lattice of the slide.
    table
        Cells and their groups.
    score_path
        Where the scores of a group are.
    attributes
        More attributes of the heatmap.
    go_on
        Called for each block; it raises where the work is to stop.

    Raises
    ------
    FormatError
        A score file is missing or damaged.
    """
    group_of = np.full((geometry.y.n_cells, geometry.x.n_cells), -1, np.int32)
    group_of[tuple(table.cells.T)] = table.group
    largest_group = int(np.bincount(table.group[table.tissue]).max(initial=1))
    group_bytes = 4 * math.prod(geometry.block_shape) * largest_group

    @lru_cache(maxsize=max(2, _BYTES_IN_MEMORY // group_bytes))
    def group(index: int) -> tuple[GroupScores, dict[tuple[int, int], int]]:
        scores = read_scores(score_path(index))
        return scores, {(r, c): k for k, (r, c) in enumerate(scores.cells.tolist())}

    def block(row: int, column: int, n: int, m: int) -> npt.NDArray[np.float32] | None:
        go_on()
        rows, columns = _cells_of(geometry.y, row, n), _cells_of(geometry.x, column, m)
        groups_here = group_of[rows.start : rows.stop, columns.start : columns.stop]
        if not (groups_here >= 0).any():
            return None
        values = np.full((n, m), np.nan, np.float32)
        for i, j in np.argwhere(groups_here >= 0).tolist():
            scores, number = group(int(groups_here[i, j]))
            cell = (rows.start + i, columns.start + j)
            y, x = geometry.y.points_of(cell[0]), geometry.x.points_of(cell[1])
            y0, y1 = max(y.start, row), min(y.stop, row + n)
            x0, x1 = max(x.start, column), min(x.stop, column + m)
            values[y0 - row : y1 - row, x0 - column : x1 - column] = scores.scores[
                number[cell], y0 - y.start : y1 - y.start, x0 - x.start : x1 - x.start
            ]
        return values

    write_heatmap(path, geometry, block, attributes, _refined(geometry, table, score_path))


def _refined(
    geometry: Geometry, table: CellTable, score_path: Callable[[int], Path]
) -> npt.NDArray[np.bool_] | None:
    """Which cells an adaptive run has scored at its own stride; None for another run."""
    refined = np.zeros((geometry.y.n_cells, geometry.x.n_cells), bool)
    for index in range(table.n_groups):
        scores = read_scores(score_path(index))
        if scores.refined is None:
            return None
        refined[tuple(scores.cells.T)] = scores.refined
    return refined if table.n_groups else None


def _cells_of(axis: Axis, start: int, n: int) -> range:
    """Cells that hold the lattice points ``[start, start + n)`` of an axis."""
    first = axis.position_px(start) // axis.window_px
    return range(first, axis.position_px(start + n - 1) // axis.window_px + 1)
