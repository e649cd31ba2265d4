"""Groups on disk: both layouts give the same patches, which are OpenSlide's own pixels."""

from __future__ import annotations

import h5py
import numpy as np
import openslide
import pytest
from chain import group, real_slide
from slides import big_slide, corrupt_tile, landmark_slide

from hpc_heatmap.errors import FormatError
from hpc_heatmap.formats.group_file import open_groups


def patches_of(paths):
    """Every patch by its cell."""
    with open_groups(paths.groups) as groups:
        found = {}
        for index in range(groups.header.n_groups):
            members = groups.read(index)
            assert members.readable.all()
            for number, cell in enumerate(members.cells.tolist()):
                found[tuple(cell)] = members.patch(number)
    return found


@pytest.mark.parametrize("window", [224, 75])
def test_both_layouts_hold_what_openslide_reads(tmp_path, window):
    path = real_slide("svs")
    found = {}
    for layout in ("tiles", "patches"):
        paths = group(
            path, tmp_path / layout, window, 64, None,
            tissue_method="all", group_layout=layout, patches_per_group=20,
        )  # fmt: skip
        found[layout] = patches_of(paths)
    width, height = 2220, 2967
    cells = {(r, c) for r in range(-(-height // window)) for c in range(-(-width // window))}
    assert set(found["tiles"]) == set(found["patches"]) == cells
    half, side = window // 2, window + 2 * (window // 2)
    with openslide.OpenSlide(path) as slide:
        for row, column in cells:
            patch = found["tiles"][row, column]
            assert patch.shape == (side, side, 3)
            assert patch.tobytes() == found["patches"][row, column].tobytes()
            corner = column * window - half, row * window - half
            rgba = np.asarray(slide.read_region(corner, 0, (side, side)))
            expected = np.where(rgba[..., 3:] > 0, rgba[..., :3], 255)
            assert patch.tobytes() == expected.tobytes()
    last_row, last_column = max(cells)
    assert (found["tiles"][0, 0][:half] == 255).all()
    assert (found["tiles"][0, 0][:, :half] == 255).all()
    beyond_y = height - (last_row * window - half)
    beyond_x = width - (last_column * window - half)
    assert (found["tiles"][last_row, 0][beyond_y:] == 255).all()
    assert (found["tiles"][0, last_column][:, beyond_x:] == 255).all()


@pytest.mark.parametrize("spacing_um", [1.0, 0.85, 0.4])
@pytest.mark.parametrize("window", [64, 35])
def test_both_layouts_agree_where_slides_are_resampled(tmp_path, spacing_um, window):
    path = landmark_slide(tmp_path / "s.tiff", 733, 615, (340, 250), 40, glass_px=(99, 50, 9, 70))
    tiles, patches = (
        patches_of(
            group(path, tmp_path / layout, window, 16, spacing_um, group_layout=layout,
                  patches_per_group=7)
        )
        for layout in ("tiles", "patches")
    )  # fmt: skip
    assert tiles.keys() == patches.keys()
    assert len({patch.tobytes() for patch in tiles.values()}) > 4
    assert all(tiles[cell].tobytes() == patches[cell].tobytes() for cell in tiles)


@pytest.mark.slow
def test_bytes_of_400_patches(tmp_path):
    """20 x 20 cells of 224 px: about 66 MB against 241 MB."""
    path = big_slide(tmp_path / "s.tiff", 4480, 4480)
    stored = {}
    for layout in ("tiles", "patches"):
        paths = group(
            path, tmp_path / layout, 224, 64, None,
            tissue_method="all", group_layout=layout, patches_per_group=400,
        )  # fmt: skip
        with open_groups(paths.groups) as groups:
            assert (groups.header.n_patches, groups.header.n_groups) == (400, 1)
            assert groups.read(0).bytes_read <= paths.groups.stat().st_size
        stored[layout] = paths.groups.stat().st_size
    print(f"\n400 patches: {stored['tiles'] / 1e6:.1f} MB against {stored['patches'] / 1e6:.1f} MB")
    assert stored["tiles"] == pytest.approx(42**2 * 112**2 * 3, rel=0.01)
    assert stored["patches"] == pytest.approx(400 * 448**2 * 3, rel=0.01)


@pytest.mark.parametrize("layout", ["tiles", "patches"])
def test_patches_that_touch_a_broken_tile_are_marked(tmp_path, layout):
    path = landmark_slide(tmp_path / "s.tiff", 1024, 768, (100, 700), 30, downsamples=(1,))
    corrupt_tile(path, 0, 1)  # x 256 to 512, y 0 to 256
    paths = group(
        path, tmp_path / "g", 64, 64, None, tissue_method="all", group_layout=layout,
        patches_per_group=500,
    )  # fmt: skip
    with open_groups(paths.groups) as groups:
        members = groups.read(0)
        assert groups.count_unreadable(0) == (~members.readable).sum()
    for (row, column), readable in zip(members.cells.tolist(), members.readable, strict=True):
        left, top = column * 64 - 32, row * 64 - 32
        touches = left < 512 and left + 128 > 256 and top < 256
        assert readable == (not touches)


def test_damaged_and_absent_files_are_refused(tmp_path):
    with pytest.raises(FormatError), open_groups(tmp_path / "absent.h5"):
        pass
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file.attrs["format"] = "something else"
    with pytest.raises(FormatError), open_groups(tmp_path / "other.h5"):
        pass
