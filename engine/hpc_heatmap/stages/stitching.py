"""Last layer: from the scores of a slide's cells to its heatmap."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hpc_heatmap.formats.heatmap import write_heatmap
from hpc_heatmap.formats.score_file import GroupScores, SlideScores
from hpc_heatmap.geometry import Axis, Geometry

__all__ = ["stitch"]

#: Scores are read in pieces of about this size, of cells that follow each other in their file.
_PIECE_BYTES = 2**20
#: Pieces that are kept while neighbouring blocks are stitched.
_PIECES_IN_MEMORY = 32


def stitch(
    path: Path,
    geometry: Geometry,
    scores: SlideScores | GroupScores,
    attributes: dict[str, Any],
    go_on: Callable[[], None] = lambda: None,
) -> None:
    """Write the heatmap of a slide from the scores of its cells, block by block.

    Parameters
    ----------
    path
        Where to.
    geometry
        Lattice of the slide.
    scores
        Of all cells that are to have some, in any order; neighbours best lie close together.
    attributes
        More attributes of the heatmap.
    go_on
        Called for each block; it raises where the work is to stop.
    """
    grid = (geometry.y.n_cells, geometry.x.n_cells)
    at = tuple(scores.cells.T)
    height, width = geometry.block_shape
    all_rows, all_columns = _places(geometry.y), _places(geometry.x)
    number_of = np.full(grid, -1, np.int32)
    number_of[at] = np.arange(len(at[0]))
    cells_per_piece = max(1, _PIECE_BYTES // (4 * height * width))

    @lru_cache(_PIECES_IN_MEMORY)
    def piece(index: int) -> npt.NDArray[np.float32]:
        found: npt.NDArray[np.float32] = scores.scores[
            index * cells_per_piece : (index + 1) * cells_per_piece
        ]
        return found

    def block(row: int, column: int, n: int, m: int) -> npt.NDArray[np.float32] | None:
        go_on()
        rows, columns = all_rows[row : row + n], all_columns[column : column + m]
        top, left = int(rows[0]) // height, int(columns[0]) // width
        numbers = number_of[top : rows[-1] // height + 1, left : columns[-1] // width + 1]
        if (numbers < 0).all():
            return None
        n_rows, n_columns = numbers.shape
        values = np.full((n_rows, height, n_columns, width), np.nan, np.float32)
        pieces = numbers // cells_per_piece
        for index in np.unique(pieces[numbers >= 0]).tolist():
            i, j = np.nonzero(pieces == index)
            values[i, :, j] = piece(index)[numbers[i, j] - index * cells_per_piece]
        flat = values.reshape(n_rows * height, n_columns * width)
        return flat[_slice(rows - top * height)][:, _slice(columns - left * width)]

    refined = None
    if scores.refined is not None:
        refined = np.zeros(grid, bool)
        refined[at] = scores.refined
    write_heatmap(path, geometry, block, attributes, refined)


def _places(axis: Axis) -> npt.NDArray[np.intp]:
    """Place of each lattice point of an axis, where all cells have room for as many points."""
    points = [np.arange(len(axis.points_of(cell))) for cell in range(axis.n_cells)]
    return np.concatenate([cell * axis.points_per_cell + mine for cell, mine in enumerate(points)])


def _slice(places: npt.NDArray[np.intp]) -> slice | npt.NDArray[np.intp]:
    """The same places, as a slice where they have no gaps: it takes no copy."""
    first, end = int(places[0]), int(places[-1]) + 1
    return slice(first, end) if end - first == len(places) else places
