"""Which cells a slide has, and how they are gathered into groups."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["CellTable", "compact_groups", "tabulate_cells", "tissue_cells"]

Cells = npt.NDArray[np.int32]


@dataclass(frozen=True)
class CellTable:
    """Every cell of the tissue bounding box (the paper's lookup table of one slide).

    Attributes
    ----------
    cells
        (n, 2) row and column, in reading order.
    fraction
        (n,) share of each cell that is tissue.
    group
        (n,) group of each tissue cell, -1 for background.
    """

    cells: Cells
    fraction: npt.NDArray[np.float32]
    group: npt.NDArray[np.int32]

    @property
    def tissue(self) -> npt.NDArray[np.bool_]:
        """(n,) whether the cell is tissue."""
        return self.group >= 0

    @property
    def n_groups(self) -> int:
        """Number of groups."""
        return int(self.group.max()) + 1 if len(self.group) else 0

    @property
    def n_patches(self) -> int:
        """Number of tissue cells, T_p."""
        return int(self.tissue.sum())

    def first_groups(self, n_groups: int) -> CellTable:
        """The table with the first groups alone; the cells of the others become background."""
        group = np.where(self.group < n_groups, self.group, -1).astype(np.int32)
        return CellTable(self.cells, self.fraction, group)


def tissue_cells(
    fractions: npt.NDArray[np.float64], min_tissue_fraction: float
) -> npt.NDArray[np.bool_]:
    """Which cells are tissue cells: a cell without any tissue never is one.

    Parameters
    ----------
    fractions
        (rows, columns) share of each cell of the slide that is tissue.
    min_tissue_fraction
        Smallest share that makes a tissue cell.
    """
    return (fractions >= min_tissue_fraction) & (fractions > 0)


def tabulate_cells(
    fractions: npt.NDArray[np.float64], min_tissue_fraction: float, n_p: int
) -> CellTable:
    """Table of the cells in the bounding box of the tissue.

    Parameters
    ----------
    fractions
        (rows, columns) share of each cell of the slide that is tissue.
    min_tissue_fraction
        Smallest share that makes a tissue cell.
    n_p
        Largest number of patches in a group.
    """
    tissue = tissue_cells(fractions, min_tissue_fraction)
    rows, columns = np.nonzero(tissue)
    if not len(rows):
        empty = np.empty(0, np.int32)
        return CellTable(np.empty((0, 2), np.int32), empty.astype(np.float32), empty)
    group = np.full(fractions.shape, -1, np.int32)
    selected = np.stack([rows, columns], axis=1).astype(np.int32)
    for index, members in enumerate(compact_groups(selected, n_p)):
        group[members[:, 0], members[:, 1]] = index
    box = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    cells = np.argwhere(np.ones_like(tissue[box])) + np.array([rows.min(), columns.min()])
    return CellTable(
        cells.astype(np.int32), fractions[box].astype(np.float32).ravel(), group[box].ravel()
    )


def compact_groups(cells: Cells, n_p: int) -> list[Cells]:
    """Cut cells into ceil(n / n_p) groups of neighbours, all but the last of them full.

    The cells are halved along their longer side, again and again, always at a multiple of `n_p`.

    Parameters
    ----------
    cells
        (n, 2) row and column.
    n_p
        Largest number of cells in a group.

    Returns
    -------
    list of (m, 2) arrays
        The groups; within a group cells are in reading order.
    """
    n_groups = -(-len(cells) // n_p)
    if n_groups <= 1:
        return [cells[np.lexsort((cells[:, 1], cells[:, 0]))]] if n_groups else []
    extent = cells.max(axis=0) - cells.min(axis=0)
    longer = int(extent[1] > extent[0])
    ordered = cells[np.lexsort((cells[:, 1 - longer], cells[:, longer]))]
    cut = n_groups // 2 * n_p
    return compact_groups(ordered[:cut], n_p) + compact_groups(ordered[cut:], n_p)
