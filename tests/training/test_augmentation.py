"""Augmentation against the slow, obvious way."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from chain import real_slide
from skimage.color import hsv2rgb, rgb2hsv

from hpc_heatmap import Slide
from hpc_heatmap.geometry import Box
from hpc_heatmap.training.augmentation import Augmenter, centre_windows, hsv_to_rgb, rgb_to_hsv
from hpc_heatmap.training.settings import TrainingSettings


def settings(**changes):
    return TrainingSettings(**({"window": 32, "hsv_noise": 0} | changes))


def augmenter(seed=0, **changes):
    return Augmenter(settings(**changes), torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def real_pixels():
    with Slide(real_slide("svs")) as slide:
        return slide.read_level(0, Box(900, 900, 128, 128))


def test_hsv_is_that_of_scikit_image_on_real_pixels(real_pixels):
    rgb = torch.from_numpy(real_pixels).float() / 255
    hsv = rgb_to_hsv(rgb)
    np.testing.assert_allclose(hsv.numpy(), rgb2hsv(real_pixels), atol=1e-5)
    np.testing.assert_allclose(hsv_to_rgb(hsv).numpy(), rgb.numpy(), atol=1e-6)


def test_hsv_of_grey_black_and_white():
    rgb = torch.tensor([[0.0, 0, 0], [1, 1, 1], [0.5, 0.5, 0.5], [1, 0, 0]])
    expected = [[0, 0, 0], [0, 0, 1], [0, 0, 0.5], [0, 1, 1]]
    np.testing.assert_allclose(rgb_to_hsv(rgb).numpy(), expected, atol=1e-7)


def test_colour_noise_is_one_shift_of_hsv_for_a_patch_and_at_most_its_setting(real_pixels):
    side, most = 32, 20.0
    patch = real_pixels[:side, :side]
    images = torch.from_numpy(np.repeat(patch[None], 8, 0))
    varied = augmenter(hsv_noise=most)(images).numpy()
    plain = augmenter()(images).numpy()
    shifts = []
    for before, after in zip(plain, varied, strict=True):
        generator = np.round(rgb2hsv(after)[..., 2] - rgb2hsv(before)[..., 2], 5)
        inside = (rgb2hsv(after)[..., 2] < 0.999) & (rgb2hsv(after)[..., 2] > 0.001)
        shift = np.median(generator[inside])
        np.testing.assert_allclose(generator[inside], shift, atol=2e-5)
        shifts.append(shift)
    assert np.abs(shifts).max() <= most / 255 + 1e-5
    assert len(set(np.round(shifts, 4))) > 4, "patches have shifts of their own"


def test_colour_noise_is_what_scikit_image_makes_of_the_same_shift(real_pixels):
    images = torch.from_numpy(real_pixels[None, :32, :32].copy())
    varied = augmenter(seed=3, hsv_noise=20)(images).numpy()[0]
    twin = augmenter(seed=3)
    plain = twin(images).numpy()[0]
    shift = twin._symmetric(1, 1, 1, 3).numpy()[0] * 20 / np.array([180, 255, 255])
    hsv = rgb2hsv(plain) + shift
    hsv[..., 0] %= 1
    expected = hsv2rgb(np.clip(hsv, 0, 1))
    np.testing.assert_allclose(varied, expected, atol=1e-5)


def symmetries(window):
    for flipped in (window, window[:, ::-1]):
        for turns in range(4):
            yield np.rot90(flipped, turns)


def test_windows_are_symmetries_of_windows_inside_the_patch():
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (16, 40, 40, 3), np.uint8)
    windows = augmenter()(torch.from_numpy(images)).numpy()
    starts, kinds = set(), set()
    for patch, window in zip(images, windows, strict=True):
        places = [
            (y, x, kind)
            for y in range(9)
            for x in range(9)
            for kind, symmetric in enumerate(symmetries(patch[y : y + 32, x : x + 32]))
            if np.array_equal(symmetric, np.rint(window * 255))
        ]
        assert len(places) == 1
        starts.add(places[0][:2])
        kinds.add(places[0][2])
    assert kinds == set(range(8))
    assert len(starts) > 4


def test_a_window_that_reaches_beyond_its_patch_repeats_the_border():
    patch = np.arange(32 * 32 * 3).reshape(32, 32, 3).astype(np.uint8)
    padded = np.pad(patch, ((3, 3), (3, 3), (0, 0)), mode="edge")
    allowed = {
        np.ascontiguousarray(s).tobytes()
        for y in range(7)
        for x in range(7)
        for s in symmetries(padded[y : y + 32, x : x + 32])
    }
    for seed in range(5):
        windows = augmenter(seed, shift=3)(torch.from_numpy(np.repeat(patch[None], 8, 0)))
        found = np.rint(windows.numpy() * 255).astype(np.uint8)
        assert all(window.tobytes() in allowed for window in found)


def test_a_change_of_stain_keeps_white_nearly_white_and_is_bounded(real_pixels):
    images = torch.from_numpy(np.repeat(real_pixels[None, :32, :32], 8, 0))
    plain, small = augmenter()(images), augmenter(stain_noise=0.001)(images)
    assert float((plain - small).abs().max()) < 0.01
    strong = augmenter(stain_noise=0.25)(images)
    assert 0.01 < float((plain - strong).abs().mean()) < 0.2
    assert 0 <= float(strong.min()) <= float(strong.max()) <= 1


def test_the_middle_window():
    images = torch.arange(40 * 40 * 3).reshape(1, 40, 40, 3).byte()
    assert torch.equal(centre_windows(images, 32)[0], images[0, 4:36, 4:36].float() / 255)
