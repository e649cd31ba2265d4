"""Rows of the three tables. Each column is defined once, at its field.

The definitions follow Tables I to III of Li, Mikailov and Chen, IEEE Transactions on Artificial
Intelligence, 2023. docs/report.md repeats them, and a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any

__all__ = ["TITLES", "Column", "CombinedRow", "DataRow", "Kind", "StageRow", "columns"]

TITLES = {
    "I": "Table I: slides and groups",
    "II": "Table II: run time of each stage",
    "III": "Table III: run time of all stages together",
}


class Kind(StrEnum):
    """How a value is shown."""

    TEXT = "text"
    COUNT = "count"
    NUMBER = "number"
    BYTES = "bytes"
    HOURS = "hours"
    SECONDS = "seconds"
    SHARE = "share"


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes
    ----------
    name, title
        Its key in JSON and its heading.
    kind
        How its values are shown.
    meaning
        What counts, in one sentence.
    """

    name: str
    title: str
    kind: Kind
    meaning: str


def _column(title: str, kind: Kind, meaning: str) -> Any:
    return field(metadata={"title": title, "kind": kind, "meaning": meaning})


def columns(row: type) -> Iterator[Column]:
    """Columns of a class of rows."""
    for f in fields(row):
        yield Column(f.name, f.metadata["title"], f.metadata["kind"], f.metadata["meaning"])


_SUBSET = "Name of the subset of slides; all is every slide of the run."
_TASKS = "Tasks that left a record; tasks that were killed leave none."
_CPU = (
    "Processor time (user + system) summed over the tasks: what one core would need; "
    "work done again or lost is left out."
)
_WALL = "Wall time summed over the tasks, work done again or lost left out."
_SPEED_UP = "Serial time (CPU) / parallel time."
_EFFICIENCY = "Speed-up / cores."
_SPEED_UP_WALL = (
    "Serial time (wall) / parallel time; larger than the speed-up where tasks waited for disks "
    "or shared cores."
)
_EFFICIENCY_WALL = "Speed-up (wall) / cores."


@dataclass(frozen=True)
class DataRow:
    """Table I: a subset of the slides and its groups. Fields that are not known are None."""

    subset: str = _column("subset", Kind.TEXT, _SUBSET)
    slides: int = _column("slides", Kind.COUNT, "Slides of the request.")
    slides_done: int = _column("slides done", Kind.COUNT, "Slides with a heatmap.")
    slide_bytes: int = _column(
        "slides, bytes", Kind.BYTES, "Size of the slides' files when the run was planned."
    )
    patches: int = _column("tissue patches", Kind.COUNT, "Tissue cells, T_p, of grouped slides.")
    groups: int = _column("groups", Kind.COUNT, "N_g, summed over the slides.")
    patches_per_group: float | None = _column(
        "patches per group", Kind.NUMBER, "Tissue patches / groups."
    )
    group_bytes: int = _column(
        "groups, bytes",
        Kind.BYTES,
        "Size of the HDF5 files of the groups, or what grouping recorded where they are deleted.",
    )
    group_bytes_ratio: float | None = _column(
        "groups / slides, bytes",
        Kind.NUMBER,
        "Bytes of the groups / bytes of the slides that are grouped.",
    )
    windows: int = _column("windows", Kind.COUNT, "Windows (scores) of grouped slides.")


