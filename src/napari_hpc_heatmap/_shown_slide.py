"""One slide of a run is shown at a time; the layers of the others are hidden."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from napari.layers import Layer
from qtpy.QtCore import QObject, QTimer

from hpc_heatmap import Run
from napari_hpc_heatmap._background import Background
from napari_hpc_heatmap._keys import bind_keys
from napari_hpc_heatmap._run_layers import run_slide_layers

__all__ = ["SlideShow"]


class SlideShow(QObject):  # type: ignore[misc]
    """Opens layers beside the window, and adds them one by one, so that it never waits for all.

    Parameters
    ----------
    viewer
        The viewer.
    say
        Called with what went wrong.
    """

    def __init__(self, viewer: Any, say: Callable[[str], None], parent: QObject) -> None:
        super().__init__(parent)
        self._viewer, self._say = viewer, say
        self._background = Background(self)
        self._opening: str | None = None

    def show(self, run: Run, slide_id: str) -> None:
        """Show the layers of a slide, and make those that are not there yet."""
        bind_keys()
        mine = _names(run, slide_id)
        others = {name for other in run.slides if other != slide_id for name in _names(run, other)}
        for layer in self._viewer.layers:
            if layer.name in mine | others:
                layer.visible = layer.name in mine
        if self._opening == slide_id:
            return
        self._opening = slide_id
        self._background.call(
            lambda: run_slide_layers(run, run.slides[slide_id]), self._opened, self._failed
        )

    def _failed(self, error: Exception) -> None:
        self._opening = None
        self._say(f"⚠ {error}")

    def _opened(self, layers: list[Layer]) -> None:
        there = {layer.name for layer in self._viewer.layers}
        self._add([layer for layer in layers if layer.name not in there], first=not there)

    def _add(self, layers: list[Layer], *, first: bool) -> None:
        if not layers:
            self._opening = None
            return
        self._viewer.add_layer(layers[0])
        if first:
            self._viewer.reset_view()
        QTimer.singleShot(0, functools.partial(self._add, layers[1:], first=False))


def _names(run: Run, slide_id: str) -> set[str]:
    """Names of a slide's layers."""
    heatmap = f"{slide_id} {run.root.name}"
    return {slide_id, heatmap, f"{slide_id} outlines", f"{slide_id} lesions"}
