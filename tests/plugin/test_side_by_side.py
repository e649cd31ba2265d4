"""Two heatmaps of a slide side by side: each cell shows the slide and its own heatmap."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hpc_heatmap import Run
from napari_hpc_heatmap._heatmap_file import heatmap_layer
from napari_hpc_heatmap._run_layers import run_slide_layers
from napari_hpc_heatmap._side_by_side import are_side_by_side, toggle_side_by_side
from napari_hpc_heatmap._slide_layer import SlideLayer

pytestmark = pytest.mark.gui


def test_each_heatmap_lies_over_the_slide_in_a_cell_of_its_own(
    make_napari_viewer: Any, qtbot: Any, landmark_run: Run
) -> None:
    from plugin.docks_support import wait_for

    (slide,) = landmark_run.slides.values()
    viewer = make_napari_viewer(show=True)
    for layer in run_slide_layers(landmark_run, slide):
        viewer.add_layer(layer)
    toggle_side_by_side(viewer)
    assert not are_side_by_side(viewer)  # There is but one heatmap.
    first = viewer.layers[1]
    second = heatmap_layer(slide.files.heatmap, name="another", colour="cyan to blue")
    viewer.add_layer(second)
    before = [(layer.name, layer.visible) for layer in viewer.layers]
    center, zoom = viewer.scene.camera.center, viewer.scene.camera.zoom

    viewer.layers.selection = {second}
    toggle_side_by_side(viewer)
    assert are_side_by_side(viewer)
    shown = [layer for layer in viewer.layers if layer.visible]
    assert [type(layer) for layer in shown[::2]] == [SlideLayer, SlideLayer]
    assert shown[1::2] == [first, second]
    # A copy decodes nothing of its own.
    assert shown[0].pyramid is shown[2].pyramid
    assert viewer.canvas.grid.actual_shape(viewer.layers) == (1, 2)

    # The cells are laid out by the next turns of the event loop.
    qtbot.wait(500)
    wait_for(lambda: all(getattr(layer, "is_complete", True) for layer in shown))
    picture = viewer.screenshot(flash=False, canvas_only=True)[..., :3].astype(int)
    left, right = np.array_split(picture, 2, axis=1)
    red, blue = (
        [(part[..., a] - part[..., b] > 60).sum() for part in (left, right)]
        for a, b in ((0, 2), (2, 0))
    )
    # Scores are reddish on the left alone and bluish on the right alone; tissue is on both.
    assert red[0] > 100 * max(red[1], 1) and blue[1] > 100 * max(blue[0], 1)
    tissue = [(np.ptp(part, axis=2) > 20).mean() for part in (left, right)]
    assert min(tissue) > 0.2 and tissue[0] == pytest.approx(tissue[1], rel=0.1)

    toggle_side_by_side(viewer)
    assert not are_side_by_side(viewer) and not viewer.canvas.grid.enabled
    assert [(layer.name, layer.visible) for layer in viewer.layers] == before
    assert viewer.scene.camera.center == pytest.approx(center)
    assert viewer.scene.camera.zoom == pytest.approx(zoom)
