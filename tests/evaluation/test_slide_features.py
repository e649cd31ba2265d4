"""Features of heatmaps that are made for the purpose."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from reference import reference
from skimage.measure import label, regionprops
from skimage.segmentation import clear_border

from hpc_heatmap.evaluation.slide_features import FEATURES, lattice_unit, slide_features


def blocks():
    scores = np.full((60, 80), np.nan, np.float32)
    scores[2:58, 2:78] = 0.1
    scores[10:20, 10:30] = 0.8
    scores[12, 12] = 1.0
    scores[40:45, 40:52] = 0.6
    return scores


def test_names_are_those_of_the_papers_authors():
    path = reference("slide_level") / "features_with_normalization_thr05_test.csv"
    with path.open(newline="") as file:
        assert next(csv.reader(file))[3:] == list(FEATURES)


def test_shares_of_the_tissue():
    found, tissue = slide_features(blocks()), 56 * 76
    assert found["ratio_cancer_tissue50"] == 260 / tissue
    assert found["ratio_cancer_tissue70"] == 200 / tissue
    assert found["ratio_cancer_tissue90"] == 1 / tissue
    # 0.8 is not above 0.8 as the heatmap holds it but for its rounding to single precision.
    assert found["ratio_sum_tissue70"] == pytest.approx((199 * 0.1 + 0.3) / tissue, rel=1e-5)


def test_the_two_largest_regions():
    found = slide_features(blocks())
    assert found["largest_area"] == 200
    assert found["area_bbox_largest"] == 200
    assert found["extend_largest"] == found["solidity_largest"] == 1
    assert found["aspect_ratio_bbox_largest"] == 0.5
    assert found["maxprob_largest"] == 1
    assert found["minprob_largest"] == pytest.approx(0.8)
    assert found["aveprob_largest"] == pytest.approx((199 * 0.8 + 1) / 200)
    assert found["second_largest_area"] == 60
    assert found["aspect_ratio_bbox_second_largest"] == pytest.approx(5 / 12)


def test_one_region_is_not_counted_twice_and_none_gives_zeros():
    scores = blocks()
    scores[40:45, 40:52] = 0.1
    found = slide_features(scores)
    assert found["largest_area"] == 200
    assert all(found[name] == 0 for name in FEATURES if "second" in name)
    scores[:] = np.nan
    assert set(slide_features(scores).values()) == {0.0}


def test_regions_of_equal_size_are_both_there():
    scores = np.full((40, 40), 0.1, np.float32)
    scores[3:8, 3:8], scores[20:25, 20:25] = 0.9, 0.7
    found = slide_features(scores)
    assert found["largest_area"] == found["second_largest_area"] == 25
    assert (found["maxprob_largest"], found["maxprob_second_largest"]) == pytest.approx((0.9, 0.7))


def test_regions_at_the_border_do_not_count():
    scores = np.full((40, 40), 0.1, np.float32)
    scores[0:30, 3:30] = 0.9
    scores[33:36, 33:36] = 0.9
    assert slide_features(scores)["largest_area"] == 9


def test_the_slow_way_gives_the_same():
    rng = np.random.default_rng(5)
    scores = rng.random((90, 120)).astype(np.float32) ** 3
    scores[rng.random(scores.shape) < 0.1] = np.nan
    hot = clear_border(np.nan_to_num(scores, nan=0.0) > 0.5)
    # Of the border the whole region goes, touching by corners included.
    regions = regionprops(
        label(hot, connectivity=2), intensity_image=np.nan_to_num(scores, nan=0.0)
    )
    whole = label(np.nan_to_num(scores, nan=0.0) > 0.5, connectivity=2)
    edge = set(whole[0]) | set(whole[-1]) | set(whole[:, 0]) | set(whole[:, -1])
    regions = [r for r in regions if whole[tuple(r.coords[0])] not in edge]
    regions.sort(key=lambda r: -r.area)
    found = slide_features(scores)
    for which, region in zip(("largest", "second_largest"), regions, strict=False):
        assert found[f"{which}_area"] == region.area
        assert found[f"aveprob_{which}"] == pytest.approx(region.intensity_mean)
        assert found[f"solidity_{which}"] == pytest.approx(region.solidity)
        assert found[f"major_axis_length_{which}"] == pytest.approx(region.axis_major_length)


def test_lengths_are_in_steps_of_the_papers_lattice():
    assert lattice_unit(224, 16) == 1
    assert lattice_unit(96, 24) == pytest.approx(3.5)
    y, x = np.mgrid[:400, :400]
    fine = np.where(np.hypot(x - 203.2, y - 190.1) < 120, 0.9, 0.1).astype(np.float32)
    one, four = slide_features(fine), slide_features(fine[::4, ::4], unit=4.0)
    for name in ("largest_area", "major_axis_length_largest", "area_bbox_largest"):
        assert four[name] == pytest.approx(one[name], rel=0.04)
