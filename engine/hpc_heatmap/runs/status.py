"""State of a run, derived from its files alone."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any

from hpc_heatmap.formats.heatmap import Heatmap
from hpc_heatmap.formats.paths import RunPaths, SlidePaths
from hpc_heatmap.formats.run_file import RunFile, SlideEntry
from hpc_heatmap.formats.slide_summary import SlideSummary, read_summary
from hpc_heatmap.formats.task_files import Failure, read_failures
from hpc_heatmap.runs.lease import LeaseHolder, holder
from hpc_heatmap.settings import RunSettings, StainMethod, StainPer
from hpc_heatmap.stages.task import Stage

__all__ = ["RunStatus", "SlideStatus", "State", "missing_groups", "next_stage", "run_status"]


class State(StrEnum):
    """State of a run or a slide."""

    PLANNED = "planned"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class SlideStatus:
    """State of one slide.

    Attributes
    ----------
    state
        Its state.
    summary
        Numbers of the slide, None until it is grouped.
    groups_done
        Groups whose scores are complete.
    failures
        What failed.
    raw_patches
        Patches that were scored in their raw colours although their stain was to be normalised;
        None until that is known.
    """

    id: str
    state: State
    summary: SlideSummary | None
    groups_done: int
    failures: tuple[Failure, ...]
    raw_patches: int | None = None

    @property
    def groups(self) -> int:
        """Number of groups; 0 until the slide is grouped."""
        return self.summary.n_groups if self.summary else 0

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "state": self.state.value,
            "groups": self.groups,
            "groups_done": self.groups_done,
            "patches": self.summary.n_patches if self.summary else 0,
            "windows": self.summary.n_windows if self.summary else 0,
            "unreadable_patches": self.summary.n_unreadable if self.summary else 0,
            "raw_patches": self.raw_patches,
            "stain_problem": self.summary.stain_problem if self.summary else None,
            "failures": [
                {"stage": f.stage, "group": f.group, "reason": f.reason, "log": f.log}
                for f in self.failures
            ],
        }


@dataclass(frozen=True)
class RunStatus:
    """State of a run."""

    state: State
    slides: dict[str, SlideStatus]
    master: LeaseHolder | None

    @property
    def n_done(self) -> int:
        """Slides with their heatmap."""
        return sum(s.state is State.DONE for s in self.slides.values())

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, as ``status --json`` prints them."""
        return {
            "state": self.state.value,
            "slides": {name: slide.as_dict() for name, slide in self.slides.items()},
            "master": {"host": self.master.host, "pid": self.master.pid} if self.master else None,
        }


def run_status(paths: RunPaths, run: RunFile) -> RunStatus:
    """Look at the files of a run.

    Raises
    ------
    FormatError
        A file of the run is damaged.
    """
    master = holder(paths.master)
    cancelled = paths.cancelled.exists()
    failures: dict[str, list[Failure]] = {}
    for failure in read_failures(paths):
        failures.setdefault(failure.slide, []).append(failure)
    slides = {
        entry.id: _slide_status(
            paths.slide(entry.id),
            entry,
            failures.get(entry.id, []),
            master is not None,
            cancelled,
            run.settings,
        )
        for entry in run.slides
    }
    states = [slide.state for slide in slides.values()]
    if all(state is State.DONE for state in states):
        state = State.DONE
    elif master is not None:
        state = State.RUNNING
    elif cancelled:
        state = State.CANCELLED
    elif State.FAILED in states:
        state = State.FAILED
    else:
        state = State.PLANNED
    return RunStatus(state, slides, master)


def _slide_status(
    files: SlidePaths,
    entry: SlideEntry,
    failures: list[Failure],
    running: bool,
    cancelled: bool,
    settings: RunSettings,
) -> SlideStatus:
    summary = read_summary(files.summary) if files.summary.exists() else None
    if summary is not None and files.slide_scores.exists():
        done = summary.n_groups
    else:
        done = len(_complete_groups(files.scores))
    if entry.problem:
        failures = [_problem_of(entry)]
    if not entry.problem and next_stage(files) is None:
        raw = _raw_patches(files, summary, settings)
        return SlideStatus(entry.id, State.DONE, summary, done, (), raw)
    if failures:
        state = State.FAILED
    elif running:
        state = State.RUNNING if files.root.exists() else State.PLANNED
    else:
        state = State.CANCELLED if cancelled else State.PLANNED
    return SlideStatus(entry.id, state, summary, done, tuple(failures))


def _raw_patches(
    files: SlidePaths, summary: SlideSummary | None, settings: RunSettings
) -> int | None:
    """Patches of a finished slide that kept their raw colours against the request."""
    if settings.stain is StainMethod.NONE or summary is None:
        return 0
    if settings.stain_per is StainPer.SLIDE:
        return summary.n_patches - summary.n_unreadable if summary.stain_problem else 0
    return _recorded_raw_patches(files.heatmap, files.heatmap.stat().st_mtime_ns)


@lru_cache(maxsize=4096)
def _recorded_raw_patches(heatmap: Path, changed_ns: int) -> int:
    """What a heatmap says, read once: a status is asked for again and again."""
    with Heatmap(heatmap) as opened:
        return int(opened.attributes.get("raw_patches", 0))


def _problem_of(entry: SlideEntry) -> Failure:
    return Failure(
        stage="grouping",
        slide=entry.id,
        group=None,
        reason=entry.problem or "",
        error="SlideError",
        scope="slide",
    )


def next_stage(files: SlidePaths) -> Stage | None:
    """What a slide needs next, seen from its files; None where nothing is missing.

    Every file of a slide is a result and made anew where it is missing, but for the pixels of the
    groups: they are large, and of no use once every group is scored.

    Raises
    ------
    FormatError
        The slide's summary is damaged.
    """
    there = _names(files.root)
    if not there.issuperset(f.name for f in (files.grid_picture, files.lookup, files.summary)):
        return Stage.GROUPING
    summary = read_summary(files.summary)
    if (summary.stain or summary.stain_problem) and files.stain_picture.name not in there:
        return Stage.GROUPING
    if missing_groups(files, summary.n_groups):
        return Stage.SCORING if files.groups.name in there else Stage.GROUPING
    last = (files.heatmap, files.lesions_csv, files.lesions_geojson, files.overview)
    return None if there.issuperset(f.name for f in last) else Stage.STITCHING


def _names(folder: Path) -> set[str]:
    """Names in a folder: one look, where a file system may be far away."""
    try:
        return set(os.listdir(folder))
    except OSError:
        return set()


def _complete_groups(folder: Path) -> set[int]:
    """Groups that have a score file of their own."""
    return {int(n[:-3]) for n in _names(folder) if n.endswith(".h5") and n[:-3].isdigit()}


def missing_groups(files: SlidePaths, n_groups: int) -> list[int]:
    """Groups of a slide without scores."""
    if files.slide_scores.exists():
        return []
    complete = _complete_groups(files.scores)
    return [index for index in range(n_groups) if index not in complete]
