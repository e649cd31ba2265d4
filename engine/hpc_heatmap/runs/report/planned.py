"""Planned against actual: what ``plan`` said, beside what the run took."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpc_heatmap.errors import FormatError, SettingsError
from hpc_heatmap.formats.atomic import read_json
from hpc_heatmap.formats.run_file import RunFile
from hpc_heatmap.formats.task_files import TaskRecord
from hpc_heatmap.runs.report.rows import CombinedRow, DataRow, Kind
from hpc_heatmap.runs.report.timing import Span, cores_of, covered_s
from hpc_heatmap.stages.task import Stage

__all__ = ["PlannedRow", "compare", "disk_use", "read_plan"]

_HOUR_S = 3600.0


@dataclass(frozen=True)
class PlannedRow:
    """One measure, planned and actual.

    Attributes
    ----------
    name
        Key of ``plan --json``.
    title
        What it is.
    kind
        How it is shown.
    planned, actual
        Its values.
    """

    name: str
    title: str
    kind: Kind
    planned: float
    actual: float

    @property
    def ratio(self) -> float | None:
        """Actual / planned."""
        return self.actual / self.planned if self.planned else None


def read_plan(path: Path) -> dict[str, Any]:
    """What ``plan --json`` has printed.

    Raises
    ------
    SettingsError
        The file is missing or is something else.
    """
    try:
        values = read_json(path)
    except (OSError, FormatError) as error:
        raise SettingsError(
            f"--plan {path} cannot be read: give what `plan --json` said."
        ) from error
    wanted = {"cells", "groups", "windows", "bytes", "bytes_read", "files"}
    wanted |= {"core_hours", "cpu_hours", "wall_hours"}
    if not isinstance(values, dict) or not wanted <= set(values):
        raise SettingsError(f"--plan {path} is no plan: give what `plan --json` printed.")
    return values


def disk_use(root: Path) -> tuple[int, int]:
    """Bytes and number of the files in a folder and all below it."""
    n_bytes = n_files = 0
    for folder, _, names in os.walk(root):
        for name in names:
            with suppress(FileNotFoundError):
                n_bytes += Path(folder, name).lstat().st_size
                n_files += 1
    return n_bytes, n_files


def compare(
    root: Path,
    run: RunFile,
    data: DataRow,
    combined: CombinedRow,
    records: Sequence[TaskRecord],
    paused: Sequence[Span],
    plan: Mapping[str, Any] | None = None,
) -> Iterator[PlannedRow]:
    """Planned against actual of a run's records.

    Without a plan only the time in the model is compared: when a run is made, its model is tried
    for a moment.
    """
    scoring = [r for r in records if r.stage == Stage.SCORING]
    if plan is None:
        windows = sum(r.windows for r in scoring)
        if run.windows_per_s and windows:
            planned_h = windows / run.windows_per_s / _HOUR_S
            actual_h = sum(r.model_s for r in scoring) / _HOUR_S
            yield PlannedRow("model_hours", "time in the model", Kind.HOURS, planned_h, actual_h)
        return
    yield PlannedRow("cells", "tissue patches", Kind.COUNT, plan["cells"], data.patches)
    yield PlannedRow("groups", "groups", Kind.COUNT, plan["groups"], data.groups)
    yield PlannedRow("windows", "windows", Kind.COUNT, plan["windows"], data.windows)
    n_bytes, n_files = disk_use(root)
    yield PlannedRow("bytes", "bytes stored", Kind.BYTES, plan["bytes"], n_bytes)
    read = data.slide_bytes + sum(r.bytes_read for r in records if r.stage != Stage.GROUPING)
    yield PlannedRow("bytes_read", "bytes read", Kind.BYTES, plan["bytes_read"], read)
    yield PlannedRow("files", "files", Kind.COUNT, plan["files"], n_files)
    charged_h = sum(cores_of(r) * r.wall_s for r in records) / _HOUR_S
    yield PlannedRow("core_hours", "core-hours", Kind.HOURS, plan["core_hours"], charged_h)
    cpu_h = combined.serial_cpu_h
    yield PlannedRow("cpu_hours", "processor time", Kind.HOURS, plan["cpu_hours"], cpu_h)
    if records:
        first = min(r.started_at if r.submitted_at is None else r.submitted_at for r in records)
        whole = Span(first, max(r.ended_at for r in records))
        wall_h = (whole.length_s - covered_s(whole, paused)) / _HOUR_S
        yield PlannedRow("wall_hours", "wall time", Kind.HOURS, plan["wall_hours"], wall_h)
