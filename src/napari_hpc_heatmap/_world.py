"""Where level-0 pixels lie in napari's world: in micrometres where the spacing is known.

Each layer that belongs to a slide takes its place from here, so that all of them agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["World"]


@dataclass(frozen=True)
class World:
    """Frame of one slide: the centre of its first pixel is the origin.

    Attributes
    ----------
    spacing_um
        Micrometres per level-0 pixel, (x, y); None where unknown: the world is in pixels then.
    """

    spacing_um: tuple[float, float] | None

    @property
    def units(self) -> tuple[str, str]:
        """Units of the two axes."""
        return ("pixel",) * 2 if self.spacing_um is None else ("micrometer",) * 2

    @property
    def _scale(self) -> npt.NDArray[np.float64]:
        """World units per level-0 pixel, (y, x)."""
        return np.array((self.spacing_um or (1.0, 1.0))[::-1])

    def place(self, step_px: tuple[float, float], origin_px: tuple[float, float]) -> dict[str, Any]:
        """Options of a layer with samples at level-0 ``origin_px + index * step_px``, (x, y)."""
        return {
            "scale": tuple(self._scale * step_px[::-1]),
            "translate": tuple(self._scale * origin_px[::-1]),
            "units": self.units,
        }

    def from_px(self, positions_px: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """World positions, rows of (y, x), from level-0 positions, rows of (x, y)."""
        return np.asarray(positions_px, np.float64)[..., ::-1] * self._scale

    def to_px(self, positions: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Level-0 positions, rows of (x, y), from world positions, rows of (y, x)."""
        positions_px: npt.NDArray[np.float64] = np.asarray(positions, np.float64) / self._scale
        return positions_px[..., ::-1]
