"""Some patches of a run's slides, to try its model on before there are groups."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hpc_heatmap.errors import SlideError
from hpc_heatmap.formats.run_file import ModelEntry, SlideEntry
from hpc_heatmap.geometry import Box
from hpc_heatmap.settings import RunSettings
from hpc_heatmap.slide import Slide
from hpc_heatmap.stages.grouping import slide_geometry

__all__ = ["sample_patches"]

#: Longest side of the picture in which tissue is looked for.
_THUMBNAIL_PX = 512
#: Largest of a slide's coarsest levels from which it is made.
_MOST_PIXELS = 2**24


def sample_patches(
    slides: Sequence[SlideEntry], model: ModelEntry, settings: RunSettings, n_patches: int = 2
) -> list[npt.NDArray[np.uint8]]:
    """The patches with most contrast of the first slide that can be read.

    Parameters
    ----------
    slides
        Slides of a run; those with a problem are passed over.
    model
        Window and spacing.
    settings
        The slides' own spacing.
    n_patches
        How many at most.

    Returns
    -------
    list of (patch, patch, 3) uint8
    """
    for entry in slides:
        if entry.problem is not None:
            continue
        try:
            with Slide(entry.path, spacing_um=settings.spacing) as slide:
                return _patches(slide, model, n_patches)
        except SlideError:
            continue
    return []


def _patches(slide: Slide, model: ModelEntry, n_patches: int) -> list[npt.NDArray[np.uint8]]:
    view = slide.view(model.requested_spacing_um)
    geometry = slide_geometry(view, model.window_px, model.window_px)
    width, height = slide.level_dimensions[-1]
    thumbnail = slide.thumbnail(_THUMBNAIL_PX) if width * height <= _MOST_PIXELS else None
    window = model.window_px

    def seen(row: int, column: int) -> npt.NDArray[np.uint8]:
        """A cell in the thumbnail; where that takes long to make, the middle of the cell."""
        if thumbnail is None:
            middle = Box(
                column * window + window // 3, row * window + window // 3, *[window // 3] * 2
            )
            return view.read(middle)
        picture, scale = thumbnail
        x, y = (window * s / scale for s in view.scale)
        rows = slice(int(row * y), int((row + 1) * y) + 1)
        return picture[rows, int(column * x) : int((column + 1) * x) + 1]

    every = (
        1 if thumbnail is not None else max(1, max(geometry.y.n_cells, geometry.x.n_cells) // 12)
    )
    contrast = []
    for row in range(0, geometry.y.n_cells, every):
        for column in range(0, geometry.x.n_cells, every):
            pixels = seen(row, column)
            contrast.append((-float(pixels.std()) if pixels.size else 0.0, row, column))
    chosen = sorted(contrast)[:n_patches]
    return [view.read(geometry.patch_box(row, column)) for _, row, column in chosen]
