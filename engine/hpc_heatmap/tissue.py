"""Tissue detection on a slide at 32x, and which cells hold tissue.

A method is a function from a :class:`TissueImage` to a boolean mask. Others can be added by name
with :func:`register_method` or from another package with an entry point of the group
``hpc_heatmap.tissue``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import entry_points

import numpy as np
import numpy.typing as npt

from hpc_heatmap.errors import SettingsError, TileError
from hpc_heatmap.geometry import Box, Geometry
from hpc_heatmap.slide import RGB, Slide

__all__ = [
    "DOWNSAMPLE",
    "TissueImage",
    "TissueMask",
    "cell_fractions",
    "detect_tissue",
    "method_names",
    "register_method",
]

#: Level-0 pixels per mask pixel (the paper, section III-A).
DOWNSAMPLE = 32
#: Saturation (0 to 255) that glass can reach by noise and JPEG alone: never tissue below it,
#: so that a slide without tissue is not cut in two by Otsu.
GLASS_SATURATION = 12
_SQUARE_PX = 64
_SMALL_SQUARE_PX = 4


@dataclass(frozen=True)
class TissueImage:
    """Hue and saturation of a slide at 32x, in OpenCV's 8-bit ranges.

    Attributes
    ----------
    hue
        (rows, columns) uint8, 0 to 179, half degrees.
    saturation
        (rows, columns) uint8, 0 to 255.
    """

    hue: npt.NDArray[np.uint8]
    saturation: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class TissueMask:
    """Where tissue is.

    Attributes
    ----------
    mask
        (rows, columns) bool; pixel (i, j) covers the level-0 square from (i, j) times the scale.
    scale
        Level-0 pixels per mask pixel, (x, y): 32, or the slide's own level that is within the
        tolerance of it.
    thresholds
        What the method chose, by name.
    unreadable
        Number of mask pixels whose tiles could not be decoded (counted as tissue, so that
        nothing is silently left out).
    """

    mask: npt.NDArray[np.bool_]
    scale: tuple[float, float] = (DOWNSAMPLE, DOWNSAMPLE)
    thresholds: dict[str, float] = field(default_factory=dict)
    unreadable: int = 0


Method = Callable[[TissueImage], tuple[npt.NDArray[np.bool_], dict[str, float]]]
_methods: dict[str, Method] = {}


def register_method(name: str) -> Callable[[Method], Method]:
    """Make a tissue method known by a name (a decorator)."""

    def register(method: Method) -> Method:
        _methods[name] = method
        return method

    return register


@register_method("otsu-hs")
def _otsu_hue_and_saturation(
    image: TissueImage,
) -> tuple[npt.NDArray[np.bool_], dict[str, float]]:
    """The paper's rule: at least Otsu's threshold in H and in S (section III-A)."""
    hue, saturation = _otsu(image.hue), max(_otsu(image.saturation), GLASS_SATURATION)
    mask = (image.hue >= hue) & (image.saturation >= saturation)
    return mask, {"hue": hue, "saturation": saturation}


@register_method("otsu-s")
def _otsu_saturation(image: TissueImage) -> tuple[npt.NDArray[np.bool_], dict[str, float]]:
    """Otsu on S alone, for stains whose hue straddles red."""
    saturation = max(_otsu(image.saturation), GLASS_SATURATION)
    return image.saturation >= saturation, {"saturation": saturation}


@register_method("all")
def _everything(image: TissueImage) -> tuple[npt.NDArray[np.bool_], dict[str, float]]:
    """Every pixel of the slide."""
    return np.ones(image.hue.shape, bool), {}


def _otsu(channel: npt.NDArray[np.uint8]) -> float:
    """Otsu's threshold of an 8-bit channel."""
    from skimage.filters import threshold_otsu

    return float(threshold_otsu(channel)) if channel.min() < channel.max() else float(channel.max())


def method_names() -> list[str]:
    """Names of all tissue methods, built in and from other packages."""
    others = [point.name for point in entry_points(group="hpc_heatmap.tissue")]
    return sorted({*_methods, *others})


def _method(name: str) -> Method:
    if name in _methods:
        return _methods[name]
    for point in entry_points(group="hpc_heatmap.tissue"):
        if point.name == name:
            method: Method = point.load()
            return method
    raise SettingsError(
        f"There is no tissue method '{name}': choose one of {', '.join(method_names())}."
    )


