"""In a window: an overlay grows while its run goes, keys, the dock, and memory that comes back."""

from __future__ import annotations

import gc
import shutil
import weakref
from pathlib import Path

import numpy as np
import pytest
from runs.support import unpack_scores
from slides import big_slide

import hpc_heatmap
from hpc_heatmap.formats.heatmap import Heatmap
from napari_hpc_heatmap import _live
from napari_hpc_heatmap._heatmap_dock import HeatmapDock
from napari_hpc_heatmap._keys import heatmaps, toggle_heatmaps, toggle_look
from napari_hpc_heatmap._overlay import HeatmapLayer, Look
from napari_hpc_heatmap._partial_heatmap import PartialHeatmap
from napari_hpc_heatmap._run_layers import run_layers
from napari_hpc_heatmap._slide_layer import SlideLayer, open_slide
from napari_hpc_heatmap._slide_pyramid import SlidePyramid
from napari_hpc_heatmap._view_settings import tile_cache

pytestmark = pytest.mark.gui


@pytest.fixture
def growing_run(landmark_run: hpc_heatmap.Run, tmp_path: Path) -> hpc_heatmap.Run:
    """The same run before its first score."""
    root = tmp_path / "run"
    shutil.copytree(landmark_run.root, root)
    files = hpc_heatmap.open_run(root).slides["slide"].files
    files.slide_scores.unlink()
    for file in (files.heatmap, files.lesions_csv, files.lesions_geojson, files.overview):
        file.unlink()
    return hpc_heatmap.open_run(root)


def n_scores(layer: HeatmapLayer) -> int:
    return int(np.isfinite(np.asarray(layer.data[0])).sum())


def test_an_overlay_grows_with_its_run(
    make_napari_viewer, qtbot, monkeypatch, growing_run, landmark_run, tmp_path
) -> None:
    monkeypatch.setattr(_live, "POLL_S", 0.05)
    viewer = make_napari_viewer(show=True)
    slide, heatmap = run_layers(growing_run)
    viewer.add_layer(slide)
    viewer.add_layer(heatmap)
    heatmap.threshold = 0.0
    assert n_scores(heatmap) == 0
    before = viewer.screenshot(flash=False)
    done, here = landmark_run.slides["slide"].files, growing_run.slides["slide"].files
    here.scores.mkdir()
    for file in unpack_scores(done, tmp_path / "all"):
        had = n_scores(heatmap)
        # As a task does it: written beside, then renamed.
        partial = here.scores / f".{file.name}.partial"
        shutil.copy(file, partial)
        partial.rename(here.scores / file.name)
        qtbot.waitUntil(lambda had=had: n_scores(heatmap) > had, timeout=20_000)
    assert isinstance(heatmap.scores, PartialHeatmap)
    qtbot.waitUntil(
        lambda: not np.array_equal(viewer.screenshot(flash=False), before), timeout=20_000
    )
    shutil.copy(done.heatmap, here.heatmap.with_name("copy"))
    here.heatmap.with_name("copy").rename(here.heatmap)
    qtbot.waitUntil(lambda: isinstance(heatmap.scores, Heatmap), timeout=20_000)
    assert n_scores(heatmap) == np.isfinite(landmark_run.slides["slide"].heatmap.scores).sum()


def test_keys_hide_and_outline_heatmaps(make_napari_viewer, landmark_run) -> None:
    viewer = make_napari_viewer()
    for layer in run_layers(landmark_run):
        viewer.add_layer(layer)
    (heatmap,) = heatmaps(viewer)
    toggle_heatmaps(viewer)
    assert not heatmap.visible
    toggle_heatmaps(viewer)
    assert heatmap.visible
    toggle_look(viewer)
    assert heatmap.look is Look.CONTOUR
    toggle_look(viewer)
    assert heatmap.look is Look.FILL


def test_the_dock_controls_the_heatmap_that_is_selected(make_napari_viewer, landmark_run) -> None:
    viewer = make_napari_viewer()
    dock = HeatmapDock(viewer)
    viewer.window.add_dock_widget(dock)
    assert not dock.threshold.isEnabled()
    for layer in (*run_layers(landmark_run), *run_layers(landmark_run)):
        viewer.add_layer(layer)
    first, second = (layer for layer in viewer.layers if isinstance(layer, HeatmapLayer))
    assert first.colour != second.colour
    viewer.layers.selection.active = first
    dock.threshold.setValue(0.8)
    dock.opacity.setValue(0.5)
    dock.look.setCurrentText("contours")
    assert (first.threshold, first.opacity, first.look) == (0.8, 0.5, Look.CONTOUR)
    viewer.layers.selection.active = second
    assert (dock.threshold.value(), dock.look.currentText()) == (second.threshold, "areas")
    assert dock.colour.currentText() == second.colour
    second.threshold = 0.3
    assert dock.threshold.value() == pytest.approx(0.3)
    viewer.layers.remove(second)
    dock.colour.setCurrentText("grey to black")
    assert first.colour == "grey to black"
    viewer.layers.clear()
    assert not dock.threshold.isEnabled()


def test_the_first_slide_of_a_viewer_is_decoded_for_the_view_of_it_all(
    make_napari_viewer, monkeypatch, tmp_path: Path
) -> None:
    path = big_slide(tmp_path / "slide.tiff", 4096, 4096, downsamples=(1, 4))
    foreseen = []
    monkeypatch.setattr(SlidePyramid, "foresee", lambda self: foreseen.append(self))
    open_slide(path)
    assert not foreseen
    viewer = make_napari_viewer()
    for _ in range(2):
        viewer.add_layer(open_slide(path))
    assert foreseen == [viewer.layers[0].pyramid]


def test_memory_returns_when_a_slide_is_removed(make_napari_viewer, qtbot, tmp_path: Path) -> None:
    path = big_slide(tmp_path / "slide.tiff", 4096, 4096, downsamples=(1, 4, 16))
    viewer = make_napari_viewer(show=True)
    gc.collect()
    cache = tile_cache()
    before = cache.n_bytes
    layer = open_slide(path)
    viewer.add_layer(layer)
    viewer.scene.camera.zoom = 4 / layer.scale[0]
    viewer.screenshot(flash=False)
    gone = weakref.ref(layer)
    qtbot.waitUntil(lambda: gone().is_complete, timeout=20_000)
    assert cache.n_bytes > before
    assert isinstance(gone(), SlideLayer)
    viewer.layers.clear()
    del layer
    qtbot.wait(50)
    gc.collect()
    assert gone() is None
    assert cache.n_bytes == before
