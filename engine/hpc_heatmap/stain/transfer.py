"""Pixels from one stain to another: the arithmetic, and the same by a look-up table."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hpc_heatmap.settings import StainMethod
from hpc_heatmap.stain.colour import RGB, lab_to_rgb, optical_density, rgb_to_lab, to_bytes
from hpc_heatmap.stain.fits import StainFit
from hpc_heatmap.stain.matrices import concentrations

__all__ = ["StainTable", "change_stain"]

#: Marks colours of the table that are known.
_KNOWN = np.uint32(1 << 24)


def change_stain(rgb: RGB, source: StainFit, target: StainFit) -> RGB:
    """Colours (..., 3), uint8, as if they had the target's stain. Each depends on itself alone."""
    if source.method is StainMethod.REINHARD:
        lab = rgb_to_lab(rgb)
        scale = np.array(target.deviations) / np.array(source.deviations)
        return lab_to_rgb((lab - np.array(source.means)) * scale + np.array(target.means))
    stains = np.array(target.stains)
    amounts = concentrations(optical_density(rgb), np.array(source.stains))
    amounts = amounts * (np.array(target.strongest) / np.array(source.strongest))
    light = [
        np.exp(-(amounts[..., 0] * stains[0, c] + amounts[..., 1] * stains[1, c])) for c in range(3)
    ]
    return to_bytes(255 * np.stack(light, axis=-1))


class StainTable:
    """`change_stain` by a table of all 24-bit colours, filled with a colour when it first comes.

    Parameters
    ----------
    source, target
        From which stain to which.

    Notes
    -----
    A slide has some hundred thousand colours and a task sees each of them many times. Memory is at
    most 64 MiB, and less where colours are few.
    """

    def __init__(self, source: StainFit, target: StainFit) -> None:
        self._source, self._target = source, target
        #: Bytes of an entry, from the lowest: R, G, B, and whether it is known.
        self._table: npt.NDArray[np.uint32] = np.zeros(2**24, "<u4")

    def __call__(self, rgb: RGB) -> RGB:
        """Pixels (..., 3), uint8, with the target's stain."""
        codes = rgb[..., 0].astype(np.uint32)
        codes |= rgb[..., 1].astype(np.uint32) << 8
        codes |= rgb[..., 2].astype(np.uint32) << 16
        found = self._table[codes]
        unknown = found == 0
        if unknown.any():
            self._learn(np.unique(codes[unknown]))
            found = self._table[codes]
        return np.ascontiguousarray(found.view(np.uint8).reshape(*codes.shape, 4)[..., :3])

    def _learn(self, codes: npt.NDArray[np.uint32]) -> None:
        colours = np.stack([codes & 255, codes >> 8 & 255, codes >> 16], axis=-1).astype(np.uint8)
        new = change_stain(colours, self._source, self._target).astype(np.uint32)
        self._table[codes] = new[:, 0] | new[:, 1] << 8 | new[:, 2] << 16 | _KNOWN