def detect_tissue(slide: Slide, method: str = "otsu-hs") -> TissueMask:
    """Find the tissue of a slide at 32x.

    Parameters
    ----------
    slide
        The slide; it is read in small squares, so memory stays at two bytes a mask pixel.
    method
        Name of a method, see :func:`method_names`.

    Raises
    ------
    SettingsError
        There is no such method.
    """
    decide = _method(method)
    view = slide.view(scale=(DOWNSAMPLE, DOWNSAMPLE))
    shape = (math.ceil(slide.height_px / view.scale[1]), math.ceil(slide.width_px / view.scale[0]))
    hue, saturation = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    unreadable = np.zeros(shape, bool)
    for box in _squares(Box(0, 0, shape[1], shape[0]), _SQUARE_PX):
        try:
            _put(box, view.read(box), hue, saturation)
        except TileError:
            for small in _squares(box, _SMALL_SQUARE_PX):
                try:
                    _put(small, view.read(small), hue, saturation)
                except TileError:
                    unreadable[_slices(small)] = True
    mask, thresholds = decide(TissueImage(hue, saturation))
    return TissueMask(mask | unreadable, view.scale, thresholds, int(unreadable.sum()))


def _squares(box: Box, side: int) -> Iterator[Box]:
    """Cut a box into squares; the last ones may be smaller."""
    for y in range(box.y, box.y + box.height, side):
        for x in range(box.x, box.x + box.width, side):
            width = min(side, box.x + box.width - x)
            yield Box(x, y, width, min(side, box.y + box.height - y))


def _slices(box: Box) -> tuple[slice, slice]:
    return slice(box.y, box.y + box.height), slice(box.x, box.x + box.width)


def _put(
    box: Box, pixels: RGB, hue: npt.NDArray[np.uint8], saturation: npt.NDArray[np.uint8]
) -> None:
    """Write a square's hue and saturation in OpenCV's 8-bit ranges."""
    # Brings SciPy along, which planning a run does not need.
    from skimage.color import rgb2hsv

    hsv = rgb2hsv(pixels)
    hue[_slices(box)] = np.rint(hsv[..., 0] * 180).astype(np.uint8) % 180
    saturation[_slices(box)] = np.rint(hsv[..., 1] * 255).astype(np.uint8)


def cell_fractions(tissue: TissueMask, geometry: Geometry) -> npt.NDArray[np.float64]:
    """Share of each cell of the slide that is tissue.

    The share is of the cell's own square (cut at the slide's edge) in the mask, with mask pixels
    counted in part where a cell's border crosses them.

    Returns
    -------
    (rows, columns) array of float64, 0 to 1
    """
    total = np.zeros((tissue.mask.shape[0] + 1, tissue.mask.shape[1] + 1))
    total[1:, 1:] = tissue.mask.cumsum(0, dtype=np.float64).cumsum(1)
    y = _borders(geometry.height_px, geometry.window_px, geometry.scale_y / tissue.scale[1])
    x = _borders(geometry.width_px, geometry.window_px, geometry.scale_x / tissue.scale[0])
    y, x = np.minimum(y, tissue.mask.shape[0]), np.minimum(x, tissue.mask.shape[1])
    # The integral image is bilinear inside a mask pixel, so interpolating it is exact.
    along_y = _interpolate(total, y)
    at_corners = _interpolate(along_y.T, x).T
    area = np.outer(np.diff(y), np.diff(x))
    inside = np.diff(np.diff(at_corners, axis=0), axis=1)
    fractions: npt.NDArray[np.float64] = np.clip(inside / np.maximum(area, 1e-12), 0, 1)
    return fractions


def _borders(size_px: int, window_px: int, mask_px_per_read_px: float) -> npt.NDArray[np.float64]:
    """Borders of the cells on one axis, mask pixels."""
    n_cells = -(-size_px // window_px)
    borders_px = np.minimum(np.arange(n_cells + 1) * window_px, size_px)
    borders: npt.NDArray[np.float64] = borders_px * mask_px_per_read_px
    return borders


def _interpolate(
    values: npt.NDArray[np.float64], positions: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Linear interpolation along the first axis at fractional positions."""
    low = np.minimum(positions.astype(np.intp), len(values) - 2)
    share = (positions - low)[:, None]
    result: npt.NDArray[np.float64] = values[low] * (1 - share) + values[low + 1] * share
    return result
