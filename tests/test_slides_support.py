"""The test slides are what they say, seen through the real OpenSlide."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openslide
import pytest
import slides


def _positions(x: int, y: int, w: int, h: int, downsample: int) -> slides.Pixels:
    """Return pixels that tell their own position and level."""
    column = np.arange(x, x + w)[None, :]
    row = np.arange(y, y + h)[:, None]
    bands = (column % 251, row % 241, 64 * (column // 251) + 8 * (row // 241) + downsample % 7)
    return np.stack(np.broadcast_arrays(*bands), axis=-1).astype(np.uint8)


def _read(
    path: Path, location: tuple[int, int], level: int, size: tuple[int, int]
) -> slides.Pixels:
    with openslide.OpenSlide(path) as slide:
        rgba = np.asarray(slide.read_region(location, level, size))
    assert (rgba[..., 3] == 255).all(), "part of the region lies outside the slide"
    return rgba[..., :3]


def _dark(pixels: slides.Pixels) -> np.ndarray:
    return pixels[..., 1] < 80


@pytest.mark.parametrize("compression", ["zlib", None])
@pytest.mark.parametrize(
    ("width_px", "height_px", "tile_px"), [(700, 300, 256), (301, 517, 64), (512, 512, 128)]
)
def test_every_pixel_of_every_level_is_in_its_place(
    tmp_path, width_px, height_px, tile_px, compression
):
    path = slides.write_slide(
        tmp_path / "slide.tiff",
        _positions,
        width_px,
        height_px,
        tile_px=tile_px,
        compression=compression,
    )
    with openslide.OpenSlide(path) as slide:
        assert slide.properties["openslide.vendor"] == "generic-tiff"
        sizes = slide.level_dimensions
    assert sizes == tuple((width_px // d, height_px // d) for d in (1, 4, 16))
    for level, downsample in enumerate((1, 4, 16)):
        expected = _positions(0, 0, *sizes[level], downsample)
        assert np.array_equal(_read(path, (0, 0), level, sizes[level]), expected)
    assert np.array_equal(_read(path, (61, 127), 0, (90, 140)), _positions(61, 127, 90, 140, 1))


def test_a_region_of_a_lower_level_lies_at_its_level_0_position(tmp_path):
    path = slides.write_slide(tmp_path / "slide.tiff", _positions, 640, 960, compression="zlib")
    with openslide.OpenSlide(path) as slide:
        assert slide.level_downsamples == (1.0, 4.0, 16.0)
    assert np.array_equal(_read(path, (40, 120), 1, (50, 60)), _positions(10, 30, 50, 60, 4))


def test_jpeg_keeps_the_colours(tmp_path):
    for subsampling in ("444", "420"):
        path = slides.write_slide(
            tmp_path / f"{subsampling}.tiff",
            lambda x, y, w, h, d: np.full((h, w, 3), slides.TISSUE_RGB, dtype=np.uint8),
            500,
            270,
            subsampling=subsampling,
        )
        pixels = _read(path, (0, 0), 0, (500, 270)).astype(int)
        assert np.abs(pixels - slides.TISSUE_RGB).max() <= 4


@pytest.mark.parametrize("spacing_um", [None, 0.5, 0.2427, (0.25, 0.31)])
def test_the_spacing_is_what_was_asked_for(tmp_path, spacing_um):
    path = slides.write_slide(tmp_path / "slide.tiff", _positions, 300, 200, spacing_um=spacing_um)
    with openslide.OpenSlide(path) as slide:
        found = [slide.properties.get(f"openslide.mpp-{axis}") for axis in "xy"]
    if spacing_um is None:
        assert found == [None, None]
    else:
        assert [float(value) for value in found] == pytest.approx(
            np.broadcast_to(spacing_um, 2), rel=1e-6
        )


@pytest.mark.parametrize(
    "landmark_xy", [(333, 222), (333.5, 222.5), (0, 0), (699, 0), (0, 500), (699, 500), (350, 500)]
)
def test_the_landmark_is_where_it_was_put(tmp_path, landmark_xy):
    x, y = landmark_xy
    path = slides.landmark_slide(tmp_path / "slide.tiff", 700, 501, landmark_xy, 40)
    dark = _dark(_read(path, (0, 0), 0, (700, 501)))
    row, column = np.mgrid[:501, :700]
    assert np.array_equal(dark, np.hypot(column - x, row - y) <= 40)
    if 40 < x < 660 and 40 < y < 460:
        rows, columns = np.nonzero(dark)
        assert (columns.mean(), rows.mean()) == pytest.approx(landmark_xy)
        for level, downsample in ((1, 4), (2, 16)):
            size = (700 // downsample, 501 // downsample)
            rows, columns = np.nonzero(_dark(_read(path, (0, 0), level, size)))
            centre = [(index.mean() + 0.5) * downsample - 0.5 for index in (columns, rows)]
            assert centre == pytest.approx(landmark_xy, abs=downsample / 4)


def test_glass_is_only_where_it_was_asked_for(tmp_path):
    path = slides.landmark_slide(
        tmp_path / "slide.tiff", 400, 320, (200, 160), 10, glass_px=(10, 20, 30, 40)
    )
    glass = (_read(path, (0, 0), 0, (400, 320)) == slides.GLASS_RGB).all(axis=-1)
    expected = np.ones((320, 400), dtype=bool)
    expected[20:280, 10:370] = False
    assert np.array_equal(glass, expected)


def test_a_whole_slide_is_small_on_disk_and_its_levels_agree(tmp_path):
    path = slides.big_slide(tmp_path / "slide.tiff")
    assert path.stat().st_size < 60e6
    blobs = slides.big_slide_blobs(40_000, 40_000)
    with openslide.OpenSlide(path) as slide:
        assert slide.dimensions == (40_000, 40_000)
        assert slide.level_downsamples == (1.0, 4.0, 16.0, 64.0)
    share = (_read(path, (0, 0), 3, (625, 625))[..., 1] < 215).mean()
    assert 0.01 < share < 0.02
    for x, y, radius in blobs:
        # A strip across the disc's left edge shows the same edge at every level.
        for level, downsample in enumerate((1, 4, 16, 64)):
            left, top = (int(v) // 64 * 64 for v in (x - radius - 1280, y))
            strip = _read(path, (left, top), level, (2560 // downsample, 1))[0]
            edge = left + int(np.argmax(strip[:, 1] < 225)) * downsample
            assert edge == pytest.approx(x - radius, abs=downsample + 16)
        corner = (int(x) // 64 * 64, int(y) // 64 * 64)
        full = _read(path, corner, 0, (512, 512)).reshape(32, 16, 32, 16, 3).mean(axis=(1, 3))
        reduced = _read(path, corner, 2, (32, 32)).astype(float)
        assert np.corrcoef(full[..., 1].ravel(), reduced[..., 1].ravel())[0, 1] > 0.9


def test_a_whole_slide_may_have_any_size(tmp_path):
    path = slides.big_slide(tmp_path / "slide.tiff", 5003, 3001, spacing_um=None)
    with openslide.OpenSlide(path) as slide:
        assert slide.level_dimensions == ((5003, 3001), (1250, 750), (312, 187), (78, 46))


@pytest.mark.parametrize("compression", ["jpeg", "zlib"])
@pytest.mark.parametrize(("level", "tile_index"), [(0, 0), (0, 5), (1, 1)])
def test_only_the_corrupt_tile_cannot_be_read(tmp_path, compression, level, tile_index):
    path = slides.write_slide(
        tmp_path / "slide.tiff", _positions, 1100, 600, tile_px=128, compression=compression
    )
    before = path.stat().st_size
    slides.corrupt_tile(path, level, tile_index)
    assert path.stat().st_size == before
    failed = []
    for other_level, downsample in enumerate((1, 4, 16)):
        width_px, height_px = 1100 // downsample, 600 // downsample
        across = -(-width_px // 128)
        for index in range(across * -(-height_px // 128)):
            column, row = index % across * 128, index // across * 128
            location = (column * downsample, row * downsample)
            # Away from the tile's edges, which interpolation may share with its neighbours.
            size = (min(128, width_px - column) - 4, min(128, height_px - row) - 4)
            location = (location[0] + 2 * downsample, location[1] + 2 * downsample)
            try:
                _read(path, location, other_level, size)
            except openslide.OpenSlideError:
                failed.append((other_level, index))
    assert failed == [(level, tile_index)]


def test_a_tile_without_compression_cannot_be_made_corrupt(tmp_path):
    path = slides.write_slide(tmp_path / "slide.tiff", _positions, 300, 200, compression=None)
    with pytest.raises(ValueError, match="not compressed"):
        slides.corrupt_tile(path, 0, 0)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.95])
def test_a_truncated_slide_cannot_be_opened(tmp_path, share):
    path = slides.write_slide(tmp_path / "slide.tiff", _positions, 1100, 600)
    size = path.stat().st_size
    slides.truncate(path, share)
    assert path.stat().st_size == int(size * share)
    with pytest.raises(openslide.OpenSlideError):
        openslide.OpenSlide(path)


def test_blank_slides_have_no_tissue(tmp_path):
    white = slides.two_level_blank(tmp_path / "white.tiff")
    noisy = slides.two_level_blank(tmp_path / "noisy.tiff", noise_levels=2)
    for level, size in enumerate(((2048, 1536), (512, 384))):
        assert (_read(white, (0, 0), level, size) == 255).all()
        assert set(np.unique(_read(noisy, (0, 0), level, size))) == {251, 252, 253, 254, 255}
