"""The heatmaps of one slide side by side, each over the slide, in napari's grid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from napari_hpc_heatmap._overlay import HeatmapLayer
from napari_hpc_heatmap._score_status import same_slide
from napari_hpc_heatmap._slide_layer import SlideLayer

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

__all__ = ["are_side_by_side", "toggle_side_by_side"]


class _Before:
    """What a viewer showed: its layers from below, what was visible and selected, and its grid."""

    def __init__(self, viewer: ViewerModel) -> None:
        self.layers = list(viewer.layers)
        self.visible = {layer for layer in self.layers if layer.visible}
        self.selection = set(viewer.layers.selection)
        self.grid = viewer.canvas.grid.enabled, viewer.canvas.grid.stride
        self.copies: list[SlideLayer] = []


_before: WeakKeyDictionary[Any, _Before] = WeakKeyDictionary()


def are_side_by_side(viewer: ViewerModel) -> bool:
    """Whether a viewer shows heatmaps side by side."""
    return _whole(viewer) in _before


def toggle_side_by_side(viewer: ViewerModel) -> None:
    """Show the heatmaps of a slide side by side, or all layers over each other again.

    The slide is that of the selected heatmap, else of the first. Each cell of the grid has the
    slide and one heatmap; other layers are hidden meanwhile.
    """
    viewer = _whole(viewer)
    if viewer in _before:
        _go_back(viewer, _before.pop(viewer))
        return
    heatmaps = [layer for layer in viewer.layers if isinstance(layer, HeatmapLayer)]
    chosen = [layer for layer in heatmaps if layer in viewer.layers.selection] or heatmaps
    heatmaps = [h for h in heatmaps if same_slide(h, chosen[0])]
    if len(heatmaps) < 2:
        from napari.utils.notifications import show_info

        show_info(
            "Open a second heatmap of the slide, of another model or run, to see them side by side."
        )
        return
    slide = next(
        (s for s in viewer.layers if isinstance(s, SlideLayer) and same_slide(s, heatmaps[0])), None
    )
    before = _before[viewer] = _Before(viewer)
    if slide is not None:
        before.copies = [_copy(slide) for _ in heatmaps[1:]]
    for layer in viewer.layers:
        layer.visible = layer is slide or layer in heatmaps
    for copy in before.copies:
        viewer.add_layer(copy)
    cells: list[Layer] = []
    for number, heatmap in enumerate(heatmaps):
        if slide is not None:
            cells.append(before.copies[number - 1] if number else slide)
        cells.append(heatmap)
    _arrange(viewer, cells)
    viewer.layers.selection = before.selection
    _set_grid(viewer, True, 1 if slide is None else 2)


def _go_back(viewer: ViewerModel, before: _Before) -> None:
    _set_grid(viewer, *before.grid)
    for copy in before.copies:
        if copy in viewer.layers:
            viewer.layers.remove(copy)
    there = [layer for layer in before.layers if layer in viewer.layers]
    _arrange(viewer, there)
    for layer in there:
        layer.visible = layer in before.visible


def _set_grid(viewer: ViewerModel, enabled: bool, stride: int) -> None:
    """Change the grid; the same place is looked at, as wide as before."""
    grid, camera = viewer.canvas.grid, viewer.scene.camera
    center, zoom, columns = camera.center, camera.zoom, grid.actual_shape(viewer.layers)[1]
    grid.stride, grid.enabled = stride, enabled
    camera.center = center
    camera.zoom = zoom * columns / grid.actual_shape(viewer.layers)[1]


def _copy(slide: SlideLayer) -> SlideLayer:
    """Another layer over the same levels: tiles are decoded and kept once for both."""
    return SlideLayer(slide.pyramid, name=f"{slide.name} again")


def _arrange(viewer: ViewerModel, layers: list[Layer]) -> None:
    """Put layers below all others, in this order."""
    for place, layer in enumerate(layers):
        if (now := viewer.layers.index(layer)) != place:
            viewer.layers.move(now, place)


def _whole(viewer: ViewerModel) -> ViewerModel:
    """Napari hands commands and docks proxies of one viewer."""
    whole: ViewerModel = getattr(viewer, "__wrapped__", viewer)
    return whole
