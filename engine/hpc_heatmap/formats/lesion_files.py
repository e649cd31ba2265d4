"""Lesions on disk: ``lesions.csv`` and ``lesions.geojson`` (RFC 7946, as QuPath reads it).

Coordinates are level-0 pixels in OpenSlide's frame, bounds not subtracted.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hpc_heatmap.formats.atomic import write_json, writing

__all__ = ["Lesion", "Ring", "write_lesions_csv", "write_lesions_geojson"]

_COLUMNS = (
    "number", "score", "max_score", "x_px", "y_px", "area_px", "area_um2", "n_samples",
)  # fmt: skip


Ring = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Lesion:
    """One detection.

    Attributes
    ----------
    number
        1, 2, ... from the highest score down.
    score
        Mean score of the region's samples.
    max_score
        Highest score of them.
    x_px, y_px
        Centroid, level-0 pixels.
    n_samples
        Lattice points inside.
    area_px
        Area, square level-0 pixels.
    polygons
        Outlines, level-0 pixels: one list of rings a polygon, the outer ring first, then holes.
    """

    number: int
    score: float
    max_score: float
    x_px: float
    y_px: float
    n_samples: int
    area_px: float
    polygons: tuple[tuple[Ring, ...], ...]


def write_lesions_csv(
    path: Path, lesions: Sequence[Lesion], spacing_um: tuple[float, float] | None
) -> None:
    """Write lesions as a table; the area in um2 is empty where the spacing is unknown."""
    with writing(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(_COLUMNS)
        for lesion in lesions:
            area_um2 = _area_um2(lesion, spacing_um)
            rows.writerow(
                [
                    lesion.number,
                    f"{lesion.score:.6f}",
                    f"{lesion.max_score:.6f}",
                    f"{lesion.x_px:.1f}",
                    f"{lesion.y_px:.1f}",
                    f"{lesion.area_px:.0f}",
                    "" if math.isnan(area_um2) else f"{area_um2:.1f}",
                    lesion.n_samples,
                ]
            )


def _area_um2(lesion: Lesion, spacing_um: tuple[float, float] | None) -> float:
    return lesion.area_px * spacing_um[0] * spacing_um[1] if spacing_um else math.nan


def write_lesions_geojson(
    path: Path, lesions: Sequence[Lesion], spacing_um: tuple[float, float] | None
) -> None:
    """Write lesions as a FeatureCollection of outlines."""
    features = [_feature(lesion, spacing_um) for lesion in lesions]
    write_json(path, {"type": "FeatureCollection", "features": features})


def _feature(lesion: Lesion, spacing_um: tuple[float, float] | None) -> dict[str, Any]:
    polygons = [[_ring(ring) for ring in polygon] for polygon in lesion.polygons]
    single = len(polygons) == 1
    measurements = {
        "score": round(lesion.score, 6),
        "max score": round(lesion.max_score, 6),
        "area px^2": round(lesion.area_px, 1),
    }
    area_um2 = _area_um2(lesion, spacing_um)
    if not math.isnan(area_um2):
        measurements["area um^2"] = round(area_um2, 1)
    return {
        "type": "Feature",
        "id": lesion.number,
        "geometry": {
            "type": "Polygon" if single else "MultiPolygon",
            "coordinates": polygons[0] if single else polygons,
        },
        "properties": {
            "objectType": "annotation",
            "name": f"lesion {lesion.number}",
            "classification": {"name": "Lesion", "color": [189, 0, 38]},
            "isLocked": True,
            "measurements": measurements,
        },
    }


def _ring(points: Any) -> list[list[float]]:
    """A closed ring of positions."""
    ring = [[round(float(x), 2), round(float(y), 2)] for x, y in points]
    return ring if ring[0] == ring[-1] else [*ring, ring[0]]
