"""Lesions of a tumour mask by the rules of CAMELYON16's organisers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.measure import label, regionprops

__all__ = ["GROWTH_UM", "ITC_UM", "LesionMap", "find_lesions"]

#: Tumour within this distance is one lesion: five tumour cells.
GROWTH_UM = 75.0
#: A lesion whose major axis is shorter is isolated tumour cells (ITC): 200 um and growth.
ITC_UM = 275.0


@dataclass(frozen=True)
class LesionMap:
    """Lesions of one slide on the pixels of its mask.

    Attributes
    ----------
    labels
        Shape (rows, columns): 0 for no lesion, else the lesion's number from 1. It covers the part
        of the mask that has lesions.
    origin
        (column, row) of ``labels[0, 0]`` on the mask.
    size
        (columns, rows) of the mask, or None where the extent of the slide is unknown.
    counted
        Of each lesion, whether it counts; the others are isolated tumour cells.
    """

    labels: npt.NDArray[np.int32]
    origin: tuple[int, int]
    size: tuple[int, int] | None
    counted: npt.NDArray[np.bool_]

    @property
    def n_lesions(self) -> int:
        """Lesions that count."""
        return int(self.counted.sum())

    def at(
        self, columns: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int32]:
        """Lesion number at pixels of the mask, 0 for none."""
        x, y = columns - self.origin[0], rows - self.origin[1]
        inside = (x >= 0) & (y >= 0) & (x < self.labels.shape[1]) & (y < self.labels.shape[0])
        found = np.zeros(len(x), np.int32)
        found[inside] = self.labels[y[inside], x[inside]]
        return found


def find_lesions(
    mask: npt.NDArray[np.bool_],
    pixel_um: float,
    *,
    origin: tuple[int, int] = (0, 0),
    size: tuple[int, int] | None = None,
) -> LesionMap:
    """Grow, fill, label and tell isolated tumour cells.

    Only the box around the tumour is worked on: nothing outside of it can change.

    Parameters
    ----------
    mask
        Shape (rows, columns), True where there is tumour, at least one pixel.
    pixel_um
        Side of a pixel of the mask, micrometres.
    origin
        (column, row) of ``mask[0, 0]`` on the slide's evaluation grid.
    size
        (columns, rows) of the whole grid, where it is known.
    """
    reach_px = GROWTH_UM / (pixel_um * 2)
    margin = int(np.ceil(reach_px)) + 1
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, bottom = max(0, rows[0] - margin), min(mask.shape[0], rows[-1] + 1 + margin)
    left, right = max(0, columns[0] - margin), min(mask.shape[1], columns[-1] + 1 + margin)
    box = mask[top:bottom, left:right]
    # Without any background the distance to it is undefined; all of it is tumour.
    grown = np.ones_like(box) if box.all() else ndimage.distance_transform_edt(~box) < reach_px
    labels = label(ndimage.binary_fill_holes(grown), connectivity=2).astype(np.int32)
    threshold_px = ITC_UM / pixel_um
    counted = [region.axis_major_length >= threshold_px for region in regionprops(labels)]
    return LesionMap(
        labels,
        (origin[0] + int(left), origin[1] + int(top)),
        size,
        np.array(counted, dtype=bool),
    )
