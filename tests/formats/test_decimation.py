"""Every k-th score of a run is the score of a run at k times its stride."""

from __future__ import annotations

import numpy as np
import pytest
from chain import group, score_and_stitch
from slides import landmark_slide

from hpc_heatmap import FunctionClassifier
from hpc_heatmap.errors import SettingsError
from hpc_heatmap.formats.decimation import decimate

WINDOW_PX = 32


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    folder = tmp_path_factory.mktemp("decimation")
    return landmark_slide(
        folder / "s.tiff", 421, 355, (180, 150), 50, glass_px=(64,) * 4, downsamples=(1, 4)
    )


def heatmap_at(stride, slide, folder):
    model = FunctionClassifier(lambda w: 1 - w.mean(axis=(1, 2, 3)) / 255, WINDOW_PX)
    paths = group(slide, folder / f"{stride}", WINDOW_PX, stride, None)
    return score_and_stitch(paths, model, stride)


@pytest.mark.parametrize("wider", [4, 8, 12, 16, 24, 32])
def test_a_run_at_the_wider_stride_gives_the_same(wider, slide, tmp_path):
    with heatmap_at(4, slide, tmp_path) as fine, heatmap_at(wider, slide, tmp_path) as coarse:
        found = decimate(fine, WINDOW_PX, 4, wider)
        np.testing.assert_array_equal(found.scores, coarse.dataset()[:])
        assert found.scores.dtype == np.float32
        assert found.origin_px == pytest.approx(coarse.origin_px)
        assert found.step_px == pytest.approx(coarse.step_px)


@pytest.mark.parametrize("wider", [2, 6, 36])
def test_other_strides_are_refused(wider, slide, tmp_path):
    with (
        heatmap_at(4, slide, tmp_path) as fine,
        pytest.raises(SettingsError, match="give multiples of 4 up to the window of 32 px"),
    ):
        decimate(fine, WINDOW_PX, 4, wider)
