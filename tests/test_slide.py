"""Reading slides: a pixel depends on its position alone, and the outside is the background."""

from __future__ import annotations

import itertools

import numpy as np
import openslide
import pytest
from chain import real_slide
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from slides import corrupt_tile, landmark_slide, write_slide

from hpc_heatmap.errors import (
    MissingSpacingError,
    SlideNotFoundError,
    TileError,
    UnsupportedSlideError,
)
from hpc_heatmap.geometry import Box
from hpc_heatmap.slide import Slide
from hpc_heatmap.slide_list import slide_ids

WIDTH, HEIGHT = 1301, 1117


def noise_at(x, y, w, h, downsample):
    """Every pixel of every level is a function of its position alone."""
    i, j = np.meshgrid(np.arange(x, x + w), np.arange(y, y + h))
    mixed = (i * 2654435761 + j * 40503 + downsample * 97) % 2**32
    return np.stack([mixed >> s & 255 for s in (3, 11, 19)], axis=-1).astype(np.uint8)


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    """Pyramids whose downsamples are exact (1152 x 1152) and are not (1301 x 1117)."""
    folder = tmp_path_factory.mktemp("slides")
    options = {"compression": "zlib", "downsamples": (1, 3, 8), "spacing_um": 0.25}
    return {
        "exact": write_slide(folder / "exact.tiff", noise_at, 1152, 1152, **options),
        "inexact": write_slide(folder / "inexact.tiff", noise_at, WIDTH, HEIGHT, **options),
    }


SCALES = [(1, 1), (2, 2), (1.7, 1.7), (0.8, 0.8), (3.4, 2.6), (3, 3), (8, 8), (13.1, 13.1)]


