"""Detections as the CAMELYON16 evaluation reads them: rows ``prob,x,y`` without a header.

Positions are level-0 pixels. A slide without lesions has an empty file, which counts as a slide.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hpc_heatmap.formats.atomic import writing
from hpc_heatmap.formats.lesion_files import Lesion
from hpc_heatmap.formats.outline_shapes import inner_point

__all__ = ["write_camelyon_csv"]


def write_camelyon_csv(path: Path, lesions: Sequence[Lesion]) -> None:
    """Write one detection a lesion: its mean score, at its centroid or inside where that is not."""
    with writing(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        for lesion in lesions:
            x_px, y_px = inner_point(lesion)
            file.write(f"{lesion.score:.6f},{x_px:.1f},{y_px:.1f}\n")
