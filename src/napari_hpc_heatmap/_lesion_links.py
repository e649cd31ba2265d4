"""The lesions' layer and the table show the same selection, and the camera goes to a lesion."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from napari_hpc_heatmap._lesion_list import LesionList
from napari_hpc_heatmap._world import World

__all__ = ["LesionLink", "go_to"]

#: A lesion takes this share of the view, and the view is at least this wide, level-0 pixels.
_SHARE = 0.3
_LEAST_VIEW_PX = 600.0
_VIEW_SCREEN_PX = 800.0


class LesionLink:
    """Keeps the Points layer of a slide's lesions and a list in step.

    Parameters
    ----------
    viewer
        The viewer.
    slide_id
        The slide, after which its layer is named.
    lesions
        The list.
    on_selected
        Called with the index of the lesion that was selected in the layer.
    """

    def __init__(
        self, viewer: Any, slide_id: str, lesions: LesionList, on_selected: Callable[[int], None]
    ) -> None:
        self._viewer = viewer
        self._name = f"{slide_id} lesions"
        self._lesions = lesions
        self._on_selected = on_selected
        self._layer: Any = None
        self._busy = False
        viewer.layers.events.inserted.connect(self._find)
        viewer.layers.events.removed.connect(self._find)
        self._find()

    def _find(self, event: Any = None) -> None:
        """Take hold of the layer, or let it go."""
        from napari.layers import Points

        found = [
            layer
            for layer in self._viewer.layers
            if isinstance(layer, Points)
            and layer.name.startswith(self._name)
            and "number" in layer.features
        ]
        layer = found[-1] if found else None
        if layer is self._layer:
            return
        self._let_go()
        self._layer = layer
        if layer is not None:
            numbers = [str(number) for number in layer.features["number"]]
            self._point_of = {key: point for point, key in enumerate(numbers)}
            self._key_of = numbers
            layer.selected_data.events.items_changed.connect(self._selected)

    def _let_go(self) -> None:
        if self._layer is not None:
            self._layer.selected_data.events.items_changed.disconnect(self._selected)
        self._layer = None

    def close(self) -> None:
        """Let go of everything."""
        self._let_go()
        self._viewer.layers.events.inserted.disconnect(self._find)
        self._viewer.layers.events.removed.disconnect(self._find)

    def _selected(self, *_: Any) -> None:
        if self._busy or self._layer is None or len(self._layer.selected_data) != 1:
            return
        (point,) = self._layer.selected_data
        index = self._lesions.index_of.get(self._key_of[point])
        if index is not None:
            self._on_selected(index)

    def select(self, index: int) -> None:
        """Select a lesion in the layer; outlines that reviewers have drawn are not in it."""
        if self._layer is None:
            return
        point = self._point_of.get(self._lesions.keys[index])
        self._busy = True
        try:
            self._layer.selected_data = set() if point is None else {point}
        finally:
            self._busy = False

    def show_only(self, indices: Iterable[int]) -> None:
        """Hide the points of lesions that do not pass the table's filter."""
        if self._layer is None:
            return
        shown = np.zeros(len(self._key_of), bool)
        keys = self._lesions.keys
        points = [self._point_of.get(keys[index]) for index in indices]
        shown[[point for point in points if point is not None]] = True
        if (self._layer.shown != shown).any():
            self._layer.shown = shown


def go_to(viewer: Any, world: World, place_px: tuple[float, float], area_px: float) -> None:
    """Put a lesion into the middle of the view, at a size that shows it with its surroundings."""
    diameter_px = 2 * math.sqrt(max(area_px, 0.0) / math.pi)
    view_px = max(diameter_px / _SHARE, _LEAST_VIEW_PX)
    y, x = world.from_px(place_px)
    camera = viewer.scene.camera
    um_per_px = world.from_px((1.0, 1.0))[1]
    camera.center = (0.0, float(y), float(x))
    camera.zoom = _VIEW_SCREEN_PX / (view_px * float(um_per_px))
