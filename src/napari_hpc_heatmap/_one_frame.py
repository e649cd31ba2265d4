"""A change of view in one frame.

napari looks for what a view shows when it has drawn it: the first frame of a view has the pixels of
the one before and reaches the screen no sooner than the new ones are read, the second one has them.
Where it looks before as well, the first frame is the only one.
"""

from __future__ import annotations

import sys
import weakref
from typing import Any

import napari

__all__ = ["OneFrame"]

#: Canvases that look before they draw.
_looking: weakref.WeakSet[Any] = weakref.WeakSet()


class OneFrame:
    """Mixed into image layers, before napari's class: their viewers look before they draw."""

    def _update_draw(self, *args: Any, **options: Any) -> None:
        super()._update_draw(*args, **options)  # type: ignore[misc]
        viewer = napari.current_viewer()
        if viewer is not None and self in viewer.layers:
            _look_before_drawing(viewer)


def _look_before_drawing(viewer: Any) -> None:
    """Have a viewer do before a frame what it does after; where it cannot, all stays as it is."""
    try:
        canvas = viewer.window._qt_viewer.canvas
        if canvas in _looking:
            return
        draw, reference = canvas.events.draw, weakref.WeakMethod(canvas.on_draw)
    except (AttributeError, TypeError):  # Another napari.
        return

    def look(event: Any) -> None:
        on_draw = reference()
        if on_draw is None:
            return
        try:
            on_draw(event)
        except Exception:
            # It is told like that of any callback of Qt, and the frame is drawn nonetheless.
            sys.excepthook(*sys.exc_info())

    draw.connect(look, position="first")
    _looking.add(canvas)