@dataclass(frozen=True)
class StageRow:
    """Table II: one stage on a subset of the slides. Fields that are not known are None."""

    subset: str = _column("subset", Kind.TEXT, _SUBSET)
    stage: str = _column(
        "stage",
        Kind.TEXT,
        "grouping (the paper's extraction), scoring (its prediction) or stitching.",
    )
    tasks: int = _column("tasks", Kind.COUNT, _TASKS)
    serial_cpu_h: float = _column("serial time (CPU)", Kind.HOURS, _CPU)
    serial_wall_h: float = _column("serial time (wall)", Kind.HOURS, _WALL)
    parallel_h: float = _column(
        "parallel time",
        Kind.HOURS,
        "From the first start to the last end of the stage's tasks, without pauses of the run.",
    )
    active_h: float = _column(
        "active time",
        Kind.HOURS,
        "Time in which at least one task of the stage ran; shorter than the parallel time where "
        "stages take turns.",
    )
    cores: int = _column(
        "cores",
        Kind.COUNT,
        "Largest number of cores that the stage's tasks used at the same time.",
    )
    speed_up: float | None = _column("speed-up", Kind.NUMBER, _SPEED_UP)
    efficiency: float | None = _column("parallel efficiency", Kind.SHARE, _EFFICIENCY)
    speed_up_wall: float | None = _column("speed-up (wall)", Kind.NUMBER, _SPEED_UP_WALL)
    efficiency_wall: float | None = _column("efficiency (wall)", Kind.SHARE, _EFFICIENCY_WALL)
    bytes: int = _column(
        "bytes",
        Kind.BYTES,
        "Grouping: bytes of groups written. Scoring: bytes read from the groups. Stitching: bytes "
        "of scores read.",
    )
    windows: int = _column("windows", Kind.COUNT, "Windows scored, those scored again included.")
    peak_memory_bytes: int = _column(
        "peak memory", Kind.BYTES, "Largest resident memory of one task's process."
    )


@dataclass(frozen=True)
class CombinedRow:
    """Table III: all stages on a subset of the slides. Fields that are not known are None."""

    subset: str = _column("subset", Kind.TEXT, _SUBSET)
    tasks: int = _column("tasks", Kind.COUNT, _TASKS)
    serial_cpu_h: float = _column("serial time (CPU)", Kind.HOURS, _CPU)
    serial_wall_h: float = _column("serial time (wall)", Kind.HOURS, _WALL)
    parallel_h: float = _column(
        "parallel time",
        Kind.HOURS,
        "From the first start to the last end of a task, without pauses of the run.",
    )
    cores: int = _column(
        "cores", Kind.COUNT, "Largest number of cores that tasks used at the same time."
    )
    speed_up: float | None = _column("speed-up", Kind.NUMBER, _SPEED_UP)
    efficiency: float | None = _column("parallel efficiency", Kind.SHARE, _EFFICIENCY)
    speed_up_wall: float | None = _column("speed-up (wall)", Kind.NUMBER, _SPEED_UP_WALL)
    efficiency_wall: float | None = _column("efficiency (wall)", Kind.SHARE, _EFFICIENCY_WALL)
    idle_share: float | None = _column(
        "idle share",
        Kind.SHARE,
        "1 - (cores x wall time of every task) / (cores x parallel time), for all slides alone.",
    )
    queue_wait_h: float | None = _column(
        "queue wait",
        Kind.HOURS,
        "From submission to start, summed over tasks; part of no serial time. On this machine "
        "it is the start of a process.",
    )
    queue_wait_median_s: float | None = _column(
        "queue wait, median",
        Kind.SECONDS,
        "Median over tasks of the time from submission to start.",
    )
    model_share: float | None = _column(
        "model's share of scoring",
        Kind.SHARE,
        "Wall time inside the model / wall time of scoring tasks.",
    )
    engine_overhead_h: float = _column(
        "engine overhead",
        Kind.HOURS,
        "Wall time of scoring tasks outside of the model: loading it, reading groups, cutting "
        "windows, writing scores.",
    )
    again_h: float = _column(
        "done again or lost",
        Kind.HOURS,
        "Wall time of work that was done twice, failed, or whose result is not in the run; part of "
        "no serial time.",
    )
    pause_h: float = _column(
        "paused",
        Kind.HOURS,
        "Time without any task, of a minute or more, before the next was submitted: between the "
        "sessions of a resumed run; part of no parallel time.",
    )
