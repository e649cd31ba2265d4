"""Groups on disk: all layouts give the same patches, which are OpenSlide's own pixels."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import openslide
import pytest
import tifffile
from chain import group, real_slide
from slides import big_slide, corrupt_tile, landmark_slide

from hpc_heatmap.errors import FormatError
from hpc_heatmap.formats.group_file import open_groups
from hpc_heatmap.formats.slide_tiles import TileKind
from hpc_heatmap.jpeg_tiles import JpegLevel, NotUnderstoodError


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
def test_all_layouts_hold_what_openslide_reads(tmp_path, window):
    path = real_slide("svs")
    found = {}
    for layout in ("slide-tiles", "tiles", "patches"):
        paths = group(
            path, tmp_path / layout, window, 64, None,
            tissue_method="all", group_layout=layout, patches_per_group=20,
        )  # fmt: skip
        with open_groups(paths.groups) as groups:
            assert groups.header.layout == layout
        found[layout] = patches_of(paths)
    width, height = 2220, 2967
    cells = {(r, c) for r in range(-(-height // window)) for c in range(-(-width // window))}
    assert set(found["slide-tiles"]) == set(found["tiles"]) == set(found["patches"]) == cells
    half, side = window // 2, window + 2 * (window // 2)
    with openslide.OpenSlide(path) as slide:
        for row, column in cells:
            patch = found["tiles"][row, column]
            assert patch.shape == (side, side, 3)
            assert patch.tobytes() == found["patches"][row, column].tobytes()
            assert patch.tobytes() == found["slide-tiles"][row, column].tobytes()
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


@pytest.mark.parametrize("layout", ["slide-tiles", "tiles", "patches"])
def test_patches_that_touch_a_broken_tile_are_marked(tmp_path, layout):
    path = landmark_slide(
        tmp_path / "s.tiff", 1024, 768, (100, 700), 30, downsamples=(1,),
        compression="jpeg" if layout == "slide-tiles" else "zlib",
    )  # fmt: skip
    corrupt_tile(path, 0, 1)  # x 256 to 512, y 0 to 256
    paths = group(
        path, tmp_path / "g", 64, 64, None, tissue_method="all", group_layout=layout,
        patches_per_group=500,
    )  # fmt: skip
    with open_groups(paths.groups) as groups:
        assert groups.header.layout == layout
        members = groups.read(0)
        assert groups.count_unreadable(0) == (~members.readable).sum()
    for (row, column), readable in zip(members.cells.tolist(), members.readable, strict=True):
        left, top = column * 64 - 32, row * 64 - 32
        touches = left < 512 and left + 128 > 256 and top < 256
        assert readable == (not touches)


DOCUMENT = Path(__file__).parents[2] / "docs" / "run-directory.md"
#: Datasets of the layout slide-tiles, as documented.
SLIDE_TILES = {"slide_level/jpeg_header", "groups/000000/cells"} | {
    f"groups/000000/slide_tile{suffix}" for suffix in ("s", "_offset", "_bytes", "_index", "_kind")
}


def jpeg_groups(folder, **settings):
    """Groups of a JPEG slide of 600 x 500 px, window 64, with every cell."""
    path = folder / "s.tiff"
    if not path.exists():
        landmark_slide(
            path, 600, 500, (300, 250), 60, tile_px=128, downsamples=(1, 4), compression="jpeg"
        )
    chosen = {"tissue_method": "all", "patches_per_group": 100} | settings
    return path, group(path, folder / "g", 64, 16, None, **chosen)


def test_the_documented_reader_gives_the_slides_pixels(tmp_path):
    path, paths = jpeg_groups(tmp_path)
    with h5py.File(paths.groups) as file:
        names = []
        file.visititems(lambda n, item: names.append(n) if isinstance(item, h5py.Dataset) else None)
        assert set(names) == SLIDE_TILES
        assert set(file["slide_level"].attrs) == {
            "level", "width_px", "height_px", "tile_width_px", "tile_height_px", "background"
        }  # fmt: skip
    section = DOCUMENT.read_text().split("\n## groups.h5\n")[1].split("\n## ")[0]
    namespace = {"groups_h5": paths.groups}
    exec(section.split("```python\n")[1].split("```")[0], namespace)
    pixels = namespace["pixels"]
    assert len(pixels) == 4 * 5
    with openslide.OpenSlide(path) as slide:
        whole = np.asarray(slide.read_region((0, 0), 0, (600, 500)))[..., :3]
    for (row, column), tile in pixels.items():
        part = whole[row * 128 : row * 128 + 128, column * 128 : column * 128 + 128]
        assert np.array_equal(tile[: part.shape[0], : part.shape[1]], part)


def test_tiles_are_stored_as_they_are_in_the_slide(tmp_path):
    path, paths = jpeg_groups(tmp_path)
    with tifffile.TiffFile(path) as tiff, path.open("rb") as slide:
        page = tiff.pages[0]
        tiles = []
        for offset, length in zip(page.dataoffsets, page.databytecounts, strict=True):
            slide.seek(offset)
            tiles.append(slide.read(length))
    with h5py.File(paths.groups) as file:
        members = file["groups/000000"]
        assert members["slide_tile_index"][:].tolist() == [
            [r, c] for r in range(4) for c in range(5)
        ]
        assert members["slide_tiles"][:].tobytes() == b"".join(tiles)
    with open_groups(paths.groups) as groups:
        assert groups.read(0).bytes_read == sum(map(len, tiles))


@pytest.mark.parametrize(
    ("window", "spacing_um", "wanted", "found"),
    [
        (64, None, "auto", "slide-tiles"),
        (64, 2.0, "auto", "slide-tiles"),  # level 1 as it is
        (64, 1.0, "auto", "tiles"),  # resampled
        (64, 1.0, "slide-tiles", "tiles"),
        (24, None, "auto", "tiles"),  # tiles of 128 px for patches of 48 px
        (24, None, "slide-tiles", "slide-tiles"),
        (64, None, "tiles", "tiles"),
        (64, None, "patches", "patches"),
    ],
)
def test_which_layout_is_taken(tmp_path, caplog, window, spacing_um, wanted, found):
    path = tmp_path / "s.tiff"
    landmark_slide(
        path, 640, 512, (300, 250), 60, tile_px=128, downsamples=(1, 4), compression="jpeg"
    )
    patches = {}
    for layout in (wanted, "patches"):
        paths = group(
            path, tmp_path / layout, window, 16, spacing_um, tissue_method="all",
            group_layout=layout,
        )  # fmt: skip
        with open_groups(paths.groups) as groups:
            if layout == wanted:
                assert groups.header.layout == found
        patches[layout] = patches_of(paths)
    assert patches[wanted].keys() == patches["patches"].keys()
    assert all(np.array_equal(p, patches["patches"][cell]) for cell, p in patches[wanted].items())
    warned = "groups have the layout 'tiles'" in caplog.text
    assert warned == (wanted == "slide-tiles" and found == "tiles")


def test_tiles_for_openslide_alone_are_stored_as_pixels(tmp_path, monkeypatch):
    """As where a decoder complains of a tile that OpenSlide is content with."""
    _, paths = jpeg_groups(tmp_path)
    expected = patches_of(paths)
    data_of = JpegLevel.data

    def picky(self, row, column):
        # The level has been compared with OpenSlide by other tiles.
        if (row, column) in {(1, 1), (3, 3)}:
            raise NotUnderstoodError("a warning")
        return data_of(self, row, column)

    monkeypatch.setattr(JpegLevel, "data", picky)
    _, again = jpeg_groups(tmp_path)
    with h5py.File(again.groups) as file:
        members = file["groups/000000"]
        kinds = {tuple(i): k for i, k in zip(members["slide_tile_index"][:].tolist(),
                 members["slide_tile_kind"][:].tolist(), strict=True)}  # fmt: skip
    assert {cell for cell, kind in kinds.items() if kind} == {(1, 1), (3, 3)}
    assert kinds[1, 1] == kinds[3, 3] == TileKind.PIXELS == 1
    found = patches_of(again)
    assert all(np.array_equal(patch, found[cell]) for cell, patch in expected.items())


def test_files_of_version_1_are_read(tmp_path):
    paths = jpeg_groups(tmp_path, group_layout="tiles")[1]
    expected = patches_of(paths)
    with h5py.File(paths.groups, "r+") as file:
        assert file.attrs["format_version"] == 2
        file.attrs["format_version"] = 1
    assert all(np.array_equal(patch, expected[cell]) for cell, patch in patches_of(paths).items())


def test_a_stored_tile_that_rots_is_named(tmp_path):
    paths = jpeg_groups(tmp_path)[1]
    with h5py.File(paths.groups, "r+") as file:
        data = file["groups/000000/slide_tiles"]
        data[1000:1100] = 0
    with (
        open_groups(paths.groups) as groups,
        pytest.raises(FormatError, match=r"damaged: the tile in row 0 and column \d"),
    ):
        groups.read(0)


def test_damaged_and_absent_files_are_refused(tmp_path):
    with pytest.raises(FormatError), open_groups(tmp_path / "absent.h5"):
        pass
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file.attrs["format"] = "something else"
    with pytest.raises(FormatError), open_groups(tmp_path / "other.h5"):
        pass
