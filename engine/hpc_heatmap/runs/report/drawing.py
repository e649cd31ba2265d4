"""Draws a scene as SVG, which scales and has tooltips, or as PNG."""

from __future__ import annotations

import io
import re
from html import escape

from PIL import Image, ImageDraw, ImageFont

from hpc_heatmap.runs.report.timeline import Area, Rect, Scene

__all__ = ["png", "svg"]

#: Colours of roles on a light and on a dark page. The stages' differ for colour-blind eyes too.
_COLOURS = {
    "grouping": ("#d98a00", "#f0ad3d"),
    "scoring": ("#2a6fb0", "#5aa2e0"),
    "stitching": ("#1c9170", "#3fc79f"),
    "paused": ("#dcd6e4", "#463f52"),
    "lane": ("#f0f2f5", "#262a31"),
    "grid": ("#e1e4e9", "#353a43"),
    "axis": ("#9aa1ac", "#6d7480"),
    "text": ("#1d2129", "#e6e8ec"),
    "muted": ("#5b6370", "#a3abb8"),
    "page": ("#ffffff", "#16181d"),
}
_FONT_PX = 12
#: What XML forbids.
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


def svg(scene: Scene, *, standalone: bool = False) -> str:
    """SVG of a scene in the colours of the reader's light or dark mode.

    Parameters
    ----------
    scene
        What to draw.
    standalone
        Whether it becomes a file of its own, with a background, or part of an HTML page.
    """
    light = "".join(f".tl-{role}{{fill:{pair[0]}}}" for role, pair in _COLOURS.items())
    dark = "".join(f".tl-{role}{{fill:{pair[1]}}}" for role, pair in _COLOURS.items())
    space = ' xmlns="http://www.w3.org/2000/svg"' if standalone else ""
    parts = [
        f'<svg{space} viewBox="0 0 {scene.width:g} {scene.height:g}" role="img" '
        f'aria-label="{_clean(scene.label)}" font-family="system-ui, sans-serif" '
        f'font-size="{_FONT_PX}">',
        f"<style>{light}@media (prefers-color-scheme: dark){{{dark}}}</style>",
    ]
    if standalone:
        parts.append('<rect width="100%" height="100%" class="tl-page"/>')
    for shape in scene.shapes:
        if isinstance(shape, Rect):
            parts.append(
                f'<rect x="{shape.x:.2f}" y="{shape.y:.2f}" width="{shape.width:.2f}" '
                f'height="{shape.height:.2f}" class="tl-{shape.role}"'
                + (f"><title>{_clean(shape.title)}</title></rect>" if shape.title else "/>")
            )
        elif isinstance(shape, Area):
            points = " ".join(f"{x:.2f},{y:.2f}" for x, y in shape.points)
            parts.append(f'<polygon points="{points}" class="tl-{shape.role}"/>')
        else:
            parts.append(
                f'<text x="{shape.x:.2f}" y="{shape.y:.2f}" text-anchor="{shape.anchor}" '
                f'class="tl-{shape.role}">{_clean(shape.text)}</text>'
            )
    parts.append("</svg>")
    return "\n".join(parts)


def _clean(text: str) -> str:
    return escape(_CONTROL.sub("\ufffd", text))


def png(scene: Scene, scale: float = 2.0) -> bytes:
    """PNG of a scene on white, `scale` times its size in pixels."""
    size = (round(scene.width * scale), round(scene.height * scale))
    image = Image.new("RGB", size, _COLOURS["page"][0])
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(_FONT_PX * scale)
    anchors = {"start": "ls", "middle": "ms", "end": "rs"}
    for shape in scene.shapes:
        colour = _COLOURS[shape.role][0]
        if isinstance(shape, Rect):
            left, top = round(shape.x * scale), round(shape.y * scale)
            right = max(left + 1, round((shape.x + shape.width) * scale))
            bottom = max(top + 1, round((shape.y + shape.height) * scale))
            draw.rectangle((left, top, right - 1, bottom - 1), fill=colour)
        elif isinstance(shape, Area):
            draw.polygon([(x * scale, y * scale) for x, y in shape.points], fill=colour)
        else:
            place = (shape.x * scale, shape.y * scale)
            draw.text(place, shape.text, fill=colour, font=font, anchor=anchors[shape.anchor])
    with io.BytesIO() as file:
        image.save(file, "PNG", optimize=True)
        return file.getvalue()
