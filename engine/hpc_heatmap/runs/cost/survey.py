"""How much tissue slides have: found on them, or guessed from their size where time is short."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from hpc_heatmap.cells import Cells
from hpc_heatmap.errors import SlideError
from hpc_heatmap.formats.run_file import RunFile, SlideEntry
from hpc_heatmap.geometry import Geometry
from hpc_heatmap.slide import Slide
from hpc_heatmap.stages.grouping import choose_cells, slide_geometry

__all__ = ["SlideSize", "Survey", "survey"]


@dataclass(frozen=True)
class SlideSize:
    """Size and tissue of one slide.

    Attributes
    ----------
    name
        Its id.
    width_px, height_px
        Read pixels.
    bytes
        Size of its file; 0 where unknown.
    cells
        (n, 2) its tissue cells where they were looked at, else None.
    share
        Share of its cells that are tissue; None where it is not known yet.
    """

    name: str
    width_px: int
    height_px: int
    bytes: int = 0
    cells: Cells | None = None
    share: float | None = None

    @property
    def area_px(self) -> int:
        """Read pixels of the slide."""
        return self.width_px * self.height_px

    def n_cells(self, window_px: int) -> int:
        """Tissue cells, T_p."""
        if self.cells is not None:
            return len(self.cells)
        grid = math.ceil(self.width_px / window_px) * math.ceil(self.height_px / window_px)
        return round(grid * (self.share or 0.0))

    def n_windows(self, window_px: int, stride_px: int) -> int:
        """Windows at a stride."""
        if self.cells is None:
            return round(self.n_cells(window_px) * (window_px / stride_px) ** 2)
        if not len(self.cells):
            return 0
        geometry = Geometry(self.width_px, self.height_px, window_px, stride_px)
        return geometry.count_windows(self.cells)


@dataclass(frozen=True)
class Survey:
    """All slides of a request.

    Attributes
    ----------
    slides
        Those that can be used.
    measured
        How many were looked at; the others are taken to have as much tissue as these.
    window_px
        Side of a window, read pixels.
    notes
        What a reader of the numbers has to know, in sentences.
    """

    slides: tuple[SlideSize, ...]
    measured: int
    window_px: int
    notes: tuple[str, ...] = ()


def survey(
    run: RunFile, seconds: float = 60.0, say: Callable[[str], None] = lambda sentence: None
) -> Survey:
    """Find the tissue of a request's slides, in at most about `seconds`.

    Where that is not enough, slides from all over the list are looked at, and the others are taken
    to have the same share of tissue.

    Parameters
    ----------
    run
        A request from :func:`~hpc_heatmap.runs.planning.plan_run`.
    seconds
        How long to look; at least one slide is looked at.
    say
        Called with a sentence for each slide.
    """
    usable = [entry for entry in run.slides if not entry.problem]
    sizes: dict[str, SlideSize] = {}
    notes = [f"{e.id} is left out: {e.problem}" for e in run.slides if e.problem]
    ends = time.monotonic() + seconds
    for number, entry in enumerate(_spread_out(usable)):
        looks = time.monotonic() < ends or not sizes
        if looks:
            say(f"Looking for tissue: slide {number + 1} of {len(usable)}")
        try:
            sizes[entry.id] = _size(entry, run, looks)
        except SlideError as error:
            notes.append(f"{entry.id} is left out: {error}")
    looked_at = [s for s in sizes.values() if s.cells is not None]
    if len(looked_at) < len(sizes):
        found = sum(len(s.cells) for s in looked_at if s.cells is not None)
        share = found * run.model.window_px**2 / max(1, sum(s.area_px for s in looked_at))
        for name, size in sizes.items():
            if size.cells is None:
                sizes[name] = SlideSize(
                    size.name, size.width_px, size.height_px, size.bytes, None, share
                )
        notes.append(
            f"The tissue of {len(looked_at)} of {len(sizes)} slides was looked at; the others are "
            f"taken to have as much of it: {100 * share:.1f} % of their area."
        )
    ordered = tuple(sizes[e.id] for e in usable if e.id in sizes)
    return Survey(ordered, len(looked_at), run.model.window_px, tuple(notes))


def _spread_out(entries: Sequence[SlideEntry]) -> list[SlideEntry]:
    """In an order that soon has some from everywhere, always the same."""
    order = np.random.default_rng(0).permutation(len(entries))
    return [entries[k] for k in order]


def _size(entry: SlideEntry, run: RunFile, looks: bool) -> SlideSize:
    with Slide(entry.path, spacing_um=run.settings.spacing) as slide:
        view = slide.view(run.model.requested_spacing_um)
        if not looks:
            return SlideSize(entry.id, view.width_px, view.height_px, entry.bytes)
        geometry = slide_geometry(view, run.model.window_px, run.stride_px)
        table, _ = choose_cells(slide, geometry, run.settings)
        cells = table.cells[table.tissue]
        return SlideSize(entry.id, view.width_px, view.height_px, entry.bytes, cells)
