"""Heatmaps and runs in napari."""

from __future__ import annotations

from pathlib import Path

import napari.layers
import numpy as np
import pytest
from slides import landmark_slide

import hpc_heatmap
from napari_hpc_heatmap._reader import get_reader

LANDMARK_PX = (400, 300)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> hpc_heatmap.Run:
    folder = tmp_path_factory.mktemp("reader")
    slide = landmark_slide(folder / "slide.tiff", 700, 600, LANDMARK_PX, 12, downsamples=(1,))
    weights = np.exp(-((np.indices((64, 64)) - 31.5) ** 2).sum(0) / 50)

    def darkness(windows: np.ndarray) -> np.ndarray:
        dark = (255 - windows.mean(axis=3)) / 255
        return (dark * weights).sum(axis=(1, 2)) / weights.sum()

    model = hpc_heatmap.FunctionClassifier(darkness, window_px=64)
    settings = hpc_heatmap.RunSettings(stride=4, tissue_method="all", threshold=0.99)
    planned = hpc_heatmap.start_run([slide], model, folder / "run", settings=settings)
    planned.resume(model=model)
    return planned


def test_a_run_and_a_heatmap_open_as_the_same_overlay(run: hpc_heatmap.Run) -> None:
    for path in (run.root, run.slides["slide"].files.heatmap):
        reader = get_reader(str(path))
        assert reader is not None
        ((levels, options, kind),) = reader(str(path))
        layer = napari.layers.Image(levels, **options)
        assert kind == "image"
        assert layer.name == "slide heatmap"
        # The sample with the highest score lies on the landmark, in the slide's own pixels.
        scores = np.asarray(levels[0])
        row, column = np.unravel_index(np.nanargmax(scores), scores.shape)
        y, x = layer.data_to_world((row, column))
        assert abs(x - LANDMARK_PX[0]) <= 2
        assert abs(y - LANDMARK_PX[1]) <= 2
        assert layer.contrast_limits == [0, 1]
        assert layer.colormap.map(np.array([0.0]))[0, 3] == 0
        options["metadata"]["hpc_heatmap"].close()


def test_other_files_are_left_to_others(tmp_path: Path) -> None:
    assert get_reader(str(tmp_path)) is None
    assert get_reader(str(tmp_path / "image.tif")) is None
    assert get_reader([str(tmp_path / "heatmap.h5")]) is None
