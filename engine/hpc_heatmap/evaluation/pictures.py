"""Curves as pictures (SVG or PNG) and as tables."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

__all__ = ["Plot", "Series", "plot_png", "plot_svg"]

_WIDTH, _HEIGHT = 560, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 20, 40, 52
_COLOURS = ("#2a6fb0", "#d98a00", "#1c9170", "#8a4fae", "#b3413b", "#5b6370")
_MARK = 4.0
#: White around text, which curves may run below.
_HALO = 1
_TEXT, _GRID, _AXIS = "#1d2129", "#e1e4e9", "#5b6370"
#: Supersampling of PNG.
_FINE = 3

Place = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """One curve."""

    name: str
    x: npt.NDArray[np.float64]
    y: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Plot:
    """Curves with y from 0 to 1.

    Attributes
    ----------
    ticks
        Places on the x axis; the first and last are its ends.
    log2
        Whether the x axis doubles from tick to tick.
    marks
        Whether the points of the curves are marked.
    """

    title: str
    x_label: str
    y_label: str
    ticks: Sequence[float]
    curves: Sequence[Series]
    log2: bool = False
    marks: bool = False

    def x_at(self, value: float) -> float:
        """Position of a value, pixels."""
        low, high = self.ticks[0], self.ticks[-1]
        value = min(max(value, low), high)
        part = (value - low) / (high - low)
        if self.log2:
            part = float(np.log2(value / low) / np.log2(high / low))
        return _LEFT + part * (_WIDTH - _LEFT - _RIGHT)

    def lines(self, series: Series) -> list[Place]:
        """Points of a curve, pixels; what is left of the axis stands at its start."""
        order = np.lexsort((series.y, series.x))
        return [
            (self.x_at(float(series.x[i])), _y_at(float(series.y[i])))
            for i in order
            if series.x[i] <= self.ticks[-1]
        ]


def _y_at(value: float) -> float:
    return _HEIGHT - _BOTTOM - value * (_HEIGHT - _TOP - _BOTTOM)


def _strokes(plot: Plot) -> list[tuple[list[Place], str, float]]:
    """Lines with colour and width."""
    bottom, right = _y_at(0), _WIDTH - _RIGHT
    found: list[tuple[list[Place], str, float]] = [
        ([(plot.x_at(tick), _y_at(1)), (plot.x_at(tick), bottom)], _GRID, 1) for tick in plot.ticks
    ]
    for tenth in range(0, 11, 2):
        y = _y_at(tenth / 10)
        found.append(([(_LEFT, y), (right, y)], _GRID, 1))
    found.append(([(_LEFT, _y_at(1)), (_LEFT, bottom), (right, bottom)], _AXIS, 1))
    for number, series in enumerate(plot.curves):
        line, colour = plot.lines(series), _COLOURS[number % len(_COLOURS)]
        found.append((line, colour, 2))
        if plot.marks:
            found += [([(x - _MARK, y), (x + _MARK, y)], colour, 2 * _MARK) for x, y in line]
    return found


def _texts(plot: Plot) -> list[tuple[Place, str, str, str]]:
    """Place, text, anchor and colour."""
    found: list[tuple[Place, str, str, str]] = [((_LEFT, 24.0), plot.title, "start", _TEXT)]
    found += [
        ((plot.x_at(tick), _y_at(0) + 18), f"{tick:g}", "middle", _TEXT) for tick in plot.ticks
    ]
    found += [
        ((_LEFT - 8.0, _y_at(tenth / 10) + 4), f"{tenth / 10:g}", "end", _TEXT)
        for tenth in range(0, 11, 2)
    ]
    found.append(((_LEFT, _y_at(0) + 40), plot.x_label, "start", _AXIS))
    found.append(((_LEFT + 6.0, _y_at(1) - 4), plot.y_label, "start", _AXIS))
    for number, series in enumerate(plot.curves):
        place = (_WIDTH - _RIGHT - 8.0, _y_at(0) - 10 - 18 * (len(plot.curves) - 1 - number))
        found.append((place, series.name, "end", _COLOURS[number % len(_COLOURS)]))
    return found


def plot_svg(plot: Plot) -> str:
    """Draw as SVG."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(plot.title)}" font-family="system-ui, sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
    ]
    for points, colour, width in _strokes(plot):
        line = " ".join(f"{x:.2f},{y:.2f}" for x, y in points)
        parts.append(
            f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="{width:g}"/>'
        )
    for (x, y), text, anchor, colour in _texts(plot):
        parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" '
            f'stroke="white" stroke-width="{2 * _HALO}" paint-order="stroke">'
            f"{escape(text)}</text>"
        )
    return "\n".join([*parts, "</svg>"])


def plot_png(plot: Plot, scale: int = 2) -> bytes:
    """Draw as PNG, `scale` times the size of the SVG."""
    fine = scale * _FINE
    image = Image.new("RGB", (_WIDTH * fine, _HEIGHT * fine), "#ffffff")
    draw = ImageDraw.Draw(image)
    for points, colour, width in _strokes(plot):
        if len(points) > 1:
            line = [(x * fine, y * fine) for x, y in points]
            draw.line(line, fill=colour, width=round(width * fine), joint="curve")
    image = image.resize((_WIDTH * scale, _HEIGHT * scale), Image.Resampling.LANCZOS)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(12 * scale)
    anchors = {"start": "ls", "middle": "ms", "end": "rs"}
    for (x, y), text, anchor, colour in _texts(plot):
        draw.text(
            (x * scale, y * scale), text, fill=colour, font=font, anchor=anchors[anchor],
            stroke_width=_HALO * scale, stroke_fill="white",
        )  # fmt: skip
    with io.BytesIO() as file:
        image.save(file, "PNG", optimize=True)
        return file.getvalue()
