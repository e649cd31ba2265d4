"""One slide of a run is shown at a time; the layers of the others are hidden."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from napari.layers import Image, Layer, Points
from qtpy.QtCore import QObject, QTimer

from hpc_heatmap import Run
from napari_hpc_heatmap._background import Background
from napari_hpc_heatmap._keys import bind_keys
from napari_hpc_heatmap._run_layers import make_layers, read_contents

__all__ = ["SlideShow"]

#: Time for the window to draw what was added before the next layer is made.
_PAUSE_MS = 20


class SlideShow(QObject):  # type: ignore[misc]
    """Opens files in a thread; makes layers and adds them one by one, so that the window lives.

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
        self._wanted: tuple[Run, str] | None = None
        self._background.call(_make_ready, lambda _: None)

    def show(self, run: Run, slide_id: str) -> None:
        """Show the layers of a slide, and make those that are not there yet."""
        bind_keys()
        mine = _names(run, slide_id)
        others = {name for other in run.slides if other != slide_id for name in _names(run, other)}
        for layer in self._viewer.layers:
            if layer.name in mine | others:
                layer.visible = layer.name in mine
        opening = self._wanted is not None and self._wanted[1] == slide_id
        if opening or mine <= {layer.name for layer in self._viewer.layers}:
            return
        wanted = self._wanted = run, slide_id
        slide = run.slides[slide_id]
        self._background.call(
            lambda: read_contents(run, slide),
            lambda contents: self._add(wanted, make_layers(run, slide, contents)),
            lambda error: self._failed(wanted, error),
        )

    def _failed(self, wanted: tuple[Run, str], error: Exception) -> None:
        self._say(f"⚠ {error}")
        self._done(wanted)

    def _done(self, wanted: tuple[Run, str]) -> None:
        if self._wanted is wanted:
            self._wanted = None

    def _add(self, wanted: tuple[Run, str], layers: Iterator[Layer]) -> None:
        """Make a layer, add it in the next turn of the event loop, and so on."""
        layer = next(layers, None) if self._wanted is wanted else None
        if layer is None:
            self._done(wanted)
            return

        def add() -> None:
            first = not self._viewer.layers
            if layer.name not in self._viewer.layers:
                self._viewer.add_layer(layer)
            if first:
                self._viewer.reset_view()
            QTimer.singleShot(_PAUSE_MS, lambda: self._add(wanted, layers))

        QTimer.singleShot(0, add)


@functools.cache
def _make_ready() -> None:
    """Have napari load what it loads with the first layers of a process: units, scipy, pandas."""
    Image(np.zeros((2, 2, 3), np.uint8), rgb=True, units=("micrometer", "micrometer"))
    Points(np.zeros((1, 2)), features={"number": [1]})


def _names(run: Run, slide_id: str) -> set[str]:
    """Names of a slide's layers."""
    heatmap = f"{slide_id} {run.root.name}"
    return {slide_id, heatmap, f"{slide_id} outlines", f"{slide_id} lesions"}
