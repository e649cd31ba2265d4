"""Stitching restores a function of position from the scores of cells, however they are grouped."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpc_heatmap.formats.heatmap import Heatmap
from hpc_heatmap.formats.paths import SlidePaths
from hpc_heatmap.formats.score_file import GroupScores, open_scores, pack_scores, write_scores
from hpc_heatmap.geometry import Geometry
from hpc_heatmap.stages.stitching import stitch


def value_at(y, x):
    """A known function of position."""
    return (np.asarray(y) * 7919 + np.asarray(x) * 104729) % 9973 / 9973


def scores_of(geometry, cells):
    """What scoring would give for cells: each block from the positions of its points."""
    scores = np.full((len(cells), *geometry.block_shape), np.nan, np.float32)
    for number, (row, column) in enumerate(cells.tolist()):
        y = [geometry.y.position_px(i) for i in geometry.y.points_of(row)]
        x = [geometry.x.position_px(j) for j in geometry.x.points_of(column)]
        scores[number, : len(y), : len(x)] = value_at(np.array(y)[:, None], np.array(x)[None])
    return GroupScores(cells, scores, np.ones(len(cells), bool))


def stitched(geometry, group_of_cell, folder):
    """Stitch the scores of a grid of group numbers (-1 for background), one group after another."""
    rng = np.random.default_rng(0)
    groups = [np.argwhere(group_of_cell == k) for k in range(group_of_cell.max() + 1)]
    cells = np.concatenate([np.empty((0, 2), int), *map(rng.permutation, groups)])
    stitch(folder / "heatmap.h5", geometry, scores_of(geometry, cells.astype(np.int32)), {})
    with Heatmap(folder / "heatmap.h5") as heatmap:
        return heatmap.dataset()[:]


def expected_of(geometry, group_of_cell):
    """The function on the lattice of the definition, NaN in background cells."""
    half, stride, window = geometry.window_px // 2, geometry.stride_px, geometry.window_px
    y, x = (
        np.arange(half % stride, size, stride) for size in (geometry.height_px, geometry.width_px)
    )
    scored = group_of_cell[y // window][:, x // window] >= 0
    return np.where(scored, value_at(y[:, None], x[None]), np.nan).astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_split_of_cells_into_groups_restores_the_function(data):
    window = data.draw(st.integers(8, 40))
    stride = data.draw(st.integers(1, window))
    width, height = (data.draw(st.integers(2 * window, 6 * window)) for _ in "xy")
    geometry = Geometry(width, height, window, stride)
    shape = geometry.y.n_cells, geometry.x.n_cells
    seed = data.draw(st.integers(0, 2**32 - 1))
    group_of_cell = np.random.default_rng(seed).integers(-1, data.draw(st.integers(1, 6)), shape)
    with tempfile.TemporaryDirectory() as folder:
        found = stitched(geometry, group_of_cell, Path(folder))
    np.testing.assert_array_equal(found, expected_of(geometry, group_of_cell))


@pytest.mark.parametrize("piece_bytes", [1, 10_000, 2**20])
def test_a_heatmap_of_several_blocks(tmp_path, piece_bytes, monkeypatch):
    monkeypatch.setattr("hpc_heatmap.stages.stitching._PIECE_BYTES", piece_bytes)
    monkeypatch.setattr("hpc_heatmap.formats.heatmap.BLOCK", 64)
    monkeypatch.setattr("hpc_heatmap.formats.heatmap.CHUNK", 32)
    geometry = Geometry(1900, 2300, 224, 9)
    rows, columns = np.mgrid[: geometry.y.n_cells, : geometry.x.n_cells]
    group_of_cell = np.where((rows + columns) % 5 == 0, -1, (rows // 3) * 3 + columns // 4)
    found = stitched(geometry, group_of_cell, tmp_path)
    np.testing.assert_array_equal(found, expected_of(geometry, group_of_cell))


def test_unreadable_patches_have_no_score(tmp_path):
    geometry = Geometry(448, 448, 224, 64)
    cells = np.argwhere(np.ones((2, 2))).astype(np.int32)
    scores = scores_of(geometry, cells)
    scores.scores[2], scores.readable[2] = np.nan, False
    stitch(tmp_path / "h.h5", geometry, scores, {})
    with Heatmap(tmp_path / "h.h5") as heatmap:
        found = np.isnan(heatmap.dataset()[:])
    group_of_cell = np.array([[0, 0], [-1, 0]])
    np.testing.assert_array_equal(found, np.isnan(expected_of(geometry, group_of_cell)))


def test_scores_of_a_file_are_those_in_memory(tmp_path):
    geometry = Geometry(1900, 2300, 224, 64)
    group_of_cell = np.arange(11 * 9).reshape(11, 9) % 7 - 1
    files = SlidePaths(tmp_path)
    for group in range(6):
        cells = np.argwhere(group_of_cell == group).astype(np.int32)
        write_scores(files.group_scores(group), scores_of(geometry, cells))
    pack_scores(files, 6, int((group_of_cell >= 0).sum()))
    with open_scores(files.slide_scores) as scores:
        stitch(files.heatmap, geometry, scores, {})
    with Heatmap(files.heatmap) as heatmap:
        np.testing.assert_array_equal(heatmap.dataset()[:], expected_of(geometry, group_of_cell))


STITCH_ALONE = """
    import json, sys
    from pathlib import Path
    import numpy as np
    from hpc_heatmap.cells import tabulate_cells
    from hpc_heatmap.formats.paths import SlidePaths
    from hpc_heatmap.formats.score_file import (
        GroupScores, open_scores, pack_scores, write_scores
    )
    from hpc_heatmap.geometry import Geometry
    from hpc_heatmap.stages.stitching import stitch

    width, height, n_p, folder = *map(int, sys.argv[1:4]), Path(sys.argv[4])
    geometry = Geometry(width, height, 224, 16)
    table = tabulate_cells(np.ones((geometry.y.n_cells, geometry.x.n_cells)), 0.05, n_p)
    files = SlidePaths(folder)
    members = [table.cells[table.group == index] for index in range(table.n_groups)]
    block = np.tile(np.linspace(0, 1, 14, dtype=np.float32), (1, 14, 1))
    for index, cells in enumerate(members):
        scores = np.repeat(block, len(cells), axis=0)
        readable = np.ones(len(cells), bool)
        write_scores(files.group_scores(index), GroupScores(cells, scores, readable))

    def memory(name):
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

    Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmHWM")
    pack_scores(files, table.n_groups, table.n_patches)
    with open_scores(files.slide_scores) as scores:
        stitch(files.heatmap, geometry, scores, {})
    print(json.dumps({"shape": geometry.shape, "groups": len(members), "before": before,
                      "peak": memory("VmHWM")}))
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
def test_memory_does_not_grow_with_the_heatmap(tmp_path):
    """Of a slide of 100,000 x 200,000 px, all of it tissue, at stride 16."""
    found = []
    for width, height in ((8_000, 8_000), (200_000, 100_000)):
        folder = tmp_path / str(width)
        folder.mkdir()
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(STITCH_ALONE), str(width), str(height), "1000",
             str(folder)],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        found.append(json.loads(done.stdout))
        print("\n", found[-1])
    small, large = found
    assert large["shape"] == [6250, 12500]
    grown = (large["peak"] - large["before"]) - (small["peak"] - small["before"])
    print(f"stitching 6,250 x 12,500 takes {grown / 2**20:.1f} MiB more than 500 x 500")
    assert large["peak"] - small["peak"] < 100 * 2**20
    assert grown < 100 * 2**20
