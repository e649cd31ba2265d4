"""Tests in napari: those marked `gui` need a screen and a Qt binding; else they skip, saying so."""

from __future__ import annotations

import importlib.util
import os
import sys

import numpy as np
import pytest
from slides import landmark_slide

import hpc_heatmap

# Settings of whoever runs the tests are neither read nor written.
os.environ["NAPARI_CONFIG"] = ""


def _missing(config: pytest.Config) -> str | None:
    """What a window needs and is not here."""
    has_screen = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if sys.platform.startswith("linux") and not has_screen:
        return "no screen: run it as `scripts/with-screen python -m pytest ...`"
    if not any(map(importlib.util.find_spec, ("PyQt6", "PySide6"))):
        return "no Qt binding: install PyQt6 or PySide6"
    if not (
        config.pluginmanager.hasplugin("pytest-qt") and config.pluginmanager.has_plugin("napari")
    ):
        return "pytest runs without its plug-ins pytest-qt and napari"
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what cannot run here."""
    reason = _missing(config)
    for item in items:
        if reason and item.get_closest_marker("gui"):
            item.add_marker(pytest.mark.skip(reason=reason))


#: Level-0 position, (x, y), and radius of the dark disc on the slide of `landmark_run`.
LANDMARK_PX = (400.0, 300.0)
LANDMARK_RADIUS_PX = 40


def centre_darkness(windows: np.ndarray) -> np.ndarray:
    """Score a window of 32 px by how dark its centre is."""
    weights = np.exp(-((np.indices((32, 32)) - 15.5) ** 2).sum(0) / 50)
    return ((255 - windows.mean(axis=3)) / 255 * weights).sum(axis=(1, 2)) / weights.sum()


@pytest.fixture(scope="session")
def landmark_run(tmp_path_factory: pytest.TempPathFactory) -> hpc_heatmap.Run:
    """A finished run on a slide of tissue with one dark disc, its only lesion."""
    folder = tmp_path_factory.mktemp("landmark")
    slide = landmark_slide(
        folder / "slide.tiff", 900, 760, LANDMARK_PX, LANDMARK_RADIUS_PX, downsamples=(1, 4)
    )
    model = hpc_heatmap.FunctionClassifier(centre_darkness, window_px=32)
    settings = hpc_heatmap.RunSettings(stride=8, tissue_method="all", threshold=0.7)
    run = hpc_heatmap.start_run([slide], model, folder / "run", settings=settings)
    run.resume(model=model)
    return run


@pytest.fixture
def viewer(make_napari_viewer, qtbot):
    """A viewer with nothing around its canvas that could change the canvas's size."""
    viewer = make_napari_viewer(show=True)
    window = viewer.window._qt_viewer
    window.dockLayerControls.setVisible(False)
    window.dockLayerList.setVisible(False)
    viewer.window._qt_window.statusBar().setVisible(False)
    qtbot.wait(200)
    return viewer
