"""Colours of heatmaps: nothing below the threshold, and never so much that tissue is hidden."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

__all__ = ["COLOURS", "heatmap_colormap"]

#: Colours at the threshold and at 1. The first is for a single heatmap; several are told apart by
#: the others, whose hues tissue does not have and which differ without colour vision.
COLOURS: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "yellow to red": ((1.0, 0.88, 0.35), (0.74, 0.0, 0.15)),
    "cyan to blue": ((0.35, 0.95, 1.0), (0.0, 0.2, 0.75)),
    "lime to green": ((0.75, 1.0, 0.3), (0.0, 0.42, 0.1)),
    "grey to black": ((0.8, 0.8, 0.8), (0.0, 0.0, 0.0)),
}
#: Opacity at the threshold and at 1; lines are opaque.
_OPACITY = (0.25, 0.7)


def heatmap_colormap(name: str, threshold: float, *, opaque: bool = False) -> Any:
    """Colour map of scores from 0 to 1, transparent below the threshold and where there is none.

    Parameters
    ----------
    name
        One of `COLOURS`.
    threshold
        The lowest score that is shown.
    opaque
        For lines: all that is shown is shown fully.
    """
    from napari.utils.colormaps import Colormap

    low, high = COLOURS[name]
    start, end = (1.0, 1.0) if opaque else _OPACITY
    threshold = min(max(threshold, 1e-4), 1 - 1e-3)
    colours = [(*low, 0.0), (*low, 0.0), (*low, start), (*high, end)]
    return Colormap(
        np.array(colours),
        controls=[0.0, threshold - 5e-5, threshold, 1.0],
        name=f"{name}, from {threshold:.3f}{', lines' if opaque else ''}",
    )


def unlike(taken: set[str]) -> str:
    """A colour that is not taken, or the first."""
    return next(itertools.chain((name for name in COLOURS if name not in taken), COLOURS))
