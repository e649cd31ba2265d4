"""The timeline of a run, which core did what when: shapes alone, drawn by ``drawing.py``.

Above, the cores in use over time; below, one lane a core. Time runs in pixels piece by piece, so
that the pauses of a resumed run take a narrow band each and the work between them stays readable.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from hpc_heatmap.formats.task_files import TaskRecord
from hpc_heatmap.runs.report.timing import Bar, Span, cores_of, covered_s, pack_lanes
from hpc_heatmap.runs.report.values import duration
from hpc_heatmap.stages.task import Stage

__all__ = ["Area", "Rect", "Scene", "Text", "draw_timeline"]

_WIDTH, _LEFT, _RIGHT, _TOP = 1100.0, 118.0, 24.0, 34.0
_CURVE_HEIGHT, _CURVE_GAP = 84.0, 18.0
#: Lanes beyond these are not drawn; the curve above counts all cores.
_MOST_LANES = 400
#: Tasks beyond these have no tooltip.
_MOST_TITLES = 6000
_STEPS_S = (
    0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600,
    43200, 86400, 172800, 604800,
)  # fmt: skip


@dataclass(frozen=True)
class Rect:
    """A filled rectangle; `role` decides its colour."""

    x: float
    y: float
    width: float
    height: float
    role: str
    title: str = ""


@dataclass(frozen=True)
class Area:
    """A filled polygon."""

    points: tuple[tuple[float, float], ...]
    role: str


@dataclass(frozen=True)
class Text:
    """A line of text on its baseline; `anchor` is start, middle or end."""

    x: float
    y: float
    text: str
    anchor: str = "start"
    role: str = "text"


@dataclass
class Scene:
    """What is to be drawn, pixels with y down, in the order of drawing."""

    width: float
    height: float
    label: str
    shapes: list[Area | Rect | Text] = field(default_factory=list)


class _Axis:
    """Seconds since 1970 to pixels, with the pauses cut to narrow bands."""

    def __init__(self, extent: Span, paused: Sequence[Span]) -> None:
        self.band = 56.0 if len(paused) <= 6 else 300.0 / len(paused)
        self.paused = list(paused)
        self.extent = extent
        drawn = _WIDTH - _LEFT - _RIGHT - self.band * len(self.paused)
        work_s = max(extent.length_s - covered_s(extent, paused), 1e-3)
        self.px_per_s = drawn / work_s
        borders = [extent.start, *(t for p in paused for t in (p.start, p.end)), extent.end]
        self.pieces = [Span(a, b) for a, b in zip(borders[::2], borders[1::2], strict=True)]

    def x(self, at: float) -> float:
        """Pixel of a time; within a pause it is the start of its band."""
        before = (
            covered_s(Span(self.extent.start, at), self.pieces) if at > self.extent.start else 0
        )
        bands = sum(p.end <= at for p in self.paused)
        return _LEFT + before * self.px_per_s + bands * self.band

    def ticks(self) -> list[tuple[float, str]]:
        """Pixels and labels: time since the first start."""
        step = next((s for s in _STEPS_S if s * self.px_per_s >= 62), _STEPS_S[-1])
        found: list[tuple[float, str]] = []
        for piece in self.pieces:
            first = int(np.ceil((piece.start - self.extent.start) / step - 1e-9))
            last = int(np.floor((piece.end - self.extent.start) / step + 1e-9))
            for k in range(first, last + 1):
                x = self.x(min(self.extent.start + k * step, piece.end))
                if not found or x - found[-1][0] > 48:
                    found.append((x, _elapsed(k * step, step, self.extent.length_s)))
        return found


def _elapsed(at_s: float, step_s: float, total_s: float) -> str:
    """Time since the first start, as short as the step between labels allows."""
    if total_s < 180:
        return f"{at_s:.4g} s"
    if step_s % 3600 == 0:
        return f"{at_s / 3600:.0f} h"
    if step_s % 60 == 0 and total_s < 7200:
        return f"{at_s / 60:.0f} min"
    minutes, seconds = divmod(round(at_s), 60)
    if total_s < 3600:
        return f"{minutes}:{seconds:02d} min"
    clock = f"{minutes // 60}:{minutes % 60:02d}"
    return f"{clock} h" if step_s % 60 == 0 else f"{clock}:{seconds:02d}"


def draw_timeline(records: Sequence[TaskRecord], paused: Sequence[Span], name: str) -> Scene | None:
    """Lay out the timeline of a run; None where no task has a record."""
    if not records:
        return None
    extent = Span(min(r.started_at for r in records), max(r.ended_at for r in records))
    axis = _Axis(extent, paused)
    bars = pack_lanes(records)
    n_lanes = 1 + max(bar.lane for bar in bars)
    shown = min(n_lanes, _MOST_LANES)
    lane_px = min(22.0, max(2.0, 640.0 / shown))
    top = _TOP + _CURVE_HEIGHT + _CURVE_GAP
    bottom = top + shown * lane_px
    scene = Scene(
        _WIDTH,
        bottom + (58 if n_lanes > shown else 40),
        f"Timeline of {name}: {len(records)} tasks on {n_lanes} cores",
    )
    _legend(scene, {r.stage for r in records}, bool(paused))
    _grid(scene, axis, bottom)
    _curve(scene, axis, records)
    _lanes(scene, axis, [b for b in bars if b.lane < shown], top, lane_px)
    _pauses(scene, axis, bottom)
    if n_lanes > shown:
        note = f"{shown} of {n_lanes:,} cores are drawn; the curve above counts all of them."
        scene.shapes.append(Text(_LEFT, bottom + 50, note, role="muted"))
    return scene


def _legend(scene: Scene, stages: set[str], paused: bool) -> None:
    entries = [s.value for s in Stage if s in stages]
    x = _LEFT
    for entry in [*entries, *(["paused"] if paused else [])]:
        scene.shapes += [Rect(x, 6, 12, 12, entry), Text(x + 18, 16, entry)]
        x += 34 + 7.2 * len(entry)
    scene.shapes.append(Text(_WIDTH - _RIGHT, 16, "time since the first start", "end", "muted"))


def _grid(scene: Scene, axis: _Axis, bottom: float) -> None:
    for x, label in axis.ticks():
        scene.shapes.append(Rect(x - 0.5, _TOP, 1, bottom - _TOP + 5, "grid"))
        scene.shapes.append(Text(x, bottom + 20, label, "middle", "muted"))


def _curve(scene: Scene, axis: _Axis, records: Sequence[TaskRecord]) -> None:
    """Mean cores in use in each pixel column, stages upon each other."""
    stages, base = list(Stage), _TOP + _CURVE_HEIGHT
    columns = []
    for piece in axis.pieces:
        n = max(1, round(piece.length_s * axis.px_per_s / 1.5))
        edges = np.linspace(piece.start, piece.end, n + 1)
        width_s = max(piece.length_s / n, 1e-9)
        used = [_core_seconds([r for r in records if r.stage == s], edges) for s in stages]
        upto = np.cumsum([np.zeros(n), *(np.diff(u) / width_s for u in used)], axis=0)
        xs = axis.x(piece.start) + np.arange(n + 1) * piece.length_s * axis.px_per_s / n
        columns.append((xs, np.maximum(upto, 0)))
    most = max(1.0, *(float(upto.max()) for _, upto in columns))
    for xs, upto in columns:
        ys = base - upto * ((_CURVE_HEIGHT - 4) / most)
        sides = np.repeat(xs, 2)[1:-1].tolist()
        for stage, low, high in zip(stages, ys, ys[1:], strict=False):
            if (low - high).max() > 0.01:
                there = zip(sides, np.repeat(high, 2).tolist(), strict=True)
                back = zip(sides[::-1], np.repeat(low, 2)[::-1].tolist(), strict=True)
                scene.shapes.append(Area((*there, *back), stage.value))
    scene.shapes.append(Rect(_LEFT, base, _WIDTH - _LEFT - _RIGHT, 1, "axis"))
    scene.shapes.append(Text(_LEFT - 10, base, "0", "end", "muted"))
    scene.shapes.append(Text(_LEFT - 10, _TOP + 12, f"{most:,.0f}", "end", "muted"))
    scene.shapes.append(Text(_LEFT - 10, _TOP + 46, "cores in use", "end", "text"))


def _core_seconds(
    records: Sequence[TaskRecord], at: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Core-seconds used until each time."""
    total = np.zeros(len(at))
    if not records:
        return total
    base = at[0]
    cores = np.array([cores_of(r) for r in records], float)
    for sign, times in ((1, [r.started_at for r in records]), (-1, [r.ended_at for r in records])):
        order = np.argsort(times)
        moments = np.array(times)[order] - base
        n = np.concatenate([[0], np.cumsum(cores[order])])
        weighted = np.concatenate([[0], np.cumsum(cores[order] * moments)])
        k = np.searchsorted(moments, at - base, side="right")
        total += sign * (n[k] * (at - base) - weighted[k])
    return total


