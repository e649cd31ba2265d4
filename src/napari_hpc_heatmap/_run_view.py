"""What the Monitor shows of a run, gathered in one look at its files."""

from __future__ import annotations

import os
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from hpc_heatmap import Run
from hpc_heatmap.runs.status import RunStatus, SlideStatus, State
from hpc_heatmap.stages.task import Stage

__all__ = ["RunView", "RunWatch", "SlideRow", "StageProgress", "in_words"]

_TAIL_BYTES = 8192
#: Progress older than this says little of what is to come.
_MEMORY_S = 300.0


@dataclass(frozen=True)
class StageProgress:
    """How far a stage is: `done` of `total`, in slides or groups."""

    stage: Stage
    done: int
    total: int
    unit: str


@dataclass(frozen=True)
class SlideRow:
    """One slide: its stage, groups and failures in words."""

    id: str
    state: State
    stage: str
    groups_done: int
    groups: int
    reason: str
    log: str


@dataclass(frozen=True)
class RunView:
    """One look at a run."""

    root: Path
    state: State
    stages: tuple[StageProgress, ...]
    slides: tuple[SlideRow, ...]
    left_s: float | None
    where: str
    log: str

    @property
    def n_done(self) -> int:
        """Slides with their heatmap."""
        return sum(row.state is State.DONE for row in self.slides)

    @property
    def n_failed(self) -> int:
        """Slides that failed."""
        return sum(row.state is State.FAILED for row in self.slides)

    @property
    def share(self) -> float:
        """How much is done, 0 to 1, by groups where they are known."""
        scoring = self.stages[1]
        if self.state is State.DONE:
            return 1.0
        return scoring.done / scoring.total if scoring.total else 0.0

    @property
    def sentence(self) -> str:
        """State in words."""
        words = f"{self.state.value}, {self.n_done} of {len(self.slides)} slides done"
        if self.n_failed:
            words += f", {self.n_failed} failed"
        if self.left_s is not None:
            words += f", about {in_words(self.left_s)} left"
        return words


class RunWatch:
    """Look at a run again and again; remembers its speed between looks.

    Parameters
    ----------
    root
        The run directory.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._run: Run | None = None
        self._scored: deque[tuple[float, int]] = deque()

    def look(self) -> RunView:
        """Read the run's files. May take long, or hang, where the file system is far or dead.

        Raises
        ------
        RequestError
            The directory holds no run.
        WorkError
            A file is damaged, or out of reach.
        """
        if self._run is None:
            self._run = Run(self.root)
        status = self._run.status()
        slides = list(status.slides.values())
        usable = [s for s in slides if s.state is not State.FAILED or s.groups]
        grouped = [s for s in usable if s.summary]
        stages = (
            StageProgress(Stage.GROUPING, len(grouped), len(usable), "slides"),
            StageProgress(
                Stage.SCORING,
                sum(s.groups_done for s in grouped),
                sum(s.groups for s in grouped),
                "groups",
            ),
            StageProgress(Stage.STITCHING, status.n_done, len(usable), "slides"),
        )
        return RunView(
            self.root,
            status.state,
            stages,
            tuple(_row(slide, status) for slide in slides),
            self._left_s(status, grouped, len(usable)),
            f"{status.master.host}, process {status.master.pid}" if status.master else "",
            _tail(self._run.paths.master_log),
        )

    def _left_s(self, status: RunStatus, grouped: list[SlideStatus], n_slides: int) -> float | None:
        """Seconds left, from windows scored since the first looks; None where nothing tells."""
        if status.state is not State.RUNNING or not grouped:
            self._scored.clear()
            return None
        windows = [
            (s.summary.n_windows if s.summary else 0, s.groups, s.groups_done) for s in grouped
        ]
        scored = sum(n * done // groups for n, groups, done in windows if groups)
        # Slides that are not grouped yet count as the others do in the mean.
        total = sum(n for n, _, _ in windows) * n_slides / len(grouped)
        now = time.monotonic()
        self._scored.append((now, scored))
        while now - self._scored[0][0] > _MEMORY_S:
            self._scored.popleft()
        began, first = self._scored[0]
        if scored <= first or now - began < 2:
            return None
        return (total - scored) * (now - began) / (scored - first)


def _row(slide: SlideStatus, status: RunStatus) -> SlideRow:
    if slide.state is State.DONE:
        stage = ""
    elif slide.summary is None:
        stage = Stage.GROUPING.value
    elif slide.groups_done < slide.groups:
        stage = Stage.SCORING.value
    else:
        stage = Stage.STITCHING.value
    reasons = dict.fromkeys(failure.reason for failure in slide.failures)
    logs = [failure.log for failure in slide.failures if failure.log]
    running = slide.state in (State.RUNNING, State.FAILED) or status.master is not None
    return SlideRow(
        slide.id,
        slide.state,
        stage if running else "",
        slide.groups_done,
        slide.groups,
        " ".join(reasons),
        "\n".join(logs),
    )


def _tail(path: Path) -> str:
    """Last lines of a log; empty where there is none."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - _TAIL_BYTES))
            return file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""


def in_words(seconds: float) -> str:
    """A duration as people say it: 40 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
