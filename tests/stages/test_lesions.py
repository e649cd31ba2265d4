"""Lesions of heatmaps that are made for the purpose."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpc_heatmap.formats.heatmap import Heatmap, write_heatmap
from hpc_heatmap.formats.lesion_files import write_lesions_csv, write_lesions_geojson
from hpc_heatmap.geometry import Geometry
from hpc_heatmap.stages import lesions as lesions_module
from hpc_heatmap.stages.lesions import detect_lesions, kernel_radius


def heatmap_of(path, scores, stride=16):
    """A heatmap with the scores, its sample (0, 0) at the position 111.5 or before."""
    height, width = (112 % stride + (n - 1) * stride + 1 for n in scores.shape)
    geometry = Geometry(width, height, 224, stride)
    scores = scores.astype(np.float32)
    write_heatmap(path, geometry, lambda r, c, n, m: scores[r : r + n, c : c + m], {})
    return Heatmap(path)


def found_in(path, scores, *, threshold=0.5, radius=0.0, stride=16):
    with heatmap_of(path, scores, stride) as heatmap:
        return detect_lesions(heatmap, threshold, radius)


def disc(shape, centre, radius):
    y, x = np.mgrid[: shape[0], : shape[1]]
    return np.hypot(x - centre[0], y - centre[1]) <= radius


def ring_area(ring):
    x, y = ring.T
    return abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def outline_area(lesion):
    return sum(
        ring_area(polygon[0]) - sum(map(ring_area, polygon[1:])) for polygon in lesion.polygons
    )


def as_numbers(lesions):
    """Everything of lesions that can be compared."""
    return [
        (
            lesion.number, lesion.n_samples, lesion.area_px, round(lesion.score, 9),
            lesion.max_score, round(lesion.x_px, 6), round(lesion.y_px, 6),
            sorted(sorted(map(tuple, ring.tolist())) for p in lesion.polygons for ring in p),
        )
        for lesion in lesions
    ]  # fmt: skip


def test_the_kernel_is_the_papers_and_scales_with_the_stride():
    assert kernel_radius(224, 16) == pytest.approx(10)
    assert kernel_radius(224, 64) == pytest.approx(2.5)
    assert kernel_radius(96, 24) == pytest.approx(96 * 10 / 7 / 24 / 2)


def test_scores_at_the_threshold_belong_to_the_lesion(tmp_path):
    scores = np.zeros((9, 9))
    scores[2:4, 2:4] = 0.5
    scores[6, 6] = 0.4999
    scores[2, 2] = 0.7
    (lesion,) = found_in(tmp_path / "h.h5", scores)
    assert lesion.n_samples == 4
    assert lesion.score == pytest.approx((3 * 0.5 + 0.7) / 4)
    assert lesion.max_score == pytest.approx(0.7)
    assert lesion.area_px == 4 * 16**2


def test_regions_are_joined_at_corners(tmp_path):
    scores = np.zeros((9, 9))
    scores[2, 2] = scores[3, 3] = scores[6, 3] = 0.9
    lesions = found_in(tmp_path / "h.h5", scores)
    assert sorted(lesion.n_samples for lesion in lesions) == [1, 2]


def test_the_highest_score_comes_first(tmp_path):
    scores = np.zeros((20, 20))
    for k, score in enumerate((0.6, 0.9, 0.7)):
        scores[2:5, 6 * k : 6 * k + 3] = score
    lesions = found_in(tmp_path / "h.h5", scores)
    assert [lesion.number for lesion in lesions] == [1, 2, 3]
    assert [round(lesion.score, 3) for lesion in lesions] == [0.9, 0.7, 0.6]


def test_gaps_are_closed_and_specks_removed(tmp_path):
    radius = kernel_radius(224, 16)
    scores = np.zeros((160, 200))
    scores[disc(scores.shape, (50, 60), 25)] = 0.9
    scores[:, 48:52] = 0  # a gap of 4 samples
    scores[disc(scores.shape, (150, 60), 6)] = 0.9  # smaller than the kernel
    lesions = found_in(tmp_path / "h.h5", scores, radius=radius)
    assert len(lesions) == 1
    full = disc(scores.shape, (50, 60), 25).sum()
    assert lesions[0].n_samples == pytest.approx(full, rel=0.03)
    # The gap belongs to the region: its zeros count in the mean.
    assert lesions[0].score < 0.85


@pytest.mark.parametrize("corner", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_a_lesion_at_the_edge_is_kept_as_it_is(tmp_path, corner):
    """Closing does not stick to the edge; opening takes no more there than elsewhere."""
    shape = 120, 140
    scores = np.zeros(shape)
    rows = slice(0, 40) if not corner[0] else slice(80, 120)
    columns = slice(0, 50) if not corner[1] else slice(90, 140)
    scores[rows, columns] = 0.9
    (lesion,) = found_in(tmp_path / "h.h5", scores, radius=10)
    assert 0.93 * 2000 < lesion.n_samples <= 2000


@pytest.mark.parametrize("stride", [16, 48, 64])
def test_a_disc_has_the_same_outline_at_every_stride(tmp_path, stride):
    """Level-0 position and area of a tumour of 1,600 px radius."""
    centre, radius_px = (3000.0, 2500.0), 1600.0
    first = 112 % stride - 0.5
    shape = 5600 // stride, 6400 // stride
    y, x = (first + stride * np.arange(n) for n in shape)
    scores = np.where(np.hypot(x[None] - centre[0], y[:, None] - centre[1]) <= radius_px, 0.95, 0.1)
    (lesion,) = found_in(
        tmp_path / "h.h5", scores, radius=kernel_radius(224, stride), stride=stride
    )
    assert lesion.area_px == pytest.approx(np.pi * radius_px**2, rel=0.02)
    assert outline_area(lesion) == pytest.approx(lesion.area_px, rel=0.01)
    assert (lesion.x_px, lesion.y_px) == pytest.approx(centre, abs=stride / 2)
    (outer,) = lesion.polygons[0]
    away = np.hypot(*(outer - centre).T)
    assert np.abs(away - radius_px).max() < 1.5 * stride


def test_holes_are_rings(tmp_path):
    scores = np.full((80, 90), np.nan)
    scores[5:75, 5:85] = 0.95
    scores[disc(scores.shape, (40, 40), 18)] = 0.1
    (lesion,) = found_in(tmp_path / "h.h5", scores, radius=5)
    ((outer, hole),) = lesion.polygons
    step, origin = 16, 111.5 - 112 + 112 % 16
    centre = np.array([40, 40]) * step + origin
    assert np.abs(np.hypot(*(hole - centre).T) / step - 18).max() < 1.5
    assert ring_area(hole) == pytest.approx(np.pi * 18**2 * step**2, rel=0.05)
    assert outline_area(lesion) == pytest.approx(lesion.area_px, rel=0.02)
    assert outer.min() < hole.min() and outer.max() > hole.max()


def test_what_has_no_score_counts_for_nothing(tmp_path):
    scores = np.full((40, 40), np.nan)
    scores[10:30, 10:30] = 0.8
    scores[18:20, 18:20] = np.nan
    (lesion,) = found_in(tmp_path / "h.h5", scores, radius=4)
    assert lesion.score == pytest.approx(0.8)
    # Opening rounds the corners off; closing fills the gap.
    assert 360 <= lesion.n_samples <= 400
    assert found_in(tmp_path / "none.h5", np.full((9, 9), np.nan)) == []


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    seed=st.integers(0, 2**32 - 1),
    radius=st.sampled_from([0.0, 1.5, 3.0, 4.7]),
    block=st.sampled_from([5, 8, 13]),
)
def test_lesions_do_not_depend_on_the_blocks(tmp_path, monkeypatch, seed, radius, block):
    rng = np.random.default_rng(seed)
    scores = np.zeros((90, 100))
    for _ in range(int(rng.integers(1, 9))):
        centre, size = rng.integers(0, 95, 2), rng.uniform(1, 9)
        scores[disc(scores.shape, centre, size)] = rng.uniform(0.5, 1)
    scores[rng.random(scores.shape) < 0.01] = np.nan
    with heatmap_of(tmp_path / "h.h5", scores) as heatmap:
        expected = as_numbers(detect_lesions(heatmap, 0.5, radius))
        with monkeypatch.context() as patch:
            patch.setattr(lesions_module, "_BLOCK", block)
            assert as_numbers(detect_lesions(heatmap, 0.5, radius)) == expected


@pytest.mark.parametrize("block", [2, 4, 512])
def test_a_gap_wider_than_a_block_is_closed(tmp_path, monkeypatch, block):
    monkeypatch.setattr(lesions_module, "_BLOCK", block)
    scores = np.zeros((60, 80))
    scores[10:50, 10:35] = scores[10:50, 45:70] = 0.9
    (lesion,) = found_in(tmp_path / "h.h5", scores, radius=6.0)
    assert lesion.n_samples == pytest.approx(40 * 60, rel=0.05)


def test_a_lesion_within_the_arms_of_another_is_found_once(tmp_path, monkeypatch):
    """The rectangle of the outer one holds the inner one."""
    monkeypatch.setattr(lesions_module, "_BLOCK", 8)
    scores = np.zeros((120, 120))
    scores[4:8, 4:116] = scores[4:116, 4:8] = scores[112:116, 4:116] = 0.9
    scores[56:64, 56:64] = 0.8
    lesions = found_in(tmp_path / "h.h5", scores, radius=1.5)
    assert [round(lesion.score, 2) for lesion in lesions] == [0.9, 0.8]


def test_files_of_lesions(tmp_path):
    scores = np.zeros((60, 60))
    scores[5:45, 5:45] = 0.9
    scores[20:30, 20:30] = 0.1
    scores[50, 50] = scores[51, 51] = 0.7
    lesions = found_in(tmp_path / "h.h5", scores, threshold=0.5)
    write_lesions_csv(tmp_path / "l.csv", lesions, (0.5, 0.25))
    write_lesions_geojson(tmp_path / "l.geojson", lesions, (0.5, 0.25))
    with (tmp_path / "l.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["number"] for row in rows] == ["1", "2"]
    assert float(rows[0]["score"]) == pytest.approx(0.9)
    assert float(rows[0]["area_px"]) == 1500 * 256
    assert float(rows[0]["area_um2"]) == 1500 * 256 * 0.125
    collection = json.loads((tmp_path / "l.geojson").read_text())
    assert collection["type"] == "FeatureCollection"
    assert len(collection["features"]) == 2
    for feature, lesion in zip(collection["features"], lesions, strict=True):
        shape = feature["geometry"]
        single = shape["type"] == "Polygon"
        assert single == (len(lesion.polygons) == 1)
        polygons = [shape["coordinates"]] if single else shape["coordinates"]
        for rings, expected in zip(polygons, lesion.polygons, strict=True):
            assert len(rings) == len(expected)
            for ring, points in zip(rings, expected, strict=True):
                assert len(ring) >= 4
                assert ring[0] == ring[-1]
                np.testing.assert_allclose(ring[: len(points)], points, atol=0.006)
    assert len(collection["features"][0]["geometry"]["coordinates"]) == 2
    # Samples 5 to 44 stand at 5 * 16 - 0.5 ...; the outline is half a step outside of them.
    outer = np.array(collection["features"][0]["geometry"]["coordinates"][0])
    assert outer.min() == 4.5 * 16 - 0.5
    assert outer.max() == 44.5 * 16 - 0.5


def test_no_lesions_give_an_empty_table_and_an_empty_collection(tmp_path):
    lesions = found_in(tmp_path / "h.h5", np.full((30, 30), 0.4))
    assert lesions == []
    write_lesions_csv(tmp_path / "l.csv", lesions, None)
    write_lesions_geojson(tmp_path / "l.geojson", lesions, None)
    header, *rows = (tmp_path / "l.csv").read_text().splitlines()
    assert header.startswith("number,score,")
    assert rows == []
    collection = json.loads((tmp_path / "l.geojson").read_text())
    assert collection == {"type": "FeatureCollection", "features": []}


def test_an_unknown_spacing_leaves_the_area_empty(tmp_path):
    scores = np.zeros((9, 9))
    scores[2:5, 2:5] = 0.9
    write_lesions_csv(tmp_path / "l.csv", found_in(tmp_path / "h.h5", scores), None)
    with (tmp_path / "l.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["area_um2"] == ""
