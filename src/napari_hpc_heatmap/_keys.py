"""Keys and commands of a viewer's heatmaps."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from napari_hpc_heatmap._overlay import HeatmapLayer, Look
from napari_hpc_heatmap._slide_layer import SlideLayer

if TYPE_CHECKING:
    from napari.components import ViewerModel

__all__ = ["bind_keys", "heatmaps", "toggle_colours", "toggle_heatmaps", "toggle_look"]


def heatmaps(viewer: ViewerModel) -> list[HeatmapLayer]:
    """Heatmaps of a viewer: the selected ones, else all."""
    layers = [layer for layer in viewer.layers if isinstance(layer, HeatmapLayer)]
    return [layer for layer in layers if layer in viewer.layers.selection] or layers


def toggle_heatmaps(viewer: ViewerModel) -> None:
    """Hide heatmaps, or show them again."""
    layers = heatmaps(viewer)
    shown = any(layer.visible for layer in layers)
    for layer in layers:
        layer.visible = not shown


def toggle_look(viewer: ViewerModel) -> None:
    """Show heatmaps as contours, or as areas again."""
    layers = heatmaps(viewer)
    filled = any(layer.look is Look.FILL for layer in layers)
    for layer in layers:
        layer.look = Look.CONTOUR if filled else Look.FILL


def toggle_colours(viewer: ViewerModel) -> None:
    """Show slides in sRGB by their colour profile, or in raw colours again."""
    layers = [layer for layer in viewer.layers if isinstance(layer, SlideLayer)]
    layers = [layer for layer in layers if layer in viewer.layers.selection] or layers
    converted = any(layer.icc_to_srgb for layer in layers)
    for layer in layers:
        layer.icc_to_srgb = not converted


@functools.cache
def bind_keys() -> None:
    """Bind the keys in all viewers, once. A key that the user bound before is left alone."""
    from napari.components import ViewerModel

    for key, function in (
        ("H", toggle_heatmaps), ("Shift-H", toggle_look), ("Shift-I", toggle_colours)
    ):  # fmt: skip
        ViewerModel.bind_key(key, function, overwrite=True)
