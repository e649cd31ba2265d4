"""Lesions on disk: ``lesions.csv`` and ``lesions.geojson`` (RFC 7946, as QuPath reads it).

Coordinates are level-0 pixels in OpenSlide's frame, bounds not subtracted.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hpc_heatmap.errors import FormatError
from hpc_heatmap.formats.atomic import read_json, write_json, writing

__all__ = [
    "LESION_NUMBERS",
    "Lesion",
    "LesionNumbers",
    "Ring",
    "lesion_feature",
    "lesions_from",
    "read_lesion_numbers",
    "read_lesions",
    "read_lesions_csv",
    "write_lesions_csv",
    "write_lesions_geojson",
]

_COLUMNS = (
    "number", "score", "max_score", "x_px", "y_px", "area_px", "area_um2", "n_samples",
)  # fmt: skip
#: What a lesion has but for its outline, in its order.
LESION_NUMBERS = np.dtype(
    [
        ("number", np.int64),
        ("score", np.float64),
        ("max_score", np.float64),
        ("x_px", np.float64),
        ("y_px", np.float64),
        ("n_samples", np.int64),
        ("area_px", np.float64),
    ]
)

LesionNumbers = npt.NDArray[np.void]
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

    def moved(self, x_px: float, y_px: float) -> Lesion:
        """The same lesion in a frame whose positions are larger by that much."""
        polygons = tuple(tuple(r + (x_px, y_px) for r in rings) for rings in self.polygons)  # noqa: RUF005
        return replace(self, x_px=self.x_px + x_px, y_px=self.y_px + y_px, polygons=polygons)


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


def read_lesion_numbers(path: Path) -> LesionNumbers:
    """Read all of lesions but their outlines: a record of `LESION_NUMBERS` each, fast.

    Raises
    ------
    FormatError
        The table is missing or damaged.
    """
    try:
        header, *rows = path.read_text("utf-8").splitlines()
        columns = header.split(",")
        if not rows:
            return np.empty(0, LESION_NUMBERS)
        wanted = [columns.index(name) for name in LESION_NUMBERS.fields or ()]
        return np.loadtxt(rows, LESION_NUMBERS, delimiter=",", usecols=wanted, ndmin=1)
    except FileNotFoundError as error:
        raise FormatError(f"There is no {path}: the slide is not done, resume the run.") from error
    except (ValueError, IndexError) as error:
        raise FormatError(f"{path} is damaged: delete it and resume.") from error


def read_lesions_csv(path: Path) -> list[Lesion]:
    """Read lesions without their outlines; raises what `read_lesion_numbers` does."""
    return lesions_from(read_lesion_numbers(path))


def lesions_from(numbers: LesionNumbers) -> list[Lesion]:
    """Lesions of these numbers, without outlines."""
    return [
        Lesion(number, score, max_score, x_px, y_px, n_samples, area_px, polygons=())
        for number, score, max_score, x_px, y_px, n_samples, area_px in numbers.tolist()
    ]


def read_lesions(csv_path: Path, geojson_path: Path) -> list[Lesion]:
    """Read lesions with their outlines.

    Raises
    ------
    FormatError
        A file is missing or damaged, or the two do not belong together.
    """
    lesions = read_lesions_csv(csv_path)
    try:
        features = read_json(geojson_path)["features"]
        outlines = {int(f["id"]): _polygons(f["geometry"]) for f in features}
        return [replace(lesion, polygons=outlines[lesion.number]) for lesion in lesions]
    except FileNotFoundError as error:
        raise FormatError(
            f"There is no {geojson_path}: the slide is not done, resume the run."
        ) from error
    except (KeyError, ValueError, TypeError) as error:
        raise FormatError(f"{geojson_path} is damaged: delete it and resume.") from error


def _polygons(geometry: dict[str, Any]) -> tuple[tuple[Ring, ...], ...]:
    coordinates = geometry["coordinates"]
    polygons = [coordinates] if geometry["type"] == "Polygon" else coordinates
    return tuple(tuple(np.array(ring, np.float64) for ring in rings) for rings in polygons)


def write_lesions_geojson(
    path: Path,
    lesions: Sequence[Lesion],
    spacing_um: tuple[float, float] | None,
    about: dict[str, str] | None = None,
) -> None:
    """Write lesions as a FeatureCollection of outlines; `about` says more of the whole."""
    features = [lesion_feature(lesion, spacing_um) for lesion in lesions]
    collection: dict[str, Any] = {"type": "FeatureCollection"}
    if about:
        collection["hpc_heatmap"] = about
    write_json(path, {**collection, "features": features})


def lesion_feature(lesion: Lesion, spacing_um: tuple[float, float] | None) -> dict[str, Any]:
    """A lesion as a GeoJSON feature, as QuPath reads annotations; numbers that are NaN stay out."""
    polygons = [[_ring(ring) for ring in polygon] for polygon in lesion.polygons]
    single = len(polygons) == 1
    numbers = {
        "score": round(lesion.score, 6),
        "max score": round(lesion.max_score, 6),
        "area px^2": round(lesion.area_px, 1),
        "area um^2": round(_area_um2(lesion, spacing_um), 1),
    }
    measurements = {name: value for name, value in numbers.items() if not math.isnan(value)}
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
