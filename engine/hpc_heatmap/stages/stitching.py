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
from hpc_heatmap.formats.score_file import GroupScores
from hpc_heatmap.geometry import Axis, Geometry

__all__ = ["stitch"]

#: Scores that are kept in memory while neighbouring blocks are stitched.
_BYTES_IN_MEMORY = 2**25


def stitch(
    path: Path,
    geometry: Geometry,
    table: CellTable,
    scores_of: Callable[[int], GroupScores],
    attributes: dict[str, Any],
    go_on: Callable[[], None] = lambda: None,
    *,
    adaptive: bool = False,
) -> None:
    """Write the heatmap of a slide from the scores of its groups, block by block.

    Parameters
    ----------
    path
        Where to.
    geometry
        Lattice of the slide.
    table
        Cells and their groups.
    scores_of
        Gives the scores of a group.
    attributes
        More attributes of the heatmap.
    go_on
        Called for each block; it raises where the work is to stop.
    adaptive
        Whether the scores say which cells were scored coarsely.

    Raises
    ------
    FormatError
        A score file is missing or damaged.
    """
    group_of = np.full((geometry.y.n_cells, geometry.x.n_cells), -1, np.int32)
    group_of[tuple(table.cells.T)] = table.group
    largest_group = int(np.bincount(table.group[table.tissue]).max(initial=1))
    first_y, end_y = _points(geometry.y)
    first_x, end_x = _points(geometry.x)
    group_bytes = 4 * math.prod(geometry.block_shape) * largest_group
    down, across = (np.arange(count) for count in geometry.block_shape)

    @lru_cache(maxsize=max(2, _BYTES_IN_MEMORY // group_bytes))
    def group(index: int) -> GroupScores:
        return scores_of(index)

    def block(row: int, column: int, n: int, m: int) -> npt.NDArray[np.float32] | None:
        go_on()
        rows, columns = _cells_of(geometry.y, row, n), _cells_of(geometry.x, column, m)
        groups_here = group_of[rows.start : rows.stop, columns.start : columns.stop]
        if not (groups_here >= 0).any():
            return None
        # What lies outside of the block, or beyond a cell's last point, goes to a rim.
        values = np.full((n + 1, m + 1), np.nan, np.float32)
        for index in np.unique(groups_here[groups_here >= 0]).tolist():
            mine = group(index)
            i, j = mine.cells.T
            here = (i >= rows.start) & (i < rows.stop) & (j >= columns.start) & (j < columns.stop)
            i, j = i[here, None], j[here, None]
            y, x = first_y[i] + down, first_x[j] + across
            y = np.where((y >= row) & (y < np.minimum(end_y[i], row + n)), y - row, n)
            x = np.where((x >= column) & (x < np.minimum(end_x[j], column + m)), x - column, m)
            values[y[:, :, None], x[:, None, :]] = mine.scores[here]
        return values[:n, :m]

    refined = _refined(geometry, table, scores_of) if adaptive else None
    write_heatmap(path, geometry, block, attributes, refined)


def _refined(
    geometry: Geometry, table: CellTable, scores_of: Callable[[int], GroupScores]
) -> npt.NDArray[np.bool_]:
    """Which cells an adaptive run has scored at its own stride."""
    refined = np.zeros((geometry.y.n_cells, geometry.x.n_cells), bool)
    for index in range(table.n_groups):
        mine = scores_of(index)
        if mine.refined is not None:
            refined[tuple(mine.cells.T)] = mine.refined
    return refined


def _points(axis: Axis) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """First lattice point of each cell of an axis, and the one after its last."""
    points = [axis.points_of(cell) for cell in range(axis.n_cells)]
    return np.array([p.start for p in points]), np.array([p.stop for p in points])


def _cells_of(axis: Axis, start: int, n: int) -> range:
    """Cells that hold the lattice points ``[start, start + n)`` of an axis."""
    first = axis.position_px(start) // axis.window_px
    return range(first, axis.position_px(start + n - 1) // axis.window_px + 1)
