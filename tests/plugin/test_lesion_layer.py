"""Layers of lesions: where they must be, and still usable where there are very many."""

from __future__ import annotations

import numpy as np
import pytest

import hpc_heatmap
from hpc_heatmap.errors import FormatError
from hpc_heatmap.formats.lesion_files import Lesion
from napari_hpc_heatmap._lesion_layer import MOST_OUTLINES, lesion_layers, make_lesion_layers
from napari_hpc_heatmap._world import World

LANDMARK_PX = (400.0, 300.0)


def test_a_lesion_lies_on_its_landmark_in_micrometres(landmark_run: hpc_heatmap.Run) -> None:
    slide = landmark_run.slides["slide"]
    outlines, points = lesion_layers(slide)
    (y, x) = points.data_to_world(points.data[0])
    assert slide.entry.spacing_um == pytest.approx((0.5, 0.5))
    assert np.abs(np.array((x, y)) - np.multiply(LANDMARK_PX, 0.5)).max() <= 1
    assert points.units == outlines.units
    assert {str(unit) for unit in points.units} == {"micrometer"}
    (feature,) = points.features.to_dict("records")
    assert feature["number"] == 1
    assert 0.7 < feature["score"] <= feature["max_score"] <= 1
    assert feature["area_um2"] == pytest.approx(feature["area_px"] / 4)
    # The score falls to the threshold some 5 px inside of the disc's edge; a sample is 8 px.
    (outline,) = outlines.data
    distances = np.hypot(outline[:, 1] - LANDMARK_PX[0], outline[:, 0] - LANDMARK_PX[1])
    assert 35 - 8 <= distances.min() <= distances.max() <= 35 + 8
    assert outlines.features["number"].tolist() == [1]


def test_a_slide_that_is_not_done_says_so(landmark_run: hpc_heatmap.Run, tmp_path) -> None:
    from hpc_heatmap.formats.paths import RunPaths
    from hpc_heatmap.runs.run import RunSlide

    entry = landmark_run.slides["slide"].entry
    with pytest.raises(FormatError, match="resume"):
        lesion_layers(RunSlide(entry, RunPaths(tmp_path)))


def test_no_lesion_gives_empty_layers() -> None:
    outlines, points = make_lesion_layers([], World(None), "empty")
    assert len(points.data) == len(outlines.data) == 0
    assert {str(unit) for unit in points.units} == {"pixel"}


@pytest.mark.slow
def test_a_hundred_thousand_lesions_are_points_and_the_foremost_have_outlines() -> None:
    rng = np.random.default_rng(0)
    angle = np.linspace(0, 2 * np.pi, 17)
    circle = 20 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    scores = rng.uniform(0.5, 1, 100_000)
    centres = rng.uniform(0, 40_000, (100_000, 2))
    lesions = [
        Lesion(i + 1, score, score, x, y, 5, 1000.0, ((circle + (x, y),),))  # noqa: RUF005
        for i, (score, (x, y)) in enumerate(zip(scores, centres, strict=True))
    ]
    outlines, points = make_lesion_layers(lesions, World((0.25, 0.25)), "many")
    assert len(points.data) == 100_000
    assert np.array_equal(points.data, centres[:, ::-1])
    assert len(outlines.data) == MOST_OUTLINES
    drawn = outlines.features["number"].to_numpy() - 1
    assert scores[drawn].min() >= np.sort(scores)[-MOST_OUTLINES]
    assert outlines.metadata["hpc_heatmap_left_out"] == 100_000 - MOST_OUTLINES
