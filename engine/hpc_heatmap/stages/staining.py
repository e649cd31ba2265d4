"""The stain of a slide: estimated from a sample of its tissue, shown, applied to its patches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from hpc_heatmap.cells import Cells
from hpc_heatmap.errors import StainError, TileError
from hpc_heatmap.formats.atomic import writing
from hpc_heatmap.geometry import Box, Geometry
from hpc_heatmap.settings import StainMethod
from hpc_heatmap.slide import RGB, SlideView
from hpc_heatmap.stain.fits import StainFit, fit_stain
from hpc_heatmap.stain.transfer import StainTable, change_stain

__all__ = ["Restaining", "draw_stain", "fit_sample", "sample_cells"]

#: Tissue cells that a slide's stain is estimated from, and those that are shown.
SAMPLED, SHOWN = 64, 6
_SIDE_PX, _GAP_PX, _LABEL_PX = 224, 6, 24


def sample_cells(view: SlideView, geometry: Geometry, cells: Cells) -> list[RGB]:
    """Pixels of tissue cells at even distances in reading order, the same ones every time.

    Cells that cannot be decoded are left out.
    """
    ordered = cells[np.lexsort((cells[:, 1], cells[:, 0]))]
    n = min(SAMPLED, len(ordered))
    found = []
    for row, column in ordered[(2 * np.arange(n) + 1) * len(ordered) // (2 * n)].tolist():
        side = geometry.window_px
        left, top = column * side, row * side
        width, height = min(side, view.width_px - left), min(side, view.height_px - top)
        try:
            found.append(view.read(Box(left, top, width, height)))
        except TileError:
            continue
    return found


def fit_sample(sample: Sequence[RGB], method: StainMethod) -> StainFit:
    """Stain of a slide's sample.

    Raises
    ------
    StainError
        There is too little tissue, or there are no two stains in it.
    """
    if not sample:
        raise StainError("no tissue of the slide can be decoded")
    return fit_stain(np.concatenate([cell.reshape(-1, 3) for cell in sample]), method)


class Restaining:
    """Changes the patches of a slide to a target's stain, and counts those that keep theirs.

    Parameters
    ----------
    target
        The stain to change to.
    source
        The slide's own; None where it could not be estimated, so that every patch stays raw.
    per_patch
        Each patch has an estimate of its own instead.
    """

    def __init__(
        self, target: StainFit, source: StainFit | None = None, *, per_patch: bool = False
    ) -> None:
        self._target = target
        self._per_patch = per_patch
        self._table = StainTable(source, target) if source and not per_patch else None
        #: Patches that kept their colours, until this is cleared.
        self.raw: set[int] = set()

    def __call__(self, number: int, patch: RGB) -> RGB:
        """Pixels of a patch of a group, by its number there."""
        if self._table is not None:
            return self._table(patch)
        if self._per_patch:
            try:
                return change_stain(patch, fit_stain(patch, self._target.method), self._target)
            except StainError:
                pass
        self.raw.add(number)
        return patch


def draw_stain(
    path: Path, sample: Sequence[RGB], target: StainFit, source: StainFit | None, problem: str
) -> None:
    """Some cells before and after; with no source each has its own estimate.

    Parameters
    ----------
    problem
        Why the slide's stain could not be estimated; the cells stay as they are then.
    """
    n = min(SHOWN, len(sample))
    shown = [sample[(2 * k + 1) * len(sample) // (2 * n)] for k in range(n)]
    width = max(n * (_SIDE_PX + _GAP_PX) + _GAP_PX, 640)
    page = Image.new("RGB", (width, 2 * (_SIDE_PX + _LABEL_PX + _GAP_PX)), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(14)
    restain = Restaining(target, source, per_patch=source is None and not problem)
    after = [restain(number, cell) for number, cell in enumerate(shown)]
    name = target.method.value
    words = f"raw colours: {problem}" if problem else f"after normalization ({name})"
    if restain.raw and not problem:
        words += f", {len(restain.raw)} of {n} kept raw: no two stains found"
    for line, (label, cells) in enumerate((("before", shown), (words, after))):
        top = line * (_SIDE_PX + _LABEL_PX + _GAP_PX)
        draw.text((_GAP_PX, top + 3), label, "black", font=font)
        for k, cell in enumerate(cells):
            picture = Image.fromarray(cell).resize((_SIDE_PX, _SIDE_PX))
            page.paste(picture, (_GAP_PX + k * (_SIDE_PX + _GAP_PX), top + _LABEL_PX))
    with writing(path) as partial:
        page.save(partial, format="PNG")
