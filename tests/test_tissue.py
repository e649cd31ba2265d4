"""Tissue: the paper's rule, worked out plainly, and the share of each cell."""

from __future__ import annotations

import math

import numpy as np
import openslide
import pytest
from chain import real_slide
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from slides import big_slide, big_slide_blobs, corrupt_tile, landmark_slide, two_level_blank

from hpc_heatmap import tissue as tissue_module
from hpc_heatmap.errors import SettingsError
from hpc_heatmap.geometry import Geometry
from hpc_heatmap.slide import Slide
from hpc_heatmap.tissue import (
    TissueMask,
    cell_fractions,
    detect_tissue,
    method_names,
    register_method,
)


def plain_small_picture(path, factor=32):
    """The slide at 32x by a triangle filter in float64, white outside."""
    with openslide.OpenSlide(path) as slide:
        width, height = slide.dimensions
        rgba = slide.read_region((-64, -64), 0, (width + 192, height + 192))
    source = np.asarray(rgba).astype(float)
    source = np.where(source[..., 3:] > 0, source[..., :3], 255)

    def weights(n_out, n_source):
        centres = (np.arange(n_out) + 0.5) * factor
        away = np.abs(np.arange(n_source)[None] - 64 + 0.5 - centres[:, None]) / factor
        values = np.maximum(0, 1 - away)
        return values / values.sum(axis=1, keepdims=True)

    down = weights(math.ceil(height / factor), len(source))
    across = weights(math.ceil(width / factor), source.shape[1])
    small = [np.floor(down @ source[..., c] @ across.T + 0.5 + 1e-9) for c in range(3)]
    return np.stack(small, axis=-1)


def plain_hue_and_saturation(rgb):
    """OpenCV's 8-bit ranges: hue in half degrees, saturation to 255."""
    red, green, blue = np.moveaxis(rgb, -1, 0)
    top, span = rgb.max(axis=-1), np.ptp(rgb, axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        hue = np.select(
            [span == 0, top == red, top == green],
            [0, (green - blue) / span, 2 + (blue - red) / span],
            4 + (red - green) / span,
        )
        saturation = np.where(top > 0, span / top * 255, 0)
    return np.rint(hue * 60 % 360 / 2) % 180, np.rint(saturation)


def plain_otsu(values):
    """The threshold that separates two classes best, tried one by one."""
    best, best_between = 0, -1.0
    for threshold in range(int(values.min()), int(values.max())):
        low, high = values[values <= threshold], values[values > threshold]
        between = len(low) * len(high) * (low.mean() - high.mean()) ** 2
        if between > best_between * (1 + 1e-12):
            best, best_between = threshold, between
    return best


def test_the_papers_rule_on_a_real_slide(monkeypatch):
    monkeypatch.setattr(tissue_module, "_methods", dict(tissue_module._methods))
    seen = []

    @register_method("watch")
    def watch(image):
        seen.append(image)
        return np.zeros(image.hue.shape, bool), {}

    path = real_slide("svs")
    hue, saturation = plain_hue_and_saturation(plain_small_picture(path))
    thresholds = {"hue": plain_otsu(hue), "saturation": plain_otsu(saturation)}
    expected = (hue >= thresholds["hue"]) & (saturation >= thresholds["saturation"])
    with Slide(path) as slide:
        found = detect_tissue(slide)
        detect_tissue(slide, "watch")
    for found_channel, expected_channel in ((seen[0].hue, hue), (seen[0].saturation, saturation)):
        # Exact halves may be rounded to either side.
        assert np.abs(found_channel - expected_channel).max() <= 1
        assert (found_channel != expected_channel).mean() < 0.01
    print(f"\n{thresholds}, {expected.mean():.1%} of the slide is tissue")
    assert found.thresholds == thresholds
    assert found.scale == (32, 32)
    assert found.mask.shape == expected.shape
    assert (found.mask == expected).all()
    assert 0.2 < expected.mean() < 0.9


@pytest.mark.parametrize("noise", [0, 1, 2, 3])
@pytest.mark.parametrize("method", ["otsu-hs", "otsu-s"])
def test_a_blank_slide_has_no_tissue(tmp_path, noise, method):
    path = two_level_blank(tmp_path / "blank.tiff", noise_levels=noise)
    with Slide(path) as slide:
        assert not detect_tissue(slide, method).mask.any()


def test_tissue_is_where_the_blobs_are(tmp_path):
    size = 6400, 4800
    path = big_slide(tmp_path / "s.tiff", *size)
    with Slide(path) as slide:
        mask = detect_tissue(slide).mask
    y, x = (np.mgrid[: mask.shape[0], : mask.shape[1]] + 0.5) * 32
    inside, near = np.zeros(mask.shape, bool), np.zeros(mask.shape, bool)
    for centre_x, centre_y, radius in big_slide_blobs(*size):
        away = np.hypot(x - centre_x, y - centre_y)
        inside |= away < radius - 48
        near |= away < radius + 48
    assert inside.any()
    assert mask[inside].all()
    assert not mask[~near].any()


def test_what_cannot_be_read_counts_as_tissue(tmp_path):
    path = landmark_slide(
        tmp_path / "s.tiff", 2048, 1024, (600, 500), 9, downsamples=(1,), glass_px=(900, 0, 0, 0)
    )
    corrupt_tile(path, 0, 0)
    with Slide(path) as slide:
        found = detect_tissue(slide)
    assert found.unreadable >= 64
    assert found.mask[:8, :8].all()
    assert not found.mask[16:, 4:24].any()
    assert found.mask[16:, 32:].all()


def test_methods_are_pluggable(tmp_path, monkeypatch):
    monkeypatch.setattr(tissue_module, "_methods", dict(tissue_module._methods))

    @register_method("left half")
    def left_half(image):
        assert image.hue.dtype == image.saturation.dtype == np.uint8
        mask = np.zeros(image.hue.shape, bool)
        mask[:, : mask.shape[1] // 2] = True
        return mask, {"share": 0.5}

    assert "left half" in method_names()
    path = landmark_slide(tmp_path / "s.tiff", 640, 320, (9, 9), 3)
    with Slide(path) as slide:
        found = detect_tissue(slide, "left half")
        assert detect_tissue(slide, "all").mask.all()
        with pytest.raises(SettingsError, match="otsu-hs"):
            detect_tissue(slide, "no such method")
    assert found.thresholds == {"share": 0.5}
    assert found.mask[:, :10].all() and not found.mask[:, 10:].any()


@given(
    arrays(bool, st.tuples(st.integers(1, 6), st.integers(1, 6))),
    st.integers(8, 60),
    st.integers(0, 31),
    st.sampled_from([1, 2]),
)
def test_shares_of_cells_are_exact(mask, window, cut, scale):
    """Against counting level-0 pixels one by one."""
    height, width = (n * 32 - cut for n in mask.shape)
    geometry = Geometry(width // scale, height // scale, window, window, scale, scale)
    pixels = np.kron(mask, np.ones((32, 32)))[: height // scale * scale, : width // scale * scale]
    found = cell_fractions(TissueMask(mask), geometry)
    side = window * scale
    assert found.shape == (geometry.y.n_cells, geometry.x.n_cells)
    for row, column in np.ndindex(found.shape):
        cell = pixels[row * side : (row + 1) * side, column * side : (column + 1) * side]
        assert found[row, column] == pytest.approx(cell.mean(), abs=1e-9)
