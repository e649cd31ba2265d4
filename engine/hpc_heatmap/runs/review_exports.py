"""Reviewed lesions in the formats of other programs: CSV, QuPath GeoJSON, ASAP XML."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hpc_heatmap.formats.asap_xml import Annotation, write_asap_xml
from hpc_heatmap.formats.atomic import write_json, writing
from hpc_heatmap.formats.lesion_files import lesion_feature
from hpc_heatmap.formats.review_file import Verdict
from hpc_heatmap.runs.reviews import ReviewedLesion

__all__ = ["write_review_csv", "write_review_geojson", "write_review_xml"]

_COLUMNS = (
    "lesion", "outline", "score", "max_score", "x_px", "y_px", "area_px", "area_um2", "verdict",
    "comment", "who", "when",
)  # fmt: skip
#: QuPath's class of a verdict, and its colour. Tumor is what evaluations take as the truth.
_CLASSES = {
    Verdict.CONFIRMED: ("Tumor", (200, 0, 0)),
    Verdict.REJECTED: ("Rejected", (120, 120, 120)),
    Verdict.UNSURE: ("Unsure", (230, 159, 0)),
    Verdict.UNREVIEWED: ("Unreviewed", (0, 114, 178)),
}

Spacing = tuple[float, float] | None


def write_review_csv(path: Path, lesions: Sequence[ReviewedLesion], spacing_um: Spacing) -> None:
    """Write one row a lesion; scores are empty for outlines that reviewers have added."""
    with writing(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(_COLUMNS)
        for entry in lesions:
            lesion, review = entry.lesion, entry.review
            area_um2 = lesion.area_px * math.prod(spacing_um) if spacing_um else math.nan
            rows.writerow(
                [
                    entry.key,
                    entry.outline,
                    _number(lesion.score, 6),
                    _number(lesion.max_score, 6),
                    _number(lesion.x_px, 1),
                    _number(lesion.y_px, 1),
                    _number(lesion.area_px, 0),
                    _number(area_um2, 1),
                    review.verdict.value,
                    review.comment,
                    review.who,
                    _time(review.at),
                ]
            )


def _number(value: float, digits: int) -> str:
    return "" if math.isnan(value) else f"{value:.{digits}f}"


def _time(at: float) -> str:
    """ISO 8601, UTC."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds") if at else ""


def write_review_geojson(
    path: Path, lesions: Sequence[ReviewedLesion], spacing_um: Spacing, about: dict[str, str]
) -> None:
    """Write all lesions as QuPath annotations; their class is the verdict."""
    features = []
    for entry in lesions:
        feature: dict[str, Any] = lesion_feature(entry.lesion, spacing_um)
        name, color = _CLASSES[entry.review.verdict]
        feature["id"] = entry.key
        properties = feature["properties"]
        properties["name"] = f"lesion {entry.key}"
        properties["classification"] = {"name": name, "color": list(color)}
        said = {
            "verdict": entry.review.verdict.value,
            "outline": entry.outline,
            "comment": entry.review.comment,
            "who": entry.review.who,
            "when": _time(entry.review.at),
        }
        properties["metadata"] = {key: value for key, value in said.items() if value}
        features.append(feature)
    write_json(path, {"type": "FeatureCollection", "hpc_heatmap": about, "features": features})


def write_review_xml(path: Path, lesions: Sequence[ReviewedLesion]) -> None:
    """Write the confirmed lesions as CAMELYON writes the truth, group ``Tumor``."""
    write_asap_xml(
        path,
        (
            Annotation(f"lesion {entry.key}", "Tumor", "#c80000", entry.lesion.polygons)
            for entry in lesions
            if entry.review.verdict is Verdict.CONFIRMED
        ),
    )
