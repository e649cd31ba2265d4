"""Tables I to III from task records and the state of a run."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from hpc_heatmap.formats.run_file import SlideEntry
from hpc_heatmap.formats.slide_summary import SlideSummary
from hpc_heatmap.formats.task_files import TaskRecord
from hpc_heatmap.runs.report.rows import CombinedRow, DataRow, StageRow
from hpc_heatmap.runs.report.timing import (
    Span,
    active,
    cores_of,
    covered_s,
    peak_cores,
)
from hpc_heatmap.stages.task import Stage

__all__ = ["SlideWork", "combined_row", "data_row", "kept_shares", "stage_row"]

_HOUR_S = 3600.0


@dataclass(frozen=True)
class SlideWork:
    """One slide and what is done of it.

    Attributes
    ----------
    entry
        The slide as it was planned.
    summary
        Its numbers, None until it is grouped.
    groups_done
        Groups whose scores are in the run.
    done
        Whether it has its heatmap.
    group_bytes
        Size of its groups' file.
    """

    entry: SlideEntry
    summary: SlideSummary | None
    groups_done: int
    done: bool
    group_bytes: int

    @property
    def windows_kept(self) -> tuple[float, float]:
        """Fewest and most windows whose scores are in the run; equal once all groups are done.

        All groups but one are full, so the windows of some groups are known to one group.
        Unreadable patches get no scores; how many windows they have is not known exactly.
        """
        if self.summary is None or not self.summary.n_groups or not self.summary.n_patches:
            return 0.0, 0.0
        n, done, windows = self.summary.n_groups, self.groups_done, self.summary.n_windows
        readable = max(0.0, 1 - 2 * self.summary.n_unreadable / self.summary.n_patches)
        if done in (0, n):
            return windows * readable * done / n, windows * done / n
        return windows * readable * (done - 1) / n, windows * (done + 1) / n


def kept_shares(records: Sequence[TaskRecord], slides: Mapping[str, SlideWork]) -> dict[int, float]:
    """Share of each record's work whose result is in the run and is not another record's.

    Of several grouping (stitching) tasks of a slide the last counts, if its result is there. Of
    scoring, the windows recorded beyond those whose scores are in the run were scored again, or
    lost; they are shared alike among the slide's scoring records, which do not say which. A task
    that scored nothing failed, or found everything done.

    Returns
    -------
    dict
        From ``id(record)`` to a number from 0 to 1.
    """
    shares = {}
    by_work: dict[tuple[str, str], list[TaskRecord]] = {}
    for record in records:
        by_work.setdefault((record.slide, record.stage), []).append(record)
    for (slide_id, stage), found in by_work.items():
        slide = slides.get(slide_id)
        if stage == Stage.SCORING:
            recorded = sum(r.windows for r in found)
            most = slide.windows_kept[1] if slide else 0.0
            share = min(1.0, most / recorded) if recorded else 0.0
            shares.update({id(r): share if r.windows else 0.0 for r in found})
            continue
        there = slide is not None and (
            slide.summary is not None if stage == Stage.GROUPING else slide.done
        )
        last = max(found, key=lambda r: r.ended_at)
        shares.update({id(r): float(there and r is last) for r in found})
    return shares


def data_row(subset: str, slides: Collection[SlideWork]) -> DataRow:
    """A row of Table I."""
    summaries = [s.summary for s in slides if s.summary]
    patches, groups = sum(s.n_patches for s in summaries), sum(s.n_groups for s in summaries)
    grouped_bytes = sum(s.entry.bytes for s in slides if s.summary)
    group_bytes = sum(s.group_bytes for s in slides)
    return DataRow(
        subset=subset,
        slides=len(slides),
        slides_done=sum(s.done for s in slides),
        slide_bytes=sum(s.entry.bytes for s in slides),
        patches=patches,
        groups=groups,
        patches_per_group=patches / groups if groups else None,
        group_bytes=group_bytes,
        group_bytes_ratio=group_bytes / grouped_bytes if grouped_bytes else None,
        windows=sum(s.n_windows for s in summaries),
    )


@dataclass(frozen=True)
class _Times:
    """What Tables II and III have in common."""

    cpu_s: float
    wall_s: float
    parallel_s: float
    cores: int

    @classmethod
    def of(
        cls, records: Sequence[TaskRecord], kept: Mapping[int, float], paused: Sequence[Span]
    ) -> _Times:
        return cls(
            cpu_s=sum(r.cpu_s * kept[id(r)] for r in records),
            wall_s=sum(r.wall_s * kept[id(r)] for r in records),
            parallel_s=_parallel_s(records, paused),
            cores=peak_cores(records),
        )

    def speed_up(self, serial_s: float) -> float | None:
        return serial_s / self.parallel_s if self.parallel_s > 0 else None

    def efficiency(self, serial_s: float) -> float | None:
        speed_up = self.speed_up(serial_s)
        return None if speed_up is None else speed_up / self.cores


def _extent(records: Sequence[TaskRecord]) -> Span:
    """From the first start to the last end."""
    if not records:
        return Span(0.0, 0.0)
    return Span(min(r.started_at for r in records), max(r.ended_at for r in records))


def _parallel_s(records: Sequence[TaskRecord], paused: Sequence[Span]) -> float:
    extent = _extent(records)
    return extent.length_s - covered_s(extent, paused)


def stage_row(
    subset: str,
    stage: Stage,
    records: Sequence[TaskRecord],
    kept: Mapping[int, float],
    paused: Sequence[Span],
) -> StageRow:
    """A row of Table II from the records of one stage."""
    times = _Times.of(records, kept, paused)
    return StageRow(
        subset=subset,
        stage=stage.value,
        tasks=len(records),
        serial_cpu_h=times.cpu_s / _HOUR_S,
        serial_wall_h=times.wall_s / _HOUR_S,
        parallel_h=times.parallel_s / _HOUR_S,
        active_h=sum(span.length_s for span in active(records)) / _HOUR_S,
        cores=times.cores,
        speed_up=times.speed_up(times.cpu_s),
        efficiency=times.efficiency(times.cpu_s),
        speed_up_wall=times.speed_up(times.wall_s),
        efficiency_wall=times.efficiency(times.wall_s),
        bytes=sum(r.bytes_read for r in records),
        windows=sum(r.windows for r in records),
        peak_memory_bytes=max((r.peak_memory_bytes for r in records), default=0),
    )


def combined_row(
    subset: str,
    records: Sequence[TaskRecord],
    kept: Mapping[int, float],
    paused: Sequence[Span],
    *,
    whole: bool,
) -> CombinedRow:
    """A row of Table III from the records of all stages; `whole` where it is every slide's."""
    times = _Times.of(records, kept, paused)
    slots_s = times.cores * times.parallel_s
    busy_s = sum(cores_of(r) * r.wall_s for r in records)
    waits = [max(0.0, r.started_at - r.submitted_at) for r in records if r.submitted_at is not None]
    scoring = [r for r in records if r.stage == Stage.SCORING]
    scoring_s, model_s = sum(r.wall_s for r in scoring), sum(r.model_s for r in scoring)
    return CombinedRow(
        subset=subset,
        tasks=len(records),
        serial_cpu_h=times.cpu_s / _HOUR_S,
        serial_wall_h=times.wall_s / _HOUR_S,
        parallel_h=times.parallel_s / _HOUR_S,
        cores=times.cores,
        speed_up=times.speed_up(times.cpu_s),
        efficiency=times.efficiency(times.cpu_s),
        speed_up_wall=times.speed_up(times.wall_s),
        efficiency_wall=times.efficiency(times.wall_s),
        idle_share=max(0.0, 1 - busy_s / slots_s) if whole and slots_s > 0 else None,
        queue_wait_h=sum(waits) / _HOUR_S if waits else None,
        queue_wait_median_s=statistics.median(waits) if waits else None,
        model_share=model_s / scoring_s if scoring_s > 0 else None,
        engine_overhead_h=max(0.0, scoring_s - model_s) / _HOUR_S,
        again_h=sum(r.wall_s * (1 - kept[id(r)]) for r in records) / _HOUR_S,
        pause_h=covered_s(_extent(records), paused) / _HOUR_S,
    )
