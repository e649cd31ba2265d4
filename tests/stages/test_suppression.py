"""Non-maximum suppression against the rules written out as loops."""

from __future__ import annotations

import numpy as np
import pytest

from hpc_heatmap.formats.decimation import Decimated
from hpc_heatmap.settings import LesionMethod, RunSettings
from hpc_heatmap.stages import suppression
from hpc_heatmap.stages.lesion_methods import find_lesions
from hpc_heatmap.stages.suppression import detect_peaks, reach


def on_lattice(scores, origin_px, step_px):
    return Decimated(scores, origin_px, step_px, 16)


def monai(scores, threshold, box):
    """Highest score, empty a box around it, again: rows first among equal scores."""
    left, found = np.nan_to_num(scores.copy(), nan=0.0), []
    low, high = box // 2, box - box // 2
    while left.max() > threshold:
        row, column = np.unravel_index(left.argmax(), left.shape)
        found.append((row, column, left[row, column]))
        left[max(0, row - low) : row + high, max(0, column - low) : column + high] = 0
    return found


def ncrf(scores, threshold, radius):
    """The same on a map whose first axis is x."""
    left, found = np.nan_to_num(scores.T.copy(), nan=0.0), []
    while left.max() > threshold:
        xs, ys = np.where(left == left.max())
        x, y = xs[0], ys[0]
        found.append((y, x, left[x, y]))
        left[max(0, x - radius) : x + radius, max(0, y - radius) : y + radius] = 0
    return found


def random_scores(seed, levels=12):
    """Many equal scores, and holes."""
    rng = np.random.default_rng(seed)
    scores = (np.floor(rng.random((70, 90)) * levels) / levels).astype(np.float32)
    scores[rng.random(scores.shape) < 0.2] = np.nan
    return scores


def places(lesions):
    return [(int(le.y_px) // 16, int(le.x_px) // 16, np.float32(le.score)) for le in lesions]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("side", [1, 2, 5, 24])
def test_the_slow_rules_give_the_same(seed, side, monkeypatch):
    monkeypatch.setattr(suppression, "_CHUNK", 97)
    monkeypatch.setattr(suppression, "_BLOCK", 33)
    scores = random_scores(seed)
    heatmap = on_lattice(scores, (3.0, 3.0), (16.0, 16.0))
    found = detect_peaks(heatmap, 0.5, side // 2, side - side // 2)
    assert places(found) == monai(scores, 0.5, side)
    if side > 1:
        radius = side // 2
        found = detect_peaks(heatmap, 0.5, radius, radius, columns_first=True)
        assert places(found) == ncrf(scores, 0.5, radius)
    assert [lesion.number for lesion in found] == list(range(1, len(found) + 1))


def test_squares_are_those_of_the_rules_at_their_levels():
    monai_, ncrf_ = LesionMethod.NMS_MONAI, LesionMethod.NMS_NCRF
    assert reach(monai_, 224, 32) == (24, 24)
    assert reach(ncrf_, 224, 64) == (12, 12)
    assert reach(monai_, 224, 16) == reach(ncrf_, 224, 16) == (48, 48)
    assert reach(ncrf_, 224, 224) == (3, 3) and reach(monai_, 224, 224) == (3, 4)
    assert reach(monai_, 32, 32) == reach(monai_, 224, 224)


def test_a_peak_is_a_lesion_of_one_sample():
    scores = np.full((9, 9), np.nan, np.float32)
    scores[4, 6], scores[1, 1] = 0.75, 0.5
    (lesion,) = find_lesions(
        on_lattice(scores, (10.0, 20.0), (16.0, 8.0)),
        RunSettings(lesion_method="nms-ncrf", threshold=0.9),
        224,
        16,
    )
    assert (lesion.x_px, lesion.y_px) == (10 + 6 * 16, 20 + 4 * 8)
    assert (lesion.score, lesion.n_samples, lesion.area_px) == (0.75, 1, 128)
    ((ring,),) = lesion.polygons
    assert ring.min(axis=0).tolist() == [98, 48] and ring.max(axis=0).tolist() == [114, 56]


def test_nothing_above_the_threshold_is_no_peak():
    scores = np.full((9, 9), 0.5, np.float32)
    assert detect_peaks(on_lattice(scores, (0.0, 0.0), (1.0, 1.0)), 0.5, 2, 2) == []


def test_the_threshold_is_that_of_the_method():
    scores = np.zeros((200, 200), np.float32)
    scores[40:100, 40:100] = 0.7
    heatmap = on_lattice(scores, (0.0, 0.0), (16.0, 16.0))
    assert find_lesions(heatmap, RunSettings(), 224, 16) == []
    assert len(find_lesions(heatmap, RunSettings(threshold=0.6), 224, 16)) == 1
    assert find_lesions(heatmap, RunSettings(lesion_method="nms-monai"), 224, 16)
    high = RunSettings(lesion_method="nms-monai", nms_threshold=0.8)
    assert find_lesions(heatmap, high, 224, 16) == []
