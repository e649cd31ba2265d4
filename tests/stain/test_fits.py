"""Stains against other programs' results, and the table against the arithmetic."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from reference import reference
from skimage.color import lab2rgb, rgb2lab

from hpc_heatmap.errors import StainError
from hpc_heatmap.settings import StainMethod
from hpc_heatmap.stain.colour import lab_to_rgb, optical_density, rgb_to_lab
from hpc_heatmap.stain.fits import StainFit, fit_stain
from hpc_heatmap.stain.matrices import concentrations, macenko
from hpc_heatmap.stain.transfer import StainTable, change_stain

METHODS = [StainMethod.VAHADANE, StainMethod.MACENKO, StainMethod.REINHARD]
PICTURES = {"source": "source_cmu1_384.png", "target": "target_camelyon_tumor_001_256.png"}


def picture(name):
    with Image.open(reference("stain_reference") / PICTURES.get(name, name)) as opened:
        return np.asarray(opened.convert("RGB"))


def expected():
    return json.loads((reference("stain_reference") / "expected.json").read_text())


def degrees(stains, others):
    a, b = np.asarray(stains), np.asarray(others)
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


@pytest.mark.parametrize("which", PICTURES)
@pytest.mark.parametrize("method", ["vahadane", "macenko"])
def test_stains_are_within_three_degrees_of_the_references(method, which):
    fit = fit_stain(picture(which), StainMethod(method))
    theirs = expected()[f"staintools_{method}"][f"stain_matrix_{which}"]
    assert degrees(fit.stains, theirs).max() < 3
    if which == "target":
        strongest = expected()[f"staintools_{method}"]["maxC_target"][0]
        np.testing.assert_allclose(fit.strongest, strongest, rtol=0.03)


def test_macenko_on_torchstains_choice_of_pixels_gives_its_matrix():
    density = -np.log((picture("target").reshape(-1, 3) + 1.0) / 240)
    ours = macenko(density[(density >= 0.15).all(axis=1)])
    assert degrees(ours, np.transpose(expected()["torchstain_macenko"]["HERef"])).max() < 0.01


def test_reinhards_means_and_deviations_are_those_of_the_reference():
    fit, theirs = fit_stain(picture("target"), StainMethod.REINHARD), expected()
    np.testing.assert_allclose(fit.means, theirs["torchstain_reinhard"]["target_means"], atol=0.01)
    deviations = theirs["torchstain_reinhard"]["target_stds"]
    np.testing.assert_allclose(fit.deviations, deviations, atol=0.01)


@pytest.mark.parametrize(("method", "mean"), [*zip(METHODS, (2, 1, 1.5), strict=True)])
def test_normalised_pictures_look_like_the_references(method, mean):
    source, target = (fit_stain(picture(which), method) for which in PICTURES)
    ours = change_stain(picture("source"), source, target)
    theirs = picture(f"staintools_{method.value}.png")
    assert np.abs(ours.astype(int) - theirs).mean() < mean


@pytest.mark.parametrize("method", METHODS)
def test_the_table_gives_the_bits_of_the_arithmetic(method):
    source, target = (fit_stain(picture(which), method) for which in PICTURES)
    table, pixels = StainTable(source, target), picture("source")
    for part in (pixels[:50], pixels, pixels[::-1, ::3], picture("target")):
        changed = table(part)
        assert changed.dtype == np.uint8
        np.testing.assert_array_equal(changed, change_stain(part, source, target))
    one_by_one = [change_stain(p[None], source, target)[0] for p in pixels[7, :40]]
    np.testing.assert_array_equal(one_by_one, table(pixels)[7, :40])


@pytest.mark.parametrize("method", METHODS)
def test_the_same_pixels_give_the_same_stain_and_it_goes_through_json(method):
    fit = fit_stain(picture("source"), method)
    assert fit_stain(picture("source").copy(), method) == fit
    assert StainFit.model_validate_json(fit.model_dump_json()) == fit


@pytest.mark.parametrize("method", METHODS[:2])
def test_white_stays_white_and_the_own_stain_changes_little(method):
    fit = fit_stain(picture("source"), method)
    target = fit_stain(picture("target"), method)
    white = np.full((1, 3), 255, np.uint8)
    assert (change_stain(white, fit, target) == 255).all()
    tissue = picture("source")
    same = change_stain(tissue, fit, fit)
    # What two stains cannot say of three channels is lost.
    assert np.abs(same.astype(int) - tissue).mean() < 7


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (np.full((100, 100, 3), 245, np.uint8), "only 0 pixels are tissue"),
        (np.zeros((20, 20, 3), np.uint8), "only 400 pixels are tissue"),
        (np.full((100, 100, 3), (120, 40, 90), np.uint8), "one"),
    ],
)
def test_what_holds_no_two_stains_is_refused(method, pixels, words):
    with pytest.raises(StainError, match=words):
        fit_stain(pixels, method)


def test_concentrations_minimise_the_lasso():
    rng = np.random.default_rng(1)
    density = rng.uniform(0, 2, (300, 3))
    stains = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11]])
    stains /= np.linalg.norm(stains, axis=1, keepdims=True)
    for sparsity in (0.01, 0.1, 1.0):
        found = concentrations(density, stains, sparsity)

        def objective(amounts, sparsity=sparsity):
            rest = ((density - amounts @ stains) ** 2).sum(axis=1) / 2
            return rest + sparsity * amounts.sum(axis=1)

        assert (found >= 0).all()
        for _ in range(200):
            other = np.maximum(found + rng.normal(0, 0.05, found.shape), 0)
            assert (objective(found) <= objective(other) + 1e-12).all()


def test_lab_is_that_of_scikit_image():
    rgb = np.random.default_rng(0).integers(0, 256, (5000, 3), np.uint8)
    # It has two digits more of the white point.
    np.testing.assert_allclose(rgb_to_lab(rgb), rgb2lab(rgb), atol=0.02)
    np.testing.assert_array_equal(lab_to_rgb(rgb_to_lab(rgb)), rgb)
    lab = np.random.default_rng(1).uniform((20, -20, -20), (90, 20, 20), (5000, 3))
    theirs = np.rint(lab2rgb(lab) * 255)
    assert np.abs(lab_to_rgb(lab).astype(int) - theirs).max() <= 1


def test_optical_density_has_a_floor():
    density = optical_density(np.array([0, 1, 255], np.uint8))
    np.testing.assert_allclose(density, [np.log(255), np.log(255), 1e-6])
