"""Stain normalization in the report: what was estimated, and what kept its raw colours."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from hpc_heatmap.runs.run import Run
from hpc_heatmap.runs.status import RunStatus, State
from hpc_heatmap.settings import StainMethod

__all__ = ["StainRow", "embedded_picture", "stain_notes", "stain_rows"]

_WIDTH_PX = 1000


@dataclass(frozen=True)
class StainRow:
    """Stain of one slide.

    Attributes
    ----------
    slide, method, per
        Which slide, how it was normalised, and whether estimated per slide or patch.
    haematoxylin, eosin
        Optical-density vectors (R, G, B); None where stains are not estimated per slide.
    means, deviations
        Of L*, a*, b*, for Reinhard.
    patches, raw_patches
        Tissue patches, and those that kept their raw colours (None until that is known).
    problem
        Why the slide's stain could not be estimated.
    picture
        Some cells before and after; None where there is no such file.
    """

    slide: str
    method: str
    per: str
    haematoxylin: tuple[float, ...] | None
    eosin: tuple[float, ...] | None
    means: tuple[float, ...] | None
    deviations: tuple[float, ...] | None
    patches: int
    raw_patches: int | None
    problem: str | None
    picture: str | None

    def described(self) -> str:
        """The estimate in one line."""
        if self.haematoxylin and self.eosin:
            return f"H {_triple(self.haematoxylin)}, E {_triple(self.eosin)}"
        if self.means and self.deviations:
            return f"means {_triple(self.means)}, deviations {_triple(self.deviations)}"
        return "-"


def _triple(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:.3g}" for value in values) + ")"


def stain_rows(run: Run, status: RunStatus) -> tuple[StainRow, ...]:
    """Rows of the grouped slides; none where no normalization was asked for."""
    settings, rows = run.settings, []
    if settings.stain is StainMethod.NONE:
        return ()
    for name, slide in status.slides.items():
        summary, picture = slide.summary, run.slides[name].files.stain_picture
        if summary is None:
            continue
        fit = summary.stain
        stains = (fit.stains if fit else None) or (None, None)
        rows.append(
            StainRow(
                slide=name,
                method=settings.stain.value,
                per=settings.stain_per.value,
                haematoxylin=stains[0],
                eosin=stains[1],
                means=fit.means if fit else None,
                deviations=fit.deviations if fit else None,
                patches=summary.n_patches,
                raw_patches=slide.raw_patches if slide.state is State.DONE else None,
                problem=summary.stain_problem,
                picture=str(picture) if picture.exists() else None,
            )
        )
    return tuple(rows)


def stain_notes(rows: Sequence[StainRow]) -> list[str]:
    """A sentence where patches kept their raw colours."""
    raw = [row for row in rows if row.raw_patches or row.problem]
    if not raw:
        return []
    patches = sum(row.raw_patches or 0 for row in raw)
    names = ", ".join(row.slide for row in raw[:5]) + (", ..." if len(raw) > 5 else "")
    return [
        f"Stain normalization failed on {len(raw)} of {len(rows)} slides ({names}): {patches} "
        "patches were scored in their raw colours."
    ]


def embedded_picture(path: Path | str) -> str:
    """A picture as a data URI, small enough for a page."""
    with Image.open(path) as picture, io.BytesIO() as file:
        height = max(1, round(picture.height * _WIDTH_PX / picture.width))
        picture.convert("RGB").resize((_WIDTH_PX, height)).save(file, "JPEG", quality=85)
        return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
