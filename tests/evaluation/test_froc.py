"""FROC: each rule on small cases, and the organisers' own numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from reference import reference

from hpc_heatmap.evaluation.bootstrap import bootstrap_froc
from hpc_heatmap.evaluation.detections import Detections, find_detections, read_detections
from hpc_heatmap.evaluation.froc import SlideHits, froc_curve, match, sensitivity_at
from hpc_heatmap.evaluation.lesions import find_lesions
from hpc_heatmap.evaluation.truth import Grid, find_truth

PIXEL_UM = 0.243 * 32


def hits(false=(), lesions=(), n_itc=0, slide="a"):
    has_truth = bool(len(lesions) or n_itc)
    return SlideHits(slide, has_truth, np.array(false, float), np.array(lesions, float), n_itc)


def found(*rows):
    values = np.array(rows, float).reshape(-1, 3)
    return Detections(Path("a.csv"), *values.T)


def bar(width=60):
    mask = np.zeros((80, 120), bool)
    mask[40:44, 20 : 20 + width] = True
    return mask


def evaluated(source):
    expected = json.loads((reference("froc_reference") / "expected.json").read_text())
    truth, files = find_truth(source), find_detections(reference("froc_reference") / "detections")
    truth.match(files)
    slides = []
    for name, path in files.items():
        size = expected["per_slide"][name].get("level0_size")
        lesions = truth.lesions(name, Grid(), tuple(size) if size else None)
        slides.append(match(name, read_detections(path), lesions, 32))
    return slides, expected


def test_the_organisers_numbers_from_masks():
    slides, expected = evaluated(reference("froc_reference/masks_level5"))
    curve = froc_curve(slides)
    np.testing.assert_allclose(curve.false_positives, expected["froc_avg_fp"], atol=1e-6)
    np.testing.assert_allclose(curve.sensitivity, expected["froc_sensitivity"], atol=1e-6)
    assert curve.score() == pytest.approx(expected["camelyon16_score"], abs=1e-6)
    assert curve.score("linear") == pytest.approx(expected["camelyon16_score_interp"], abs=1e-6)
    for slide in slides:
        known = expected["per_slide"][slide.slide]
        assert len(slide.lesions) == known.get("lesions_counted", 0)
        assert len(slide.false_positives) == known["false_positives"]
    interval = bootstrap_froc(slides, "official", "step", 200, 0)
    assert interval.score[0] < curve.score() < interval.score[1]
    assert bootstrap_froc(slides, "official", "step", 200, 0).score == interval.score


def test_the_organisers_numbers_from_outlines():
    slides, expected = evaluated(reference("camelyon16_annotations/json_test.tar.gz"))
    assert froc_curve(slides).score() == pytest.approx(expected["camelyon16_score"], abs=1e-6)


def test_the_quirk_of_the_lowest_score():
    slides = [hits(lesions=[0.9, 0.3])]
    assert froc_curve(slides, "official").score() == 0.5
    assert froc_curve(slides, "corrected").score() == 1.0
    # With a lesion missed, or isolated cells, the organisers' zero takes its place.
    assert froc_curve([hits(lesions=[0.9, 0.3, np.nan])]).score() == pytest.approx(2 / 3)
    assert froc_curve([hits(lesions=[0.9, 0.3], n_itc=1)]).score() == 1.0


def test_equal_scores_of_single_and_double_precision():
    slides = [hits(false=[0.7] * 3, lesions=[0.7, np.nan])]
    assert froc_curve(slides, "corrected").sensitivities().tolist() == [0, 0, 0, 0, 0.5, 0.5]


def test_growth_joins_fills_and_tells_isolated_cells():
    one = find_lesions(bar(), PIXEL_UM)
    assert one.counted.tolist() == [True]
    # 4.823 px: the 4th pixel off the edge belongs, the 5th does not.
    at = one.at(np.array([40, 40]), np.array([36, 35]))
    assert at.tolist() == [1, 0]
    near, far = bar(), bar()
    near[52, 20:80], far[53, 20:80] = True, True
    assert len(find_lesions(near, PIXEL_UM).counted) == 1
    assert len(find_lesions(far, PIXEL_UM).counted) == 2
    assert find_lesions(bar(4), PIXEL_UM).counted.tolist() == [False]
    ring = np.zeros((120, 120), bool)
    ring[20:100, 20:100] = True
    ring[30:90, 30:90] = False
    assert find_lesions(ring, PIXEL_UM).at(np.array([60]), np.array([60])).tolist() == [1]


def test_hits_count_once_and_isolated_cells_neither_way():
    mask = bar()
    mask[10, 10] = True
    lesions = find_lesions(mask, PIXEL_UM, size=(120, 80))
    rows = [
        (0.4, 40 * 32 + 31, 41 * 32), (0.8, 50 * 32, 42 * 32),
        (0.9, 10 * 32, 10 * 32), (0.7, 3200, 2400),
    ]  # fmt: skip
    got = match("a", found(*rows), lesions, 32)
    assert got.lesions.tolist() == [0.8]
    assert got.false_positives.tolist() == [0.7]
    assert got.n_itc == 1
    normal = match("b", found((0.5, 1, 1)), None, 32)
    assert normal.false_positives.tolist() == [0.5]


def test_interpolation():
    x, y = np.array([2.0, 0.0]), np.array([1.0, 0.0])
    assert sensitivity_at(x, y, "step").tolist() == [0, 0, 0, 1, 1, 1]
    assert sensitivity_at(x, y, "linear").tolist() == [0.125, 0.25, 0.5, 1, 1, 1]


@pytest.mark.parametrize("rule", ["official", "corrected"])
def test_a_bootstrap_sample_is_evaluated_as_data(rule):
    random = np.random.default_rng(3)
    slides = [
        hits(random.random(3).round(1), random.random(k % 3).round(1), slide=str(k))
        for k in range(6)
    ]
    drawn = np.random.default_rng(5).integers(6, size=(1, 6))[0]
    expected = froc_curve([slides[k] for k in drawn], rule).score()
    got = bootstrap_froc(slides, rule, "step", 1, 5).score
    assert got == (pytest.approx(expected), pytest.approx(expected))
