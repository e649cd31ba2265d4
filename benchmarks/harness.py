"""What every figure of ``benchmarks/run.py`` is made with: the registry, the clock, the row.

To add a figure, write a function in a module of ``benchmarks/figures/`` (all modules there are
found by themselves) and name it::

    from harness import Bench, figure, interleaved

    @figure("stride16_exact", goal=6, quick_s=22)
    def stride16_exact(bench: Bench) -> list[float]:
        '''Stride 16, exact, against the paper's way.'''
        ...
        return interleaved(papers_way, ours, repeats=3 if bench.quick else 9)

* It returns one ratio per repeat; the row has their median, and their range as the spread. Both
  sides of a ratio are measured in the same repeat, one after the other: `interleaved` does it.
* The first line of the docstring says what is compared; it is printed beside the ratio.
* `goal` is the smallest ratio that is good; with `at_most=True` the largest.
* `quick_s`: runs under ``--quick`` too, in about so many seconds; `bench.quick` tells it. Such
  figures run side by side then, a process a core, the longest first, unless they have `alone=True`:
  what is measured by the clock may need the machine for itself.
* `bench.folder` is a folder of the figure's own, deleted afterwards; `bench.once(...)` is for what
  several figures need, as `bench.slide()` is, a tiled JPEG slide; `bench.say("...")` prints a line
  of detail below the row.
* Where something is missing that a figure needs, raise :class:`UnavailableError` and say what.
"""

from __future__ import annotations

import importlib
import math
import os
import pkgutil
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

# Slides are drawn by the tests.
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

__all__ = [
    "Bench",
    "Figure",
    "UnavailableError",
    "all_figures",
    "figure",
    "interleaved",
    "machine",
    "row_of",
]

Measure = Callable[["Bench"], Sequence[float]]


class UnavailableError(Exception):
    """A figure cannot be measured here; the message says what is missing."""


@dataclass
class Bench:
    """What a figure is given.

    Attributes
    ----------
    quick
        Whether seconds matter more than a narrow spread.
    folder
        Folder of the figure's own.
    shared
        Folder of all figures of a run.
    work
        Folder that is kept from one run to the next: environments of peers.
    lines
        What was said.
    """

    quick: bool
    folder: Path
    shared: Path
    work: Path
    lines: list[str] = field(default_factory=list)

    def say(self, line: str) -> None:
        """Print a line of detail below the figure's row."""
        self.lines.append(line)

    def once(self, name: str, make: Callable[[Path], object]) -> Path:
        """A file or folder that all figures share, made by the first that asks for it."""
        path = self.shared / name
        with FileLock(self.shared / f"{name}.lock"):
            if not path.exists():
                make(path)
        return path

    def slide(self) -> Path:
        """A generated tiled JPEG pyramid (4:2:0, quality 80), a fifth of it tissue, made once.

        Its side is 17,920 px when quick, else 40,320 px.
        """
        side_px = 17_920 if self.quick else 40_320
        return self.once(f"slide-{side_px}.tiff", lambda path: round_tissue(path, side_px))


@dataclass(frozen=True)
class Figure:
    """One ratio: its name, its goal, and how to measure it."""

    name: str
    goal: float
    measure: Measure
    quick_s: float | None
    alone: bool
    at_most: bool

    @property
    def title(self) -> str:
        """What is compared."""
        return (self.measure.__doc__ or self.name).splitlines()[0].rstrip(".")

    def row(self, quick: bool, shared: Path, work: Path) -> dict[str, Any]:
        """Measure: name, ratio (median), goal, spread (largest - smallest), and what was said.

        Where it cannot be measured the ratio is None and `problem` says why.
        """
        row: dict[str, Any] = {"name": self.name, "ratio": None, "goal": self.goal, "spread": None}
        row |= {"at_most": self.at_most, "title": self.title, "details": []}
        with tempfile.TemporaryDirectory(prefix=f"{self.name}-", dir=shared) as folder:
            bench = Bench(quick, Path(folder), shared, work)
            started = time.perf_counter()
            try:
                ratios = self.measure(bench)
            except UnavailableError as reason:
                return row | {"problem": str(reason)}
            took_s = time.perf_counter() - started
        ratio = statistics.median(ratios)
        return row | {
            "ratio": ratio,
            "spread": max(ratios) - min(ratios),
            "ratios": list(ratios),
            "reached": ratio <= self.goal if self.at_most else ratio >= self.goal,
            "took_s": took_s,
            "details": bench.lines,
        }


