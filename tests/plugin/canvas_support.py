"""What a viewer's canvas shows, once it shows all."""

from __future__ import annotations

import time

import numpy as np


def settle(viewer, qtbot) -> np.ndarray:
    """Let napari draw until nothing more comes; gives the canvas."""
    deadline = time.monotonic() + 60
    viewer.screenshot(flash=False)
    while True:
        qtbot.wait(20)
        if all(getattr(layer, "is_complete", True) for layer in viewer.layers):
            break
        assert time.monotonic() < deadline
    viewer.screenshot(flash=False)
    return viewer.screenshot(flash=False)[..., :3].astype(int)
