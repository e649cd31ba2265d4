"""Lesions of a heatmap: regions above a threshold, closed and opened, as outlines.

The rule is the paper's: closing then opening with an ellipse of 20 x 20 samples at stride 16 for
a window of 224, 8-connected regions, the mean score of a region. The ellipse is kept at the same
share of the window, 10/7, at every stride.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import contourpy
import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.measure import label, regionprops
from skimage.morphology import isotropic_closing, isotropic_opening

from hpc_heatmap.formats.heatmap import ScoreMap
from hpc_heatmap.formats.lesion_files import Lesion, Ring

__all__ = ["detect_lesions", "kernel_radius"]

#: Diameter of the ellipse in windows: 20 samples of 16 px over 224 px.
KERNEL_WINDOWS = 320 / 224
_BLOCK = 512
_EIGHT = np.ones((3, 3), bool)


def kernel_radius(window_px: int, stride_px: int) -> float:
    """Radius of the closing and opening disc, samples."""
    return KERNEL_WINDOWS * window_px / stride_px / 2


def detect_lesions(heatmap: ScoreMap, threshold: float, radius: float) -> list[Lesion]:
    """Find the lesions of a heatmap, the highest score first.

    Parameters
    ----------
    heatmap
        The finest level is used.
    threshold
        Smallest score of a lesion's inside.
    radius
        Radius of the closing and opening disc, samples; below 1 it does nothing.

    Notes
    -----
    Only the neighbourhoods of scores above the threshold are held in memory.
    """
    found = [
        lesion
        for island, hot in _islands(heatmap, threshold, reach=int(2 * radius) + 2)
        for lesion in _lesions_of(heatmap, island, hot, radius)
    ]
    found.sort(key=lambda lesion: (-lesion.score, lesion.y_px, lesion.x_px))
    return [replace(lesion, number=number) for number, lesion in enumerate(found, start=1)]


def _islands(
    heatmap: ScoreMap, threshold: float, reach: int
) -> Iterator[tuple[tuple[slice, slice], npt.NDArray[np.bool_]]]:
    """Rectangles with the samples above the threshold that belong to them. What belongs to one
    does not influence another: it is farther away than `reach`. The rectangles may overlap.
    """
    dataset = heatmap.dataset()
    rows, columns = dataset.shape
    hot = np.zeros((-(-rows // _BLOCK), -(-columns // _BLOCK)), bool)
    for i, j in np.ndindex(hot.shape):
        here = np.s_[i * _BLOCK : (i + 1) * _BLOCK, j * _BLOCK : (j + 1) * _BLOCK]
        hot[i, j] = bool((dataset[here] >= threshold).any())
    margin = -(-reach // _BLOCK)
    joined = ndimage.binary_dilation(hot, _EIGHT, iterations=margin)
    islands = ndimage.label(joined, _EIGHT)[0]
    for number, (i, j) in enumerate(ndimage.find_objects(islands), start=1):
        island = (
            slice(i.start * _BLOCK, min(i.stop * _BLOCK, rows)),
            slice(j.start * _BLOCK, min(j.stop * _BLOCK, columns)),
        )
        above = dataset[island] >= threshold
        for k, m in np.argwhere(islands[i, j] != number).tolist():
            above[k * _BLOCK : (k + 1) * _BLOCK, m * _BLOCK : (m + 1) * _BLOCK] = False
        yield island, above


def _lesions_of(
    heatmap: ScoreMap, island: tuple[slice, slice], mask: npt.NDArray[np.bool_], radius: float
) -> Iterator[Lesion]:
    scores = heatmap.dataset()[island]
    if radius >= 1:
        # Beyond the border there is no score, so nothing is closed against it.
        pad = int(radius) + 1
        padded = np.pad(mask, pad)
        padded = isotropic_opening(isotropic_closing(padded, radius), radius)
        mask = padded[pad:-pad, pad:-pad]
    step, origin = np.array(heatmap.step_px), np.array(heatmap.origin_px)
    corner = np.array([island[1].start, island[0].start])
    for region in regionprops(label(mask, connectivity=2)):
        inside = scores[region.slice][region.image]
        inside = inside[~np.isnan(inside)]
        if not len(inside):
            continue
        box = np.array([region.slice[1].start, region.slice[0].start]) + corner
        x_px, y_px = (np.array(region.centroid[::-1]) + corner) * step + origin
        yield Lesion(
            number=0,
            score=float(inside.mean(dtype=np.float64)),
            max_score=float(inside.max()),
            x_px=float(x_px),
            y_px=float(y_px),
            n_samples=int(region.area),
            area_px=float(region.area * step[0] * step[1]),
            polygons=tuple(
                tuple((ring + box) * step + origin for ring in polygon)
                for polygon in _outlines(region.image)
            ),
        )


def _outlines(image: npt.NDArray[np.bool_]) -> list[list[Ring]]:
    """Polygons of a region, samples: half a sample outside of its outermost samples."""
    generator = contourpy.contour_generator(
        z=np.pad(image, 1).astype(np.float64), fill_type=contourpy.FillType.OuterOffset
    )
    polygons = []
    for points, offsets in zip(*generator.filled(0.5, 2.0), strict=True):
        rings = [points[a:b] - 1 for a, b in pairwise(offsets)]
        polygons.append(rings)
    return polygons