def _lanes(scene: Scene, axis: _Axis, bars: Sequence[Bar], top: float, lane_px: float) -> None:
    gap = 4.0 if lane_px >= 14 else 2.0 if lane_px >= 8 else 0.5 if lane_px >= 3 else 0.0
    places = sorted({(b.lane, b.host, b.slot) for b in bars})
    for lane, _, _ in places:
        y = top + lane * lane_px + gap / 2
        for piece in axis.pieces:
            width = piece.length_s * axis.px_per_s
            scene.shapes.append(Rect(axis.x(piece.start), y, width, lane_px - gap, "lane"))
    titled = len(bars) <= _MOST_TITLES
    # Lanes that touch overlap a little, or the page behind would shine through.
    height = lane_px - gap if gap else lane_px + 0.4
    for bar in bars:
        x, end = axis.x(bar.record.started_at), axis.x(bar.record.ended_at)
        width = end - x - 0.8 if end - x > 3 else max(end - x, 0.6)
        y = top + bar.lane * lane_px + gap / 2
        role = bar.record.stage if bar.record.stage in set(Stage) else "lane"
        title = _title(bar) if titled else ""
        scene.shapes.append(Rect(x, y, width, height, role, title))
    _lane_labels(scene, places, top, lane_px)


def _lane_labels(
    scene: Scene, places: Sequence[tuple[int, str, int]], top: float, lane_px: float
) -> None:
    """Host and number of each core, or of each host where lanes are narrow."""
    last_y = -100.0
    several = len({host for _, host, _ in places}) > 1
    for lane, host, slot in places:
        y = top + lane * lane_px + lane_px / 2 + 4
        each = lane_px >= 12
        if y - last_y < 12 or not (each or slot == 0):
            continue
        text = host if len(host) <= 13 else f"{host[:12]}…"
        if each:
            text = f"{text} {slot}" if slot == 0 or several else str(slot)
        scene.shapes.append(Text(_LEFT - 10, y if each else y + 3, text, "end", "muted"))
        last_y = y


def _title(bar: Bar) -> str:
    record = bar.record
    groups = ""
    if record.groups:
        groups = f", groups {min(record.groups)} to {max(record.groups)} ({len(record.groups)})"
    clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.started_at))
    return (
        f"{record.slide}: {record.stage}{groups}\n{clock}, {record.wall_s:.1f} s wall, "
        f"{record.cpu_s:.1f} s CPU, {record.model_s:.1f} s in the model\n"
        f"{bar.host}, core {bar.slot}, job {record.job}"
    )


def _pauses(scene: Scene, axis: _Axis, bottom: float) -> None:
    for pause in axis.paused:
        x = axis.x(pause.start)
        text = duration(pause.length_s)
        title = f"Paused for {text}"
        scene.shapes.append(Rect(x, _TOP, axis.band, bottom - _TOP, "paused", title))
        if axis.band >= 50:
            scene.shapes.append(Text(x + axis.band / 2, _TOP + 12, text, "middle", "muted"))
