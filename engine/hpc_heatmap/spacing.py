"""What a slide says of its micrometres per pixel."""

from __future__ import annotations

import math
from collections.abc import Mapping

import openslide

__all__ = ["spacing_of"]

#: A coarser level 0 is no microscope's: it comes from a default such as 72 dots per inch.
COARSEST_SPACING_UM = 50.0


def spacing_of(
    properties: Mapping[str, str], override_um: float | None
) -> tuple[str, tuple[float, float] | None]:
    """Where the spacing comes from, and its value (x, y), micrometres per level-0 pixel.

    OpenSlide's ``mpp-x`` and ``mpp-y`` hold the vendor's own fields where it knows them; the
    resolution tags of a plain TIFF come last. Objective power is never used to guess.
    """
    if override_um is not None:
        return "given", (override_um, override_um)
    pair = [
        _positive(properties.get(openslide.PROPERTY_NAME_MPP_X)),
        _positive(properties.get(openslide.PROPERTY_NAME_MPP_Y)),
    ]
    if pair[0] and pair[1] and max(pair[0], pair[1]) <= COARSEST_SPACING_UM:
        return "slide", (pair[0], pair[1])
    unit_um = {"centimeter": 1e4, "inch": 2.54e4}.get(properties.get("tiff.ResolutionUnit", ""))
    dots = [_positive(properties.get(f"tiff.{axis}Resolution")) for axis in "XY"]
    if unit_um and dots[0] and dots[1] and unit_um / min(dots[0], dots[1]) <= COARSEST_SPACING_UM:
        return "tiff", (unit_um / dots[0], unit_um / dots[1])
    return "unknown", None


def _positive(text: str | None) -> float | None:
    """A finite number above zero, or None."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) and value > 0 else None