def round_tissue(path: Path, side_px: int) -> Path:
    """Write a slide with one disc of tissue that covers a fifth of it."""
    from slides import GLASS_RGB, _stained_texture, write_slide

    centre, radius = side_px / 2, side_px * math.sqrt(0.2 / math.pi)

    def pixels_at(x: int, y: int, w: int, h: int, downsample: int) -> Any:
        column = (x + np.arange(w) + 0.5) * downsample - centre
        row = (y + np.arange(h) + 0.5) * downsample - centre
        if np.hypot(np.abs(column).min(), np.abs(row).min()) > radius:
            return None
        texture = _stained_texture(downsample)
        rows, columns = (y + np.arange(h)) % len(texture), (x + np.arange(w)) % len(texture)
        tissue = texture[rows].take(columns, axis=1)
        if np.hypot(np.abs(column).max(), np.abs(row).max()) > radius:
            tissue[np.hypot(column[None], row[:, None]) > radius] = GLASS_RGB
        return tissue

    return write_slide(
        path, pixels_at, side_px, side_px, spacing_um=0.25, quality=80, subsampling="420"
    )


_FIGURES: dict[str, Figure] = {}


def figure(
    name: str,
    goal: float,
    *,
    quick_s: float | None = None,
    alone: bool = False,
    at_most: bool = False,
) -> Callable[[Measure], Measure]:
    """Register a function as a figure; see the module's docstring."""

    def register(measure: Measure) -> Measure:
        _FIGURES[name] = Figure(name, goal, measure, quick_s, alone, at_most)
        return measure

    return register


def all_figures() -> list[Figure]:
    """Every figure of every module in ``figures/``."""
    import figures

    for module in sorted(m.name for m in pkgutil.iter_modules(figures.__path__)):
        importlib.import_module(f"figures.{module}")
    return list(_FIGURES.values())


def row_of(name: str, quick: bool, shared: Path, work: Path) -> dict[str, Any]:
    """The row of a figure that is asked for by name, as from another process."""
    return next(f for f in all_figures() if f.name == name).row(quick, shared, work)


def interleaved(
    baseline: Callable[[], Any],
    ours: Callable[[], Any],
    repeats: int,
    clock: Callable[[], float] = time.process_time,
) -> list[float]:
    """Time of `baseline` over time of `ours`, once a repeat, in turns.

    Where a function returns a number, that is taken for its time instead (for example time per
    window, or what a worker process has measured).

    Parameters
    ----------
    baseline, ours
        What is compared. Both run once before, unmeasured.
    repeats
        Number of pairs; every other pair begins with ours.
    clock
        Seconds; processor time of this process where nothing else is given.
    """

    def took(work: Callable[[], Any]) -> float:
        started = clock()
        result = work()
        return float(result) if isinstance(result, int | float) else clock() - started

    baseline()
    ours()
    ratios = []
    for number in range(repeats):
        if number % 2:
            b = took(ours)
            a = took(baseline)
        else:
            a = took(baseline)
            b = took(ours)
        ratios.append(a / b)
    return ratios


def machine() -> str:
    """The machine in a line: processor, cores, memory, system, versions, load."""
    model = platform.processor() or platform.machine()
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parts = [model, f"{cores} cores"]
    with suppress(ImportError):
        import psutil

        parts.append(f"{psutil.virtual_memory().total / 2**30:.0f} GiB")
    parts += [platform.platform(terse=True), f"Python {platform.python_version()}"]
    parts += [f"{name} {version(name)}" for name in ("torch", "onnxruntime", "openslide-bin")]
    if hasattr(os, "getloadavg"):
        parts.append(f"load {os.getloadavg()[0]:.1f}")
    return ", ".join(parts)
