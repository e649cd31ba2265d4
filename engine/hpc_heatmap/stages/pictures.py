"""Pictures that a run leaves for people: the chosen grid, and the heatmap over its slide."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from hpc_heatmap.cells import CellTable
from hpc_heatmap.formats.atomic import writing
from hpc_heatmap.formats.colours import colour
from hpc_heatmap.formats.heatmap import Heatmap
from hpc_heatmap.geometry import Geometry
from hpc_heatmap.slide import RGB, Slide

__all__ = ["draw_grid", "draw_overview"]

_LONGEST_PX = 1600
_LEGEND_PX = 56
_GRID_COLOUR = (0, 110, 60)


def draw_grid(path: Path, slide: Slide, geometry: Geometry, table: CellTable) -> None:
    """Thumbnail with the tissue cells outlined and the bounding box drawn."""
    thumbnail, scale = slide.thumbnail(_LONGEST_PX)
    image = Image.fromarray(thumbnail)
    draw = ImageDraw.Draw(image, "RGBA")
    side_x = geometry.window_px * geometry.scale_x / scale
    side_y = geometry.window_px * geometry.scale_y / scale

    def square(row: int, column: int, n: int = 1, m: int = 1) -> tuple[float, ...]:
        return (column * side_x, row * side_y, (column + m) * side_x, (row + n) * side_y)

    for row, column in table.cells[table.tissue].tolist():
        draw.rectangle(square(row, column), fill=(*_GRID_COLOUR, 40), outline=(*_GRID_COLOUR, 200))
    if len(table.cells):
        top, left = table.cells.min(axis=0).tolist()
        bottom, right = table.cells.max(axis=0).tolist()
        box = square(top, left, bottom - top + 1, right - left + 1)
        draw.rectangle(box, outline=(200, 0, 0, 255), width=3)
    text = (
        f"{table.n_patches} tissue cells of {len(table.cells)} in the box, {table.n_groups} groups"
    )
    _save(path, _with_legend(image, text))


def draw_overview(path: Path, slide: Slide, heatmap: Heatmap, title: str) -> None:
    """Heatmap in colour over the slide's thumbnail, opaque where the score is high."""
    thumbnail, scale = slide.thumbnail(_LONGEST_PX)
    level = 0
    while level + 1 < heatmap.n_levels and max(heatmap.placement_px(level)[1]) < scale:
        level += 1
    origin, step = heatmap.placement_px(level)
    dataset = heatmap.dataset(level)
    x = _nearest(thumbnail.shape[1], scale, origin[0], step[0], dataset.shape[1])
    y = _nearest(thumbnail.shape[0], scale, origin[1], step[1], dataset.shape[0])
    scores = dataset[:][np.ix_(y, x)]
    scored = ~np.isnan(scores)
    p = np.where(scored, scores, 0)
    opacity = np.where(scored, 0.15 + 0.55 * p, 0)[..., None]
    mixed = thumbnail * (1 - opacity) + colour(p) * opacity
    image = Image.fromarray(np.rint(mixed).astype(np.uint8))
    _save(path, _with_legend(image, title, colours=True))


def _nearest(n: int, scale: float, origin: float, step: float, size: int) -> npt.NDArray[np.intp]:
    """Sample nearest to the centre of each of `n` thumbnail pixels."""
    level0 = (np.arange(n) + 0.5) * scale - 0.5
    index: npt.NDArray[np.intp] = np.rint((level0 - origin) / step).astype(np.intp)
    return np.clip(index, 0, size - 1)


def _with_legend(image: Image.Image, text: str, *, colours: bool = False) -> Image.Image:
    """A strip with words, and the colours' scale, below a picture."""
    width = max(image.width, 480)
    page = Image.new("RGB", (width, image.height + _LEGEND_PX), "white")
    page.paste(image, (0, 0))
    draw = ImageDraw.Draw(page)
    font = ImageFont.load_default(15)
    top = image.height + 6
    draw.text((8, top), text, "black", font=font)
    if colours:
        ramp: RGB = np.rint(colour(np.linspace(0, 1, 256))).astype(np.uint8)
        page.paste(Image.fromarray(np.repeat(ramp[None], 12, axis=0)), (34, top + 25))
        draw.text((14, top + 22), "0", "black", font=font)
        draw.text((298, top + 22), "1   lesion probability", "black", font=font)
    return page


def _save(path: Path, image: Image.Image) -> None:
    with writing(path) as partial:
        image.save(partial, format="PNG", compress_level=2)
