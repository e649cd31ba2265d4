"""Where the samples of a heatmap lie in micrometres, for programs that think in them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hpc_heatmap.formats.heatmap import Heatmap

__all__ = ["Place", "place_of_level"]


@dataclass(frozen=True)
class Place:
    """Place of a level's samples.

    Attributes
    ----------
    origin, step
        Centre of sample (0, 0) and distance of samples, (x, y); the origin counts from the centre
        of the first pixel of the frame.
    in_um
        Whether both are micrometres; level-0 pixels where the slide's spacing is unknown.
    """

    origin: tuple[float, float]
    step: tuple[float, float]
    in_um: bool


def place_of_level(
    heatmap: Heatmap, level: int, offset_px: tuple[float, float] = (0.0, 0.0)
) -> Place:
    """Place of a level; `offset_px` is subtracted from positions, (x, y), level-0 pixels."""
    spacing_um = _level0_spacing_um(heatmap)
    x_um, y_um = spacing_um or (1.0, 1.0)
    origin, step = heatmap.placement_px(level)
    return Place(
        ((origin[0] - offset_px[0]) * x_um, (origin[1] - offset_px[1]) * y_um),
        (step[0] * x_um, step[1] * y_um),
        spacing_um is not None,
    )


def _level0_spacing_um(heatmap: Heatmap) -> tuple[float, float] | None:
    """Micrometres per level-0 pixel, from those per read pixel."""
    attributes = heatmap.attributes
    read_um = [float(v) for v in attributes.get("read_spacing_um", (math.nan, math.nan))]
    if not all(math.isfinite(v) for v in read_um):
        return None
    stride = int(attributes["stride_px"])
    return (
        read_um[0] * stride / heatmap.step_px[0],
        read_um[1] * stride / heatmap.step_px[1],
    )
