"""A change of view takes one frame, which shows all that can be shown."""

from __future__ import annotations

import gc
import sys
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
from plugin.canvas_support import settle
from vispy import gloo
from vispy.util.event import EmitterGroup, Event

from hpc_heatmap import Run
from napari_hpc_heatmap import run_slide_layers
from napari_hpc_heatmap._one_frame import _look_before_drawing


def frames_of(viewer) -> list[np.ndarray]:
    """Pictures that a canvas draws from now on."""
    frames: list[np.ndarray] = []
    viewer.window._qt_viewer.canvas.events.draw.connect(
        lambda event: frames.append(gloo.read_pixels()), position="last"
    )
    return frames


@pytest.mark.gui
def test_a_new_view_of_decoded_tiles_is_one_frame(viewer, qtbot, landmark_run: Run) -> None:
    for layer in run_slide_layers(landmark_run, next(iter(landmark_run.slides.values()))):
        viewer.add_layer(layer)
    camera, slide = viewer.scene.camera, viewer.layers[0]
    unit = slide.scale[0]
    views = [((380 * unit, 450 * unit), 0.3 / unit), ((250 * unit, 300 * unit), 6 / unit)]
    levels = set()
    for centre, zoom in views:
        camera.center, camera.zoom = centre, zoom
        settle(viewer, qtbot)
        levels.add(slide.data_level)
    assert len(levels) == 2
    frames = frames_of(viewer)
    for centre, zoom in views:
        frames.clear()
        camera.center, camera.zoom = centre, zoom
        qtbot.wait(300)
        assert len(frames) == 1
        viewer.screenshot(flash=False)
        assert np.array_equal(frames[0], frames[1])


class Canvas:
    """As much of napari's as is looked at."""

    def __init__(self) -> None:
        self.events = EmitterGroup(source=self, auto_connect=False, draw=Event)
        self.events.ignore_callback_errors = False
        self.done: list[str] = []
        self.events.draw.connect(lambda event: self.done.append("draw"), position="last")

    def on_draw(self, event: Event) -> None:
        self.done.append("look")
        if len(self.done) > 3:
            raise ValueError("a layer cannot be read")


def viewer_of(canvas: object) -> SimpleNamespace:
    return SimpleNamespace(window=SimpleNamespace(_qt_viewer=SimpleNamespace(canvas=canvas)))


def test_a_canvas_looks_once_before_it_draws_and_draws_whatever_happens(monkeypatch) -> None:
    canvas, told = Canvas(), []
    monkeypatch.setattr(sys, "excepthook", lambda *error: told.append(str(error[1])))
    for _ in range(3):
        _look_before_drawing(viewer_of(canvas))
    canvas.events.draw()
    assert canvas.done == ["look", "draw"]
    canvas.events.draw()
    assert not told
    canvas.events.draw()
    assert canvas.done == ["look", "draw"] * 3
    assert told == ["a layer cannot be read"]


def test_a_canvas_is_not_kept() -> None:
    canvas = Canvas()
    draw, gone = canvas.events.draw, weakref.ref(canvas)
    _look_before_drawing(viewer_of(canvas))
    draw.disconnect(draw.callbacks[-1])  # The test's own.
    del canvas
    gc.collect()
    assert gone() is None
    draw()


@pytest.mark.parametrize(
    "viewer",
    [
        SimpleNamespace(),
        SimpleNamespace(window=SimpleNamespace()),
        viewer_of(None),
        viewer_of(SimpleNamespace(on_draw=print)),
    ],
)
def test_in_a_napari_that_is_made_differently_all_stays_as_it_is(viewer) -> None:
    _look_before_drawing(viewer)
