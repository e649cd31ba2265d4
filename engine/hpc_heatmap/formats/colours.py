"""Colours of scores, the same in every picture."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["colour"]

#: Colours from score 0 to 1; readable over pink and purple tissue, also without colour vision.
_COLOURS = np.array(
    [(49, 54, 149), (69, 117, 180), (254, 224, 144), (253, 141, 60), (189, 0, 38)], float
)


def colour(scores: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Colours (..., 3), 0 to 255, of scores from 0 to 1."""
    position = np.clip(scores, 0, 1) * (len(_COLOURS) - 1)
    stops = np.arange(len(_COLOURS))
    return np.stack([np.interp(position, stops, _COLOURS[:, c]) for c in range(3)], axis=-1)
