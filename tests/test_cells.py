"""Tissue cells and their groups."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hpc_heatmap.cells import compact_groups, tabulate_cells
from hpc_heatmap.formats.group_file import GroupHeader, tiles_of

masks = arrays(bool, st.tuples(st.integers(1, 25), st.integers(1, 25)))


def header(window=224):
    return GroupHeader(
        "s", "s.tiff", 100_000, 100_000, window, 2 * window, window // 2,
        1.0, 1.0, 0.25, 0.25, 1, 1, 1, "tiles",
    )  # fmt: skip


def stored_share(groups):
    """Bytes of layout tiles in those of the paper's layout."""
    tiles = sum(len(tiles_of(members, header())) for members in groups) * 112**2
    return tiles / (sum(len(members) for members in groups) * 448**2)


@given(masks, st.integers(1, 40))
def test_groups_cover_each_cell_once_and_are_full(mask, n_p):
    cells = np.argwhere(mask).astype(np.int32)
    groups = compact_groups(cells, n_p)
    assert len(groups) == -(-len(cells) // n_p)
    together = [tuple(cell) for members in groups for cell in members.tolist()]
    assert sorted(together) == sorted(map(tuple, cells.tolist()))
    sizes = sorted((len(members) for members in groups), reverse=True)
    assert all(size == n_p for size in sizes[:-1])
    for members in groups:
        assert members.tolist() == sorted(members.tolist())


def test_a_block_of_cells_is_stored_in_less_than_a_third_of_the_papers_bytes():
    cells = np.argwhere(np.ones((40, 40))).astype(np.int32)
    share = stored_share(compact_groups(cells, 400))
    print(f"\n40 x 40 cells in groups of 400: {share:.4f} of the paper's bytes")
    assert share < 0.30


@pytest.mark.parametrize("n_p", [16, 50, 64, 100])
def test_groups_of_a_round_piece_of_tissue_are_compact(n_p):
    rows, columns = np.mgrid[:60, :60]
    cells = np.argwhere(np.hypot(rows - 30, columns - 30) < 28).astype(np.int32)
    groups = compact_groups(cells, n_p)
    ideal = (2 * np.sqrt(n_p) + 2) ** 2 * 112**2 / (n_p * 448**2)
    assert stored_share(groups) < 1.25 * ideal


@given(masks, st.integers(1, 40))
def test_the_table_is_the_bounding_box_of_the_tissue(mask, n_p):
    table = tabulate_cells(mask.astype(float), 0.05, n_p)
    assert table.n_patches == mask.sum()
    if not mask.any():
        assert (len(table.cells), table.n_groups) == (0, 0)
        return
    rows, columns = np.nonzero(mask)
    box = np.mgrid[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    assert table.cells.tolist() == box.reshape(2, -1).T.tolist()
    assert table.tissue.tolist() == mask[tuple(table.cells.T)].tolist()
    assert table.n_groups == -(-mask.sum() // n_p)
    assert sorted(set(table.group[table.tissue].tolist())) == list(range(table.n_groups))


def test_a_tissue_cell_needs_the_smallest_share_and_some_tissue():
    fractions = np.array([[0.0, 0.04, 0.05, 1.0]])
    assert tabulate_cells(fractions, 0.05, 1).tissue.tolist() == [True, True]
    assert tabulate_cells(fractions, 0.0, 1).n_patches == 3
