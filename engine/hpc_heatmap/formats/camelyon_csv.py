"""Detections as CAMELYON16's evaluation reads them: rows ``prob,x,y`` and no header.

Positions are whole level-0 pixels in OpenSlide's frame, bounds not subtracted. A slide without
detections has an empty file: without one it would not count as a slide.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hpc_heatmap.formats.atomic import writing
from hpc_heatmap.formats.lesion_files import Lesion

__all__ = ["Detection", "detections_of", "write_camelyon_csv"]


@dataclass(frozen=True)
class Detection:
    """One mark on a slide: its score in [0, 1] and its level-0 position."""

    score: float
    x_px: float
    y_px: float


def detections_of(lesions: Iterable[Lesion]) -> list[Detection]:
    """Marks at the lesions' centroids, with their scores."""
    return [Detection(lesion.score, lesion.x_px, lesion.y_px) for lesion in lesions]


def write_camelyon_csv(path: Path, detections: Iterable[Detection]) -> None:
    """Write the marks of one slide; the file is empty where there is none.

    A position is that of the pixel that holds it: pixel i reaches from i - 0.5 to i + 0.5.
    """
    with writing(path) as partial, partial.open("w", encoding="utf-8") as file:
        for found in detections:
            x, y = max(0, round(found.x_px)), max(0, round(found.y_px))
            file.write(f"{found.score:.6f},{x},{y}\n")
