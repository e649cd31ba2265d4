"""What is known of the stain of some pixels, by one of three methods."""

from __future__ import annotations

from typing import Annotated, Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from hpc_heatmap.errors import StainError
from hpc_heatmap.settings import StainMethod
from hpc_heatmap.stain.colour import RGB, Floats, optical_density, rgb_to_lab
from hpc_heatmap.stain.matrices import concentrations, macenko, vahadane

__all__ = ["StainFit", "fit_stain"]

#: Tissue is darker, L* from 0 to 100.
TISSUE_LIGHTNESS = 80.0
#: Fewer tissue pixels say nothing of a stain; of more, some at even distances are used.
LEAST_PIXELS, MOST_PIXELS = 1000, 100_000
#: Concentration of a stain that counts as its largest, percentile.
STRONGEST_PERCENTILE = 99.0
#: Stains at a smaller angle are one, degrees.
LEAST_ANGLE = 2.0

Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Three = tuple[Finite, Finite, Finite]


class StainFit(BaseModel):
    """Stain of some pixels; it goes through JSON unchanged.

    Attributes
    ----------
    method
        How it was estimated, and how it is applied.
    stains
        Optical-density vectors of unit length (R, G, B): haematoxylin, then eosin. For Vahadane
        and Macenko.
    strongest
        Largest concentration of each of them, the 99th percentile.
    means, deviations
        Of L*, a* and b*. For Reinhard.
    n_pixels
        Tissue pixels that it was estimated from.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: StainMethod
    stains: tuple[Three, Three] | None = None
    strongest: tuple[Positive, Positive] | None = None
    means: Three | None = None
    deviations: tuple[Positive, Positive, Positive] | None = None
    n_pixels: int = 0

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.method is StainMethod.REINHARD:
            complete = self.means is not None and self.deviations is not None
        else:
            complete = self.stains is not None and self.strongest is not None
        if self.method is StainMethod.NONE or not complete:
            raise ValueError("it does not hold what its method needs")
        return self


def fit_stain(pixels: RGB, method: StainMethod) -> StainFit:
    """Estimate the stain of pixels (..., 3), uint8 RGB. The same pixels give the same stain.

    Raises
    ------
    StainError
        There is too little tissue, or there are no two stains in it.
    """
    rgb = pixels.reshape(-1, 3)
    lab = rgb_to_lab(rgb)
    dark = np.flatnonzero(lab[:, 0] < TISSUE_LIGHTNESS)
    if len(dark) < LEAST_PIXELS:
        raise StainError(
            f"only {len(dark)} pixels are tissue (L* below {TISSUE_LIGHTNESS:g}), "
            f"{LEAST_PIXELS} are needed"
        )
    if method is StainMethod.REINHARD:
        return _reinhard(lab, len(dark))
    if len(dark) > MOST_PIXELS:
        dark = dark[np.arange(MOST_PIXELS) * len(dark) // MOST_PIXELS]
    density = optical_density(rgb[dark])
    stains = vahadane(density) if method is StainMethod.VAHADANE else macenko(density)
    cosine = float((stains[0] * stains[1]).sum())
    if not np.isfinite(stains).all() or np.degrees(np.arccos(min(cosine, 1.0))) < LEAST_ANGLE:
        raise StainError("its colours are those of one stain, two are needed")
    amounts = concentrations(density, stains)
    strongest = np.percentile(amounts, STRONGEST_PERCENTILE, axis=0)
    if not (strongest > 0).all():
        raise StainError("one of its two stains has no concentration")
    return StainFit(
        method=method,
        stains=_rows(stains),
        strongest=_numbers(strongest),
        n_pixels=len(dark),
    )


def _reinhard(lab: Floats, n_tissue: int) -> StainFit:
    """Means and deviations of all pixels, background included, as Reinhard et al. (2001) do."""
    means, deviations = lab.mean(axis=0), lab.std(axis=0)
    if not (deviations > 1e-6).all():
        raise StainError("it has one colour alone")
    return StainFit(
        method=StainMethod.REINHARD,
        means=_numbers(means),
        deviations=_numbers(deviations),
        n_pixels=n_tissue,
    )


def _numbers(values: Floats) -> Any:
    return tuple(map(float, values))


def _rows(values: Floats) -> Any:
    return tuple(map(_numbers, values))
