"""What tasks leave behind: records of work done in ``tasks/``, reasons in ``failures/``.

A task writes a record of its own; those of a slide that is done are put into one file, so that a
folder does not hold as many files as there were tasks.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from hpc_heatmap.errors import FormatError
from hpc_heatmap.formats.atomic import read_json, write_json, writing
from hpc_heatmap.formats.paths import RunPaths

__all__ = [
    "Failure",
    "TaskRecord",
    "pack_records",
    "read_failures",
    "read_records",
    "write_failure",
    "write_record",
]


#: Slide, stage and token of a record.
_RECORD_NAME = re.compile(r"(.+)-(?:grouping|scoring|stitching)-[0-9a-f]{8}\.json")


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


def pack_records(paths: RunPaths, is_done: Callable[[str], bool]) -> None:
    """Put the records of each slide that is done into one file.

    A crash leaves some records both ways; they are read once.

    Raises
    ------
    FormatError
        A record is damaged.
    StorageError
        A file cannot be written.
    """
    found: dict[str, list[Path]] = {}
    for file in sorted(paths.tasks.glob("*.json")):
        if match := _RECORD_NAME.fullmatch(file.name):
            found.setdefault(match[1], []).append(file)
    for slide_id in filter(is_done, found):
        files = found[slide_id]
        target = paths.slide_tasks(slide_id)
        records = _read_records(files) | _read_lines(target)
        lines = [json.dumps({"name": n, **asdict(r)}) for n, r in records.items()]
        with writing(target) as partial:
            partial.write_text("\n".join(lines) + "\n", "utf-8")
        for file in files:
            file.unlink(missing_ok=True)


def read_records(paths: RunPaths) -> list[TaskRecord]:
    """Records of all tasks, in the order of their start."""
    # In this order: what is moved meanwhile is met twice rather than never.
    found = _read_records(sorted(paths.tasks.glob("*.json")))
    for file in sorted(paths.tasks.glob("*.jsonl")):
        found |= _read_lines(file)
    return sorted(found.values(), key=lambda record: record.started_at)


def _read_records(files: Iterable[Path]) -> dict[str, TaskRecord]:
    """Records by the names of their files."""
    found: dict[str, TaskRecord] = {}
    for file in files:
        with suppress(FileNotFoundError):
            found[file.stem] = _made(TaskRecord, read_json(file), file)
    return found


def _read_lines(file: Path) -> dict[str, TaskRecord]:
    """Records of one slide, by the names that their files had."""
    if not file.exists():
        return {}
    try:
        lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
        return {values["name"]: _made(TaskRecord, values, file) for values in lines}
    except (ValueError, TypeError, KeyError) as error:
        raise FormatError(
            f"{file} is damaged: delete it; the report will lack its tasks."
        ) from error


def read_failures(paths: RunPaths) -> list[Failure]:
    """All failures, by name."""
    found: list[Failure] = []
    for file in sorted(paths.failures.glob("*.json")):
        with suppress(FileNotFoundError):
            found.append(_made(Failure, read_json(file), file))
    return found


def _made(kind: Any, values: Any, file: Path) -> Any:
    """A record or failure from its values; those that this version does not know are left out."""
    names = {f.name for f in fields(kind)}
    try:
        return kind(**{n: v for n, v in values.items() if n in names})
    except (TypeError, AttributeError) as error:
        raise FormatError(f"{file} is damaged: delete it and resume.") from error
