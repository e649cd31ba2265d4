"""Thirty features of a slide's heatmap, as the paper's authors use them, by their names.

How much of the tissue is above each of five thresholds, and the shapes and scores of the two
largest regions above one half. Lengths and areas are in samples of the paper's lattice (16 pixels
for a window of 224), whatever the stride of the heatmap, so that one forest fits all strides.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.measure import regionprops

from hpc_heatmap.formats.atomic import writing

__all__ = ["FEATURES", "lattice_unit", "slide_features", "write_features"]

_PERCENT = (50, 60, 70, 80, 90)
#: (name, what is taken of a region)
_REGION = (
    "area", "eccentricity", "extend", "area_bbox", "major_axis_length", "maxprob", "minprob",
    "aveprob", "aspect_ratio_bbox", "solidity",
)  # fmt: skip


def _name(measure: str, which: str) -> str:
    return f"{which}_area" if measure == "area" else f"{measure}_{which}"


#: Names of all features, in order.
FEATURES: tuple[str, ...] = (
    *(f"ratio_cancer_tissue{percent}" for percent in _PERCENT),
    *(f"ratio_sum_tissue{percent}" for percent in _PERCENT),
    *(_name(measure, which) for which in ("largest", "second_largest") for measure in _REGION),
)


def lattice_unit(window_px: int, stride_px: int) -> float:
    """Step of a lattice in steps of the paper's: 1 for stride 16 and a window of 224."""
    return stride_px * 14 / window_px


def slide_features(scores: npt.NDArray[np.float32], unit: float = 1.0) -> dict[str, float]:
    """Features of one slide.

    Parameters
    ----------
    scores
        Shape (rows, columns): the heatmap, NaN off tissue.
    unit
        Step of its lattice, see :func:`lattice_unit`.

    Returns
    -------
    dict
        All of :data:`FEATURES`; those of a region that is not there are zero.
    """
    inside = scores[~np.isnan(scores)].astype(np.float64)
    tissue = max(len(inside), 1)
    thresholds = [percent / 100 for percent in _PERCENT]
    values = [(inside > t).sum() / tissue for t in thresholds]
    values += [np.maximum(inside - t, 0).sum() / tissue for t in thresholds]
    regions = _two_largest(scores)
    for number in (0, 1):
        values += _measures(regions[number], unit) if number < len(regions) else [0.0] * 10
    return dict(zip(FEATURES, map(float, values), strict=True))


def _two_largest(scores: npt.NDArray[np.float32]) -> list[Any]:
    """Regions above one half that do not touch the border, the larger first; ties by place."""
    labels, _ = ndimage.label(scores > 0.5, np.ones((3, 3), bool))
    areas = np.bincount(labels.ravel())
    for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        areas[edge] = 0
    areas[0] = 0
    order = np.argsort(-areas, kind="stable")[:2]
    boxes = ndimage.find_objects(labels)
    found = []
    for number in order[areas[order] > 0].tolist():
        box = boxes[number - 1]
        image = (labels[box] == number).astype(np.uint8)
        found.append(regionprops(image, intensity_image=scores[box])[0])
    return found


def _measures(region: Any, unit: float) -> list[float]:
    height, width = region.image.shape
    return [
        region.area * unit**2,
        region.eccentricity,
        region.extent,
        height * width * unit**2,
        region.axis_major_length * unit,
        region.intensity_max,
        region.intensity_min,
        region.intensity_mean,
        height / width,
        region.solidity,
    ]


def write_features(path: Path, rows: Mapping[str, Mapping[str, float]]) -> None:
    """Write features as a CSV, one slide a row."""
    table = [(slide, *(values[name] for name in FEATURES)) for slide, values in rows.items()]
    write_table(path, ("slide", *FEATURES), table)


def write_table(path: Path, headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write a CSV with a header; numbers keep all their digits."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(headings)
    lines.writerows(rows)
    with writing(path) as partial:
        partial.write_text(text.getvalue(), "utf-8")
