"""Progress bars, tables and last words of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from hpc_heatmap.runs.run import Run
from hpc_heatmap.runs.status import RunStatus, State

__all__ = ["follow", "print_outcome", "print_status"]

_MOST_FAILURES = 10


@contextmanager
def follow(console: Console, *, quiet: bool = False) -> Iterator[Callable[[RunStatus], None]]:
    """Bars for the three stages; gives a function to call with each new status."""
    if quiet:
        yield lambda status: None
        return
    progress = Progress(
        TextColumn("{task.description:<10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    )
    grouping = progress.add_task("Grouping", total=None, unit="slides")
    scoring = progress.add_task("Scoring", total=None, unit="groups")
    stitching = progress.add_task("Stitching", total=None, unit="slides")

    def show(status: RunStatus) -> None:
        slides = [s for s in status.slides.values() if s.state is not State.FAILED or s.groups]
        grouped = [s for s in slides if s.summary]
        progress.update(grouping, total=len(slides), completed=len(grouped))
        done = sum(s.groups_done for s in grouped)
        progress.update(scoring, total=sum(s.groups for s in grouped) or None, completed=done)
        progress.update(stitching, total=len(slides), completed=status.n_done)
        # Not before there is a status: where the request is refused the sentence stands alone.
        progress.start()

    try:
        yield show
    finally:
        if progress.live.is_started:
            progress.stop()


def print_outcome(console: Console, errors: Console, run: Run, status: RunStatus) -> int:
    """Say how a run ended and what to look at; gives the exit code."""
    for name, slide in status.slides.items():
        files = run.slides[name].files
        if slide.state is State.DONE:
            console.print(_sentence(name, slide.summary, files.overview), markup=False)
        if slide.summary and slide.summary.n_unreadable:
            errors.print(
                f"hpc-heatmap: {slide.summary.n_unreadable} patches of {name} could not be read; "
                "their scores are NaN.",
                markup=False,
            )
    for sentence in _raw_slides(status):
        errors.print(f"hpc-heatmap: {sentence}", markup=False)
    for sentence in _failures(status):
        errors.print(f"hpc-heatmap: {sentence}", markup=False)
    if status.state is State.DONE:
        return 0
    errors.print(
        f"hpc-heatmap: {status.n_done} of {len(status.slides)} slides have their heatmap; "
        f"`hpc-heatmap resume {run.root}` tries the others again.",
        markup=False,
    )
    return 1


def _sentence(name: str, summary: object, overview: Path) -> str:
    windows = getattr(summary, "n_windows", 0)
    return f"{name}: {windows:,} windows scored. Look at {overview}"


def _raw_slides(status: RunStatus) -> list[str]:
    """One line a slide whose stain was not normalised, in whole or in part."""
    lines = []
    for name, slide in status.slides.items():
        summary = slide.summary
        if summary is not None and summary.stain_problem:
            lines.append(
                f"{name}: its stain cannot be estimated ({summary.stain_problem}); "
                "all patches keep their raw colours."
            )
        elif summary is not None and slide.raw_patches:
            lines.append(
                f"{name}: {slide.raw_patches} of {summary.n_patches} patches kept their raw "
                "colours: their stain could not be estimated."
            )
    return lines


def _failures(status: RunStatus) -> list[str]:
    """One line a different reason."""
    counts: dict[tuple[str, str], int] = {}
    for name, slide in status.slides.items():
        for failure in slide.failures:
            key = (name, failure.reason)
            counts[key] = counts.get(key, 0) + 1
    lines = [
        f"{name}: {reason}" + (f" ({count} times)" if count > 1 else "")
        for (name, reason), count in counts.items()
    ]
    if len(lines) > _MOST_FAILURES:
        more = len(lines) - _MOST_FAILURES
        lines = [*lines[:_MOST_FAILURES], f"and {more} more: see `hpc-heatmap status RUN --json`"]
    return lines


_STYLES = {
    State.DONE: "green",
    State.RUNNING: "blue",
    State.FAILED: "red",
    State.CANCELLED: "yellow",
    State.PLANNED: "",
}


def print_status(console: Console, run: Run, status: RunStatus) -> None:
    """A table of the slides, and the reasons of what failed."""
    table = Table(title=f"{run.root}: {status.state.value}", title_justify="left")
    for column, justify in (
        ("slide", "left"), ("state", "left"), ("groups", "right"), ("patches", "right"),
        ("unreadable", "right"),
    ):  # fmt: skip
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    for name, slide in status.slides.items():
        style = _STYLES[slide.state]
        summary = slide.summary
        table.add_row(
            name,
            f"[{style}]{slide.state.value}[/]" if style else slide.state.value,
            f"{slide.groups_done}/{slide.groups}" if summary else "-",
            str(summary.n_patches) if summary else "-",
            str(summary.n_unreadable) if summary else "-",
        )
    console.print(table)
    for sentence in (*_raw_slides(status), *_failures(status)):
        console.print(sentence, markup=False)
    if status.state in {State.PLANNED, State.FAILED, State.CANCELLED}:
        console.print(f"Go on with: hpc-heatmap resume {run.root}", markup=False)
