"""Colours as stain normalization needs them: optical density and CIE L*a*b* (D65).

All arithmetic is written out element by element: a colour's result depends on that colour alone,
never on how many others are converted with it, as it would with matrix products of a library.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["RGB", "Floats", "lab_to_rgb", "optical_density", "rgb_to_lab", "to_bytes"]

RGB = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

#: Smallest optical density, so that white has a logarithm.
LEAST_DENSITY = 1e-6
_DENSITY = np.maximum(-np.log(np.maximum(np.arange(256), 1) / 255), LEAST_DENSITY)

_SRGB = np.arange(256) / 255
_LINEAR = np.where(_SRGB <= 0.04045, _SRGB / 12.92, ((_SRGB + 0.055) / 1.055) ** 2.4)
_TO_XYZ = (
    (0.412453, 0.357580, 0.180423),
    (0.212671, 0.715160, 0.072169),
    (0.019334, 0.119193, 0.950227),
)
_FROM_XYZ = tuple(map(tuple, np.linalg.inv(np.array(_TO_XYZ)).tolist()))
_WHITE = (0.950456, 1.0, 1.088754)
_EDGE = 6 / 29
#: Rounds to whole grey levels, ties up however their sums were rounded.
_HALF = 0.5 + 1e-9


def optical_density(rgb: RGB) -> Floats:
    """Optical density, -ln(I / 255), of uint8 colours; the same shape."""
    return np.asarray(_DENSITY[rgb])


def rgb_to_lab(rgb: RGB) -> Floats:
    """L* (0 to 100), a* and b* of uint8 sRGB colours, shape (..., 3)."""
    r, g, b = (_LINEAR[rgb[..., channel]] for channel in range(3))
    x, y, z = (
        _f((row[0] * r + row[1] * g + row[2] * b) / white)
        for row, white in zip(_TO_XYZ, _WHITE, strict=True)
    )
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def lab_to_rgb(lab: Floats) -> RGB:
    """Colours uint8 of L*, a*, b*, shape (..., 3); what sRGB does not hold is clipped."""
    y = (lab[..., 0] + 16) / 116
    x, z = y + lab[..., 1] / 500, y - lab[..., 2] / 200
    xyz = [_f_inverse(t) * white for t, white in zip((x, y, z), _WHITE, strict=True)]
    linear = np.stack([r[0] * xyz[0] + r[1] * xyz[1] + r[2] * xyz[2] for r in _FROM_XYZ], axis=-1)
    linear = np.clip(linear, 0, 1)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return to_bytes(srgb * 255)


def to_bytes(values: Floats) -> RGB:
    """Grey levels from 0 to 255, rounded."""
    return np.floor(np.clip(values, 0, 255) + _HALF).astype(np.uint8)


def _f(t: Floats) -> Floats:
    return np.where(t > _EDGE**3, np.cbrt(t), t / (3 * _EDGE**2) + 4 / 29)


def _f_inverse(t: Floats) -> Floats:
    return np.where(t > _EDGE, t * t * t, 3 * _EDGE**2 * (t - 4 / 29))
