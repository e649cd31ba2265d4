"""From a slide to its lookup table and groups."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from chain import group
from slides import big_slide, big_slide_blobs, landmark_slide, two_level_blank

from hpc_heatmap.errors import NoTissueError, SlideTooSmallError
from hpc_heatmap.formats.group_file import open_groups
from hpc_heatmap.formats.lookup import read_lookup
from hpc_heatmap.formats.slide_summary import read_summary
from hpc_heatmap.slide import Slide
from hpc_heatmap.stages.grouping import slide_geometry


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    return big_slide(tmp_path_factory.mktemp("slide") / "s.tiff", 6400, 4800)


def test_the_lookup_table_the_groups_and_the_summary_agree(tmp_path, slide):
    paths = group(slide, tmp_path, 64, 16, 0.5, patches_per_group=10)
    table, summary = read_lookup(paths.lookup), read_summary(paths.summary)
    with open_groups(paths.groups) as groups:
        header = groups.header
        geometry = header.geometry(16)
        together = []
        for index in range(header.n_groups):
            cells = groups.read(index).cells.tolist()
            assert cells == table.cells[table.group == index].tolist()
            assert 0 < len(cells) <= 10
            together += cells
    assert sorted(together) == table.cells[table.tissue].tolist()
    assert (header.n_patches, header.n_groups) == (len(together), -(-len(together) // 10))
    assert (summary.n_patches, summary.n_groups) == (header.n_patches, header.n_groups)
    assert summary.n_windows == geometry.count_windows(table.cells[table.tissue])
    assert summary.n_unreadable == 0
    assert (header.scale_x, header.spacing_x_um) == pytest.approx((2, 0.5))
    assert (header.width_px, header.height_px) == (3200, 2400)
    with h5py.File(paths.lookup) as file:
        assert file["mask"].shape == (150, 200)
        assert file["mask"].attrs["threshold_saturation"] > 0
    # Cells in the middle of a blob are tissue, the box ends where the blobs do.
    for x, y, _ in big_slide_blobs(6400, 4800):
        assert [int(y / 2) // 64, int(x / 2) // 64] in together


def test_tissue_cells_are_those_with_the_smallest_share(tmp_path, slide):
    counts = []
    for share in (0.0, 0.3, 0.6, 1.0):
        paths = group(slide, tmp_path / str(share), 64, 16, 0.5, min_tissue_fraction=share)
        table = read_lookup(paths.lookup)
        assert (table.tissue == ((table.fraction >= share) & (table.fraction > 0))).all()
        counts.append(table.n_patches)
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[1] > counts[-1]


def test_a_small_slide_is_cut_into_up_to_sixteen_groups(tmp_path, slide):
    paths = group(slide, tmp_path, 64, 16, 0.5)
    with open_groups(paths.groups) as groups:
        header = groups.header
    assert header.patches_per_group == -(-header.n_patches // 16)
    assert header.n_groups == -(-header.n_patches // header.patches_per_group)
    assert 8 < header.n_groups <= 16


@pytest.mark.parametrize("memory_mib", [1, 3.5])
def test_group_size_from_memory(tmp_path, slide, memory_mib):
    """N_p = floor(M / S)."""
    paths = group(slide, tmp_path, 64, 16, 0.5, group_memory=memory_mib)
    expected = int(memory_mib * 2**20 / (128 * 128 * 3))
    with open_groups(paths.groups) as groups:
        assert groups.header.patches_per_group == expected
        assert groups.header.n_groups == -(-groups.header.n_patches // expected)


def test_a_slide_without_tissue_says_so_and_leaves_its_picture(tmp_path):
    path = two_level_blank(tmp_path / "blank.tiff", 600, 500)
    with pytest.raises(NoTissueError, match="--tissue-method all"):
        group(path, tmp_path / "g", 64, 16, None)
    assert (tmp_path / "g" / "grid.png").is_file()
    assert not (tmp_path / "g" / "summary.json").exists()


@pytest.mark.parametrize(("size", "fits"), [((448, 448), True), ((447, 900), False)])
def test_a_slide_smaller_than_a_patch_is_refused(tmp_path, size, fits):
    path = landmark_slide(tmp_path / "s.tiff", *size, (9, 9), 3)
    with Slide(path) as opened:
        if fits:
            assert slide_geometry(opened.view(), 224, 64).shape == (7, 7)
            return
        with pytest.raises(SlideTooSmallError, match="448 x 448"):
            slide_geometry(opened.view(), 224, 64)


def test_the_same_slide_gives_the_same_groups(tmp_path, slide):
    first, second = (group(slide, tmp_path / name, 64, 16, 0.6) for name in "ab")
    with open_groups(first.groups) as one, open_groups(second.groups) as other:
        assert one.header == other.header
        for index in range(one.header.n_groups):
            a, b = one.read(index), other.read(index)
            assert a.cells.tolist() == b.cells.tolist()
            assert all(np.array_equal(a.patch(k), b.patch(k)) for k in range(len(a.cells)))
