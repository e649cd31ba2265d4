"""Arithmetic on the times of tasks: cores in use, pauses, lanes. Nothing here reads a file."""

from __future__ import annotations

import bisect
import heapq
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hpc_heatmap.formats.task_files import TaskRecord

__all__ = [
    "PAUSE_S",
    "Bar",
    "Span",
    "active",
    "cores_of",
    "covered_s",
    "pack_lanes",
    "peak_cores",
    "pauses",
]

#: The shortest time without any task that counts as a pause of the run, not as parallel time.
PAUSE_S = 60.0


@dataclass(frozen=True)
class Span:
    """A stretch of time.

    Attributes
    ----------
    start, end
        Seconds since 1970.
    """

    start: float
    end: float

    @property
    def length_s(self) -> float:
        """Seconds from start to end."""
        return self.end - self.start


@dataclass(frozen=True)
class Bar:
    """A task on one core of the timeline; a task of several cores has several bars.

    Attributes
    ----------
    lane
        Number of the core, counted over all hosts.
    host, slot
        Which core it is: slots of a host are counted from 0.
    record
        The task.
    """

    lane: int
    host: str
    slot: int
    record: TaskRecord


def cores_of(record: TaskRecord) -> int:
    """Cores that a task used: what it was given, or more where it used more.

    A task used more where its processor time is over 1.1 times its wall time for each core given.
    """
    if record.wall_s <= 0:
        return max(1, record.threads)
    return max(1, record.threads, math.ceil(record.cpu_s / record.wall_s - 0.1))


def active(records: Iterable[TaskRecord]) -> list[Span]:
    """When at least one of the tasks ran, as spans that do not touch, in order."""
    spans: list[Span] = []
    for record in sorted(records, key=lambda r: r.started_at):
        if spans and record.started_at <= spans[-1].end:
            spans[-1] = Span(spans[-1].start, max(spans[-1].end, record.ended_at))
        else:
            spans.append(Span(record.started_at, record.ended_at))
    return spans


def pauses(records: Sequence[TaskRecord], least_s: float = PAUSE_S) -> list[Span]:
    """When the run stood still: no task ran, and none that ran later had been submitted.

    A run that was stopped and resumed has one between its sessions. Waiting in a scheduler's queue
    is no pause, and neither is a time shorter than `least_s`. Without `submitted_at` in the
    records after it, the whole time without a task counts.
    """
    found = []
    by_start = sorted(records, key=lambda r: r.started_at)
    starts = [r.started_at for r in by_start]
    submitted = [math.inf if r.submitted_at is None else r.submitted_at for r in by_start]
    # The earliest submission of a task and all that start after it.
    earliest = list(itertools.accumulate(reversed(submitted), min))[::-1]
    for before, after in itertools.pairwise(active(by_start)):
        end = min(after.start, earliest[bisect.bisect_left(starts, after.start)])
        if end - before.end >= least_s:
            found.append(Span(before.end, end))
    return found


def covered_s(span: Span, parts: Iterable[Span]) -> float:
    """Seconds of `span` that lie in `parts`, which do not overlap."""
    return sum(max(0.0, min(span.end, p.end) - max(span.start, p.start)) for p in parts)


def peak_cores(records: Iterable[TaskRecord]) -> int:
    """Largest number of cores in use at the same time; 0 without a task.

    A task that ends when another starts does not meet it.
    """
    least = 0
    events = []
    for record in records:
        cores = cores_of(record)
        least = max(least, cores)
        events += [(record.started_at, cores), (record.ended_at, -cores)]
    events.sort()
    return max([least, *itertools.accumulate(change for _, change in events)])


def pack_lanes(records: Iterable[TaskRecord]) -> list[Bar]:
    """Put each task on the lowest free cores of its host, in the order of their starts."""
    bars: list[tuple[str, int, TaskRecord]] = []
    free: dict[str, list[int]] = {}
    n_slots: dict[str, int] = {}
    busy: dict[str, list[tuple[float, int]]] = {}
    for record in sorted(records, key=lambda r: (r.started_at, r.ended_at)):
        host = record.host
        slots, running = free.setdefault(host, []), busy.setdefault(host, [])
        while running and running[0][0] <= record.started_at:
            heapq.heappush(slots, heapq.heappop(running)[1])
        for _ in range(cores_of(record)):
            if slots:
                slot = heapq.heappop(slots)
            else:
                slot = n_slots.get(host, 0)
                n_slots[host] = slot + 1
            heapq.heappush(running, (record.ended_at, slot))
            bars.append((host, slot, record))
    first: dict[str, int] = {}
    n_lanes = 0
    for host in sorted(n_slots):
        first[host] = n_lanes
        n_lanes += n_slots[host]
    return [Bar(first[host] + slot, host, slot, record) for host, slot, record in bars]
