"""What tasks leave behind: records of work done in ``tasks/``, reasons in ``failures/``."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from hpc_heatmap.errors import FormatError
from hpc_heatmap.formats.atomic import read_json, write_json
from hpc_heatmap.formats.paths import RunPaths

__all__ = [
    "Failure",
    "TaskRecord",
    "read_failures",
    "read_records",
    "write_failure",
    "write_record",
]


@dataclass(frozen=True)
class TaskRecord:
    """What one task did and took.

    Attributes
    ----------
    stage, slide, groups
        What it worked on.
    job, host, pid
        Where it ran.
    started_at
        Seconds since 1970.
    wall_s, cpu_s, model_s
        Wall time, processor time of the process, and wall time inside the model.
    peak_memory_bytes
        Largest resident memory of the process.
    bytes_read
        Bytes read from the run's files; for grouping, bytes of the groups written.
    windows
        Windows with a score.
    skipped
        Those of them that took a coarser score, with an adaptive stride.
    submitted_at
        When the master submitted it, seconds since 1970 by the master's clock; None in records
        of older versions.
    threads
        Cores that it was given.
    cluster
        Where it ran: local, slurm, sge.
    """

    stage: str
    slide: str
    groups: list[int]
    job: str
    host: str
    pid: int
    started_at: float
    wall_s: float
    cpu_s: float
    model_s: float
    peak_memory_bytes: int
    bytes_read: int
    windows: int
    submitted_at: float | None = None
    threads: int = 1
    cluster: str = "local"
    skipped: int = 0

    def __post_init__(self) -> None:
        for name in ("started_at", "wall_s", "cpu_s", "model_s"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not math.isfinite(value):
                raise TypeError(f"{name} is {value!r}, not a number")

    @property
    def ended_at(self) -> float:
        """Seconds since 1970."""
        return self.started_at + self.wall_s


@dataclass(frozen=True)
class Failure:
    """Why one piece of work failed.

    Attributes
    ----------
    stage, slide, group
        What failed; no group where the slide's whole stage did.
    reason
        One sentence.
    error
        Name of the error's class.
    scope
        What cannot go on: group, slide or run.
    log
        Tail of the task's log or its traceback, where the reason is not enough.
    """

    stage: str
    slide: str
    group: int | None
    reason: str
    error: str
    scope: str
    log: str = ""

    @property
    def name(self) -> str:
        """Name of its file, without the suffix."""
        group = "" if self.group is None else f"-{self.group:06d}"
        return f"{self.slide}-{self.stage}{group}"


def write_record(paths: RunPaths, name: str, record: TaskRecord) -> None:
    """Write the record of a task that is done."""
    write_json(paths.task(name), asdict(record))


def write_failure(paths: RunPaths, failure: Failure) -> None:
    """Write why something failed."""
    write_json(paths.failure(failure.name), asdict(failure))


def read_records(paths: RunPaths) -> list[TaskRecord]:
    """Records of all tasks, in the order of their start."""
    records: list[TaskRecord] = _read_all(paths.tasks, TaskRecord)
    return sorted(records, key=lambda record: record.started_at)


def read_failures(paths: RunPaths) -> list[Failure]:
    """All failures, by name."""
    failures: list[Failure] = _read_all(paths.failures, Failure)
    return failures


def _read_all(folder: Path, kind: Any) -> list[Any]:
    names = {f.name for f in fields(kind)}
    found = []
    for file in sorted(folder.glob("*.json")) if folder.is_dir() else []:
        try:
            values = read_json(file)
            found.append(kind(**{n: v for n, v in values.items() if n in names}))
        except FileNotFoundError:
            continue
        except (TypeError, AttributeError) as error:
            raise FormatError(f"{file} is damaged: delete it and resume.") from error
    return found