@pytest.mark.parametrize("name", ["exact", "inexact", "svs"])
@pytest.mark.parametrize("scale", SCALES)
def test_pixels_do_not_depend_on_how_they_are_read(slides, name, scale):
    path = real_slide("svs") if name == "svs" else slides[name]

    @settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def check(data):
        width, height = (data.draw(st.integers(1, 120)) for _ in "xy")
        left = data.draw(st.integers(-90, view.width_px + 40 - width // 2))
        top = data.draw(st.integers(-90, view.height_px + 40 - height // 2))
        whole = view.read(Box(left, top, width, height))
        assert whole.shape == (height, width, 3)
        across = sorted({0, width, *data.draw(st.lists(st.integers(0, width), max_size=3))})
        down = sorted({0, height, *data.draw(st.lists(st.integers(0, height), max_size=3))})
        for y0, y1 in itertools.pairwise(down):
            for x0, x1 in itertools.pairwise(across):
                piece = view.read(Box(left + x0, top + y0, x1 - x0, y1 - y0))
                assert piece.tobytes() == whole[y0:y1, x0:x1].tobytes()

    with Slide(path) as slide:
        view = slide.view(scale=scale)
        check()


def test_level_0_is_what_openslide_reads_with_white_outside():
    path = real_slide("svs")
    with Slide(path) as slide, openslide.OpenSlide(path) as plain:
        for x, y in [(-60, -40), (2180, -40), (-60, 2930), (2180, 2930), (1000, 1200)]:
            rgba = np.asarray(plain.read_region((x, y), 0, (100, 90)))
            expected = np.where(rgba[..., 3:] > 0, rgba[..., :3], 255)
            assert set(np.unique(rgba[..., 3])) <= {0, 255}
            assert slide.view().read(Box(x, y, 100, 90)).tobytes() == expected.tobytes()
            outside = rgba[..., 3] == 0
            assert outside.any() == (x != 1000)


@pytest.mark.parametrize("scale", [(2, 2), (1.7, 1.7), (0.8, 0.8), (2.6, 2.2)])
def test_resampling_is_a_triangle_filter(slides, scale):
    """Each read pixel is a weighted mean of level-0 pixels, worked out here one by one."""
    source = noise_at(0, 0, 1152, 1152, 1).astype(float)
    padded = np.pad(source, ((8, 8), (8, 8), (0, 0)), constant_values=255)

    def weights(centre, factor):
        first = int(np.floor(centre - factor)) - 1
        positions = np.arange(first, first + 2 * int(factor) + 6)
        values = np.maximum(0, 1 - np.abs(positions + 0.5 - centre) / max(factor, 1))
        return positions[values > 0], values[values > 0] / values.sum()

    with Slide(slides["exact"]) as slide:
        view = slide.view(scale=scale)
        for i, j in [(0, 0), (3, 250), (view.height_px - 1, 77), (100, view.width_px - 1)]:
            rows, down = weights((i + 0.5) * scale[1], scale[1])
            columns, across = weights((j + 0.5) * scale[0], scale[0])
            here = padded[rows[:, None] + 8, columns[None] + 8]
            expected = np.einsum("ijc,i,j->c", here, down, across)
            assert np.abs(view.read(Box(j, i, 1, 1))[0, 0] - expected).max() <= 0.5 + 1e-6


@pytest.mark.parametrize(
    ("scale", "level"), [(1, 0), (2.9, 0), (3, 1), (7.9, 1), (8, 2), (30, 2), (0.5, 0)]
)
def test_the_best_level_is_the_coarsest_that_is_not_too_coarse(slides, scale, level):
    with Slide(slides["exact"]) as slide:
        view = slide.view(scale=(scale, scale))
        assert view.level == level
        assert view.scale == pytest.approx((scale, scale))


@pytest.mark.parametrize("downsamples", [(1,), (1, 4), (1, 2, 4, 8)])
@pytest.mark.parametrize("scale", [1, 2, 4, 5.3])
def test_views_agree_on_where_things_are(tmp_path, downsamples, scale):
    """The centre of a disc, from its dark pixels, is at the same place from every level."""
    centre = 301.25, 228.5
    path = landmark_slide(tmp_path / "s.tiff", 512, 448, centre, 60, downsamples=downsamples)
    with Slide(path) as slide:
        view = slide.view(scale=(scale, scale))
        picture = view.read(Box(0, 0, view.width_px, view.height_px))[..., 1].astype(float)
    dark = np.clip((117 - picture) / (117 - 39), 0, 1)
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]]
    found = [((axis + 0.5) * view.scale[0] - 0.5) @ dark.ravel() for axis in (x.ravel(), y.ravel())]
    assert np.array(found) / dark.sum() == pytest.approx(centre, abs=0.12 * max(scale, 2))


def test_the_spacing_given_wins_and_none_is_guessed(tmp_path):
    silent = landmark_slide(tmp_path / "a.tiff", 300, 300, (9, 9), 3, spacing_um=None)
    told = landmark_slide(tmp_path / "b.tiff", 300, 300, (9, 9), 3, spacing_um=(0.5, 0.4))
    with Slide(silent) as slide:
        assert (slide.spacing_um, slide.spacing_source) == (None, "unknown")
        assert slide.view().scale == (1, 1)
        with pytest.raises(MissingSpacingError, match="--spacing"):
            slide.view(0.5)
    with Slide(silent, spacing_um=0.25) as slide:
        assert slide.view(0.5).scale == (2, 2)
    with Slide(told) as slide:
        assert slide.spacing_um == pytest.approx((0.5, 0.4))
        assert slide.view(0.8).scale == pytest.approx((1.6, 2.0))
    with Slide(told, spacing_um=0.25) as slide:
        assert (slide.spacing_um, slide.spacing_source) == ((0.25, 0.25), "given")


def test_a_broken_tile_leaves_the_slide_usable(tmp_path):
    path = landmark_slide(tmp_path / "s.tiff", 1024, 512, (40, 40), 9, downsamples=(1,))
    corrupt_tile(path, 0, 1)
    with Slide(path) as slide:
        before = slide.view().read(Box(0, 0, 256, 256))
        with pytest.raises(TileError):
            slide.view().read(Box(200, 0, 100, 100))
        assert (slide.view().read(Box(0, 0, 256, 256)) == before).all()


def test_a_slide_stays_usable_while_another_thread_meets_a_broken_tile(tmp_path):
    path = tmp_path / "s.tiff"
    write_slide(path, noise_at, 1024, 512, downsamples=(1,), compression="zlib")
    corrupt_tile(path, 0, 1)
    with Slide(path) as slide:
        before = slide.read_level(0, Box(0, 0, 256, 256))
        # What is left when the other thread has not opened the slide again yet.
        with pytest.raises(openslide.OpenSlideError):
            slide._handle.read_region((256, 0), 0, (256, 256))
        assert (slide.read_level(0, Box(0, 0, 256, 256)) == before).all()


def test_what_is_no_slide_is_refused(tmp_path):
    with pytest.raises(SlideNotFoundError):
        Slide(tmp_path / "absent.svs")
    (tmp_path / "text.svs").write_text("words")
    with pytest.raises(UnsupportedSlideError):
        Slide(tmp_path / "text.svs")


def test_names_of_slides_are_unique_and_safe(tmp_path):
    paths = [tmp_path / p for p in ("a/x.svs", "b/x.svs", "c/é 1.svs", "d/1.dcm", "d/2.dcm")]
    names = slide_ids(paths)
    assert names[:2] == ["a_x", "b_x"]
    assert len(set(names)) == len(names)
    assert all(c.isalnum() or c in "._-" for name in names for c in name)
