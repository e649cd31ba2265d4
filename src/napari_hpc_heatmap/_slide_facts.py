"""What is known of a slide before anything is launched: size, spacing, thumbnail, warnings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hpc_heatmap import Slide
from hpc_heatmap.errors import HpcHeatmapError
from hpc_heatmap.tissue import detect_tissue

__all__ = ["SlideFacts", "slide_facts"]

THUMBNAIL_PX = 96
#: Tissue is looked for at 32x; on larger slides that takes longer than a list should.
_MOST_PX = 12_000 * 12_000


@dataclass(frozen=True)
class SlideFacts:
    """One slide of the list.

    Attributes
    ----------
    path
        Its file.
    size_px
        Width and height of level 0; None where it cannot be opened.
    spacing_um, spacing_source
        Micrometres per level-0 pixel (x, y) and where they come from.
    thumbnail
        uint8 RGB, THUMBNAIL_PX at most on a side.
    warnings
        What stands in the way, in words.
    """

    path: Path
    size_px: tuple[int, int] | None = None
    spacing_um: tuple[float, float] | None = None
    spacing_source: str = ""
    thumbnail: npt.NDArray[np.uint8] | None = None
    warnings: tuple[str, ...] = ()

    @property
    def spacing_words(self) -> str:
        """Spacing as people read it."""
        if self.spacing_um is None:
            return "unknown"
        x_um, y_um = self.spacing_um
        same = abs(x_um - y_um) < 1e-3 * x_um
        return f"{x_um:.4g} µm" if same else f"{x_um:.4g} x {y_um:.4g} µm"

    @property
    def size_words(self) -> str:
        """Size as people read it."""
        return "" if self.size_px is None else f"{self.size_px[0]:,} x {self.size_px[1]:,}"


def slide_facts(path: Path, tissue_method: str = "otsu-hs") -> SlideFacts:
    """Open a slide and look at it; what is wrong with it becomes a warning."""
    try:
        with Slide(path) as slide:
            warnings = []
            if slide.spacing_um is None:
                warnings.append("no spacing: give one below if the model needs it")
            thumbnail, _ = slide.thumbnail(THUMBNAIL_PX)
            looked = (
                slide.width_px * slide.height_px <= _MOST_PX or len(slide.level_downsamples) > 1
            )
            if looked and not detect_tissue(slide, tissue_method).mask.any():
                warnings.append("no tissue found")
            return SlideFacts(
                path,
                (slide.width_px, slide.height_px),
                slide.spacing_um,
                slide.spacing_source,
                thumbnail,
                tuple(warnings),
            )
    except HpcHeatmapError as error:
        return SlideFacts(path, warnings=(str(error),))
