"""One slide of a run is shown at a time; the layers of the others are hidden."""

from __future__ import annotations

from typing import Any

from hpc_heatmap import Run
from napari_hpc_heatmap._keys import bind_keys
from napari_hpc_heatmap._run_layers import run_slide_layers

__all__ = ["show_slide"]


def show_slide(viewer: Any, run: Run, slide_id: str) -> None:
    """Show the layers of a slide; they are added where they are not there yet.

    Parameters
    ----------
    viewer
        The viewer.
    run, slide_id
        The slide.

    Raises
    ------
    HpcHeatmapError
        It cannot be opened.
    """
    names = {slide_id, f"{slide_id} {run.root.name}", f"{slide_id} outlines", f"{slide_id} lesions"}
    others = {
        name
        for other in run.slides
        if other != slide_id
        for name in (other, f"{other} {run.root.name}", f"{other} outlines", f"{other} lesions")
    }
    there = {layer.name for layer in viewer.layers}
    for layer in viewer.layers:
        if layer.name in names:
            layer.visible = True
        elif layer.name in others:
            layer.visible = False
    bind_keys()
    added = [
        layer for layer in run_slide_layers(run, run.slides[slide_id]) if layer.name not in there
    ]
    for layer in added:
        viewer.add_layer(layer)
    if added:
        viewer.reset_view()
