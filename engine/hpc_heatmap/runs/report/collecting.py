"""From the files of a run to its report."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from hpc_heatmap.errors import SettingsError
from hpc_heatmap.formats.run_file import RunFile, SlideEntry
from hpc_heatmap.formats.task_files import Failure, TaskRecord, read_records
from hpc_heatmap.runs.report.execution import execution_notes
from hpc_heatmap.runs.report.planned import PlannedRow, compare
from hpc_heatmap.runs.report.rows import CombinedRow, DataRow, StageRow, columns
from hpc_heatmap.runs.report.stains import StainRow, stain_notes, stain_rows
from hpc_heatmap.runs.report.tables import (
    SlideWork,
    combined_row,
    data_row,
    kept_shares,
    stage_row,
)
from hpc_heatmap.runs.report.timing import Span, pauses
from hpc_heatmap.runs.report.values import duration
from hpc_heatmap.runs.run import Run, RunSlide
from hpc_heatmap.runs.status import RunStatus, State
from hpc_heatmap.stages.task import Stage

__all__ = ["ALL", "Report", "parse_subsets", "report_run"]

#: Name of the subset of all slides, the last row of each table.
ALL = "all"


@dataclass(frozen=True)
class Report:
    """Run time of a run.

    Attributes
    ----------
    root
        The run directory.
    state
        State of the run; the tables cover what is done so far.
    data, stages, combined
        Rows of Tables I, II and III, by subset; all slides come last.
    pauses
        When the run stood still; see :func:`~hpc_heatmap.runs.report.timing.pauses`.
    notes
        What a reader of the tables has to know, in sentences.
    planned
        What was planned, against what it was.
    failures
        What has failed and is not mended.
    records
        What the tables were made from, by start.
    file
        The request: slides, model, settings, provenance.
    stains
        What was estimated of each slide's stain, where that was asked for.
    """

    root: Path
    state: State
    data: tuple[DataRow, ...]
    stages: tuple[StageRow, ...]
    combined: tuple[CombinedRow, ...]
    pauses: tuple[Span, ...]
    notes: tuple[str, ...]
    planned: tuple[PlannedRow, ...]
    failures: tuple[Failure, ...]
    records: tuple[TaskRecord, ...]
    file: RunFile
    stains: tuple[StainRow, ...] = ()

    @property
    def tables(self) -> dict[str, tuple[DataRow | StageRow | CombinedRow, ...]]:
        """Rows by the paper's number of the table."""
        return {"I": self.data, "II": self.stages, "III": self.combined}

    @property
    def hosts(self) -> dict[str, int]:
        """Tasks of each host."""
        found: dict[str, int] = {}
        for record in self.records:
            found[record.host] = found.get(record.host, 0) + 1
        return dict(sorted(found.items()))

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, as ``report --json`` prints them."""
        kinds = {"I": DataRow, "II": StageRow, "III": CombinedRow}
        return {
            "run": str(self.root),
            "state": self.state.value,
            "tables": {name: [asdict(row) for row in rows] for name, rows in self.tables.items()},
            "columns": {
                name: {column.name: column.meaning for column in columns(kind)}
                for name, kind in kinds.items()
            },
            "pauses": [{**asdict(p), "length_s": p.length_s} for p in self.pauses],
            "notes": list(self.notes),
            "stains": [asdict(row) for row in self.stains],
            "planned": [
                {"name": r.name, "planned": r.planned, "actual": r.actual, "ratio": r.ratio}
                for r in self.planned
            ],
            "failures": [
                {"slide": f.slide, "stage": f.stage, "group": f.group, "reason": f.reason}
                for f in self.failures
            ],
            "hosts": self.hosts,
            "clusters": sorted({r.cluster for r in self.records}),
            "model": self.file.model.model_dump(mode="json"),
            "settings": {
                **self.file.settings.model_dump(mode="json"),
                "stride": self.file.stride_px,
            },
            "provenance": self.file.provenance,
        }


def parse_subsets(given: Iterable[str]) -> dict[str, list[str]]:
    """Subsets from ``NAME=GLOB`` words; a name that comes twice has both patterns.

    Raises
    ------
    SettingsError
        A word has another form.
    """
    found: dict[str, list[str]] = {}
    for word in given:
        name, sign, pattern = word.partition("=")
        if not (name and sign and pattern):
            raise SettingsError(
                f"--subset {word}: give NAME=GLOB, such as tumor='tumor_*', after the run."
            )
        found.setdefault(name, []).append(pattern)
    return found


def report_run(
    run: Run | str | os.PathLike[str],
    subsets: Mapping[str, Sequence[str]] | None = None,
    plan: Mapping[str, Any] | None = None,
) -> Report:
    """Make the run-time report of a run from its files.

    Parameters
    ----------
    run
        A run, or its directory.
    subsets
        Patterns (``*``, ``?``, ``[...]``) of slides by the name of a subset, matched against the
        slides' ids and file names. A slide may be in several subsets.
    plan
        What ``plan --json`` said of it.

    Raises
    ------
    RunConflictError
        The directory holds no run.
    SettingsError
        A subset has no slides, or a name that is taken.
    FormatError
        A file of the run is damaged.
    """
    if not isinstance(run, Run):
        run = Run(run)
    members = _members(run.file.slides, subsets or {})
    records = read_records(run.paths)
    status = run.status()
    grouped_bytes = {r.slide: r.bytes_read for r in records if r.stage == Stage.GROUPING}
    work = {slide.id: _slide_work(slide, status, grouped_bytes) for slide in run.slides.values()}
    stains = stain_rows(run, status)
    kept = kept_shares(records, work)
    paused = pauses(records)
    data, stages, combined = [], [], []
    for name, ids in members.items():
        mine = [r for r in records if r.slide in ids or name == ALL]
        data.append(data_row(name, [w for i, w in work.items() if i in ids]))
        stages += [
            stage_row(name, stage, [r for r in mine if r.stage == stage], kept, paused)
            for stage in Stage
        ]
        combined.append(combined_row(name, mine, kept, paused, whole=name == ALL))
    return Report(
        root=run.root,
        state=status.state,
        data=tuple(data),
        stages=tuple(stages),
        combined=tuple(combined),
        pauses=tuple(paused),
        notes=(
            *_notes(status, records, work, paused),
            *stain_notes(stains),
            *execution_notes(run.file, records),
        ),
        planned=tuple(compare(run.root, run.file, data[-1], combined[-1], records, paused, plan)),
        failures=tuple(f for slide in status.slides.values() for f in slide.failures),
        records=tuple(records),
        file=run.file,
        stains=stains,
    )


def _members(
    slides: Sequence[SlideEntry], subsets: Mapping[str, Sequence[str]]
) -> dict[str, set[str]]:
    """Ids of the slides of each subset, all of them last."""
    found: dict[str, set[str]] = {}
    for name, patterns in subsets.items():
        if name == ALL:
            raise SettingsError(f"A subset cannot be named {ALL}: that is every slide of the run.")
        found[name] = {
            s.id
            for s in slides
            if any(fnmatchcase(s.id, p) or fnmatchcase(Path(s.path).name, p) for p in patterns)
        }
        if not found[name]:
            raise SettingsError(
                f"The subset {name} has no slides: {', '.join(patterns)} matches none of "
                f"{', '.join(s.id for s in slides[:5])}{', ...' if len(slides) > 5 else ''}."
            )
    rest = {s.id for s in slides} - set().union(*found.values())
    if found and rest and "other" not in found:
        found["other"] = rest
    found[ALL] = {s.id for s in slides}
    return found


def _slide_work(slide: RunSlide, status: RunStatus, recorded: Mapping[str, int]) -> SlideWork:
    now = status.slides[slide.id]
    try:
        group_bytes = slide.files.groups.stat().st_size
    except OSError:
        group_bytes = recorded.get(slide.id, 0) if now.summary else 0
    # Scores that are stitched are kept, even where their own files were deleted.
    done = slide.files.heatmap.exists()
    groups_done = now.groups if done else now.groups_done
    return SlideWork(slide.entry, now.summary, groups_done, done, group_bytes)


def _notes(
    status: RunStatus,
    records: Sequence[TaskRecord],
    work: Mapping[str, SlideWork],
    paused: Sequence[Span],
) -> list[str]:
    notes = []
    if not records:
        notes.append("No task has a record yet.")
    elif status.state is not State.DONE:
        state = "has work that failed" if status.state is State.FAILED else "is not finished"
        notes.append(f"The run {state}: the tables cover what is done so far.")
    if paused:
        total = duration(sum(p.length_s for p in paused))
        notes.append(
            f"The run stood still {'once' if len(paused) == 1 else f'{len(paused)} times'}, for "
            f"{total}; this is in no parallel time."
        )
    windows = dict.fromkeys(work, 0)
    for record in records:
        if record.slide in windows:
            windows[record.slide] += record.windows
    again = sum(max(0.0, n - work[i].windows_kept[1]) for i, n in windows.items())
    lacking = sum(max(0.0, work[i].windows_kept[0] - n) for i, n in windows.items())
    if round(again):
        notes.append(f"{again:,.0f} windows were scored twice, or their scores are gone.")
    if round(lacking) > 0:
        notes.append(
            f"{lacking:,.0f} windows have scores but no record, since their tasks were killed "
            "after writing them: serial times are too small by them."
        )
    unrecorded = _unrecorded(records, work)
    if unrecorded:
        notes.append(f"{unrecorded} results of grouping or stitching have no record.")
    unknown = sum(r.submitted_at is None for r in records)
    if unknown:
        notes.append(
            f"{unknown} of {len(records)} records do not say when they were submitted; they are "
            "in no queue wait."
        )
    skew_s = max((r.submitted_at - r.started_at for r in records if r.submitted_at), default=0.0)
    if skew_s > 1:
        notes.append(
            f"Clocks of hosts differ: a task started {skew_s:.0f} s before it was submitted."
        )
    return notes


def _unrecorded(records: Sequence[TaskRecord], work: Mapping[str, SlideWork]) -> int:
    recorded = {(r.slide, r.stage) for r in records}
    grouped = sum(
        w.summary is not None and (i, "grouping") not in recorded for i, w in work.items()
    )
    stitched = sum(w.done and (i, "stitching") not in recorded for i, w in work.items())
    return grouped + stitched
