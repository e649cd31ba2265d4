"""From sizes of slides and a trial to what a run would cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hpc_heatmap.geometry import raw_patch_bytes
from hpc_heatmap.runs.cost.survey import SlideSize, Survey
from hpc_heatmap.runs.cost.trial import Time, Trial
from hpc_heatmap.schedulers.packing import pack_groups
from hpc_heatmap.settings import GroupLayout, RunSettings
from hpc_heatmap.simulation import ClusterModel, SlideLoad, simulate

__all__ = ["Choice", "Estimate", "predict"]

_HOUR_S = 3600.0
_MOST_SIMULATED = 10_000
#: Bytes of a file of scores beside the scores, and of the record and log of a task.
_SCORE_FILE_BYTES, _TASK_BYTES = 6400, 900
#: Files of an array on a cluster, of a slide, and of the run (docs/run-directory.md).
_FILES_OF_ARRAY, _FILES_OF_SLIDE, _FILES_OF_RUN = 2, 10, 6
#: Bytes of a heatmap's pyramid for one of its finest level.
_PYRAMID = 4 / 3


@dataclass(frozen=True)
class Choice:
    """What a run would cost if one thing were chosen differently.

    Attributes
    ----------
    option
        The option and its value.
    windows, groups, bytes, core_hours, wall_hours
        As in :class:`Estimate`.
    task_memory_bytes
        Memory of a scoring task.
    """

    option: str
    windows: int
    groups: int
    bytes: int
    core_hours: float
    wall_hours: float
    task_memory_bytes: int


@dataclass(frozen=True)
class Estimate:
    """What a run would cost.

    Attributes
    ----------
    slides, slides_measured
        Slides, and how many of them were looked at for tissue.
    cells, groups, windows
        Tissue cells (patches), groups, and scores at the asked stride.
    bytes, bytes_read
        Stored in the run directory; and read, from slides and from the run directory.
    files
        Files in the run directory.
    tasks
        Tasks of all stages.
    core_hours
        Cores of a task times its wall time, summed: what a site charges.
    cpu_hours
        Processor time, the serial time of the run-time report.
    wall_hours
        From launch to the last heatmap on `cores` cores, without others in the queue.
    cores, cores_per_task
        Cores in use at once, and of one task.
    task_memory_bytes
        Memory of a scoring task.
    stage_core_hours
        Core-hours by stage.
    trial
        What was measured.
    choices
        What other choices would cost.
    notes
        What a reader has to know, in sentences.
    """

    slides: int
    slides_measured: int
    cells: int
    groups: int
    windows: int
    bytes: int
    bytes_read: int
    files: int
    tasks: int
    core_hours: float
    cpu_hours: float
    wall_hours: float
    cores: int
    cores_per_task: int
    task_memory_bytes: int
    stage_core_hours: dict[str, float]
    trial: Trial
    choices: tuple[Choice, ...] = ()
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, as ``plan --json`` prints them."""
        return asdict(self)


def predict(
    found: Survey, trial: Trial, pool: ClusterModel, settings: RunSettings, stride_px: int
) -> Estimate:
    """What a run would cost; needs no slide and no model.

    Parameters
    ----------
    found
        The slides.
    trial
        What was measured, at `stride_px` too.
    pool
        Where it would run.
    settings
        What it would compute.
    stride_px
        Distance of scores, read pixels.
    """
    window_px = found.window_px
    slides = [_Slide(size, window_px, stride_px, settings, trial) for size in found.slides]
    slides = [slide for slide in slides if slide.cells]
    cells = sum(s.cells for s in slides)
    groups = sum(s.groups for s in slides)
    windows = sum(s.windows for s in slides)
    times = [s.times(trial, stride_px) for s in slides]
    loads = [
        SlideLoad(
            name=s.size.name,
            grouping_s=t[0].wall_s,
            group_s=np.full(s.groups, t[1].wall_s / s.groups),
            stitching_s=t[2].wall_s,
        )
        for s, t in zip(slides, times, strict=True)
    ]
    seconds = {"start_s": trial.start_s, "end_s": trial.end_s, "model_s": trial.model.wall_s}
    if pool.light_tasks:
        seconds = {"end_s": trial.end_s}
    wall_s, tasks, arrays = _drive(loads, pool.model_copy(update=seconds))
    n_scoring = tasks - 2 * len(slides)
    if pool.light_tasks:
        # Workers stay: each starts and loads the model once, all at the same time.
        wall_s += trial.start_s + trial.model.wall_s
        n_scoring = min(n_scoring, pool.slots)
    stages = [sum((t[k] for t in times), Time(0, 0)) for k in range(3)]
    stages[1] += trial.model * n_scoring
    group_bytes = sum(s.cells * s.patch_bytes for s in slides)
    largest_bytes = max((min(s.n_p, s.cells) * s.patch_bytes for s in slides), default=0)
    score_bytes = 4 * windows + _SCORE_FILE_BYTES * len(slides)
    # Stitching reads the scores of each group, and then those of the slide in one file.
    stitching_bytes = score_bytes + 4 * windows + _SCORE_FILE_BYTES * groups
    bytes_beside = trial.run_bytes + trial.slide_bytes * len(slides) + _TASK_BYTES * tasks
    n_logs = min(tasks, pool.slots) if pool.light_tasks else tasks
    n_files = _FILES_OF_RUN + _FILES_OF_SLIDE * len(slides) + n_logs
    if pool.max_array > 1:
        n_files += _FILES_OF_ARRAY * arrays
    core_hours = [pool.cores_per_task * stage.wall_s / _HOUR_S for stage in stages]
    return Estimate(
        slides=len(found.slides),
        slides_measured=found.measured,
        cells=cells,
        groups=groups,
        windows=windows,
        bytes=round(group_bytes + score_bytes + 4 * _PYRAMID * windows + bytes_beside),
        bytes_read=round(sum(s.size.bytes for s in slides) + group_bytes + stitching_bytes),
        files=n_files,
        tasks=tasks,
        core_hours=sum(core_hours),
        cpu_hours=sum(stage.cpu_s for stage in stages) / _HOUR_S,
        wall_hours=wall_s / _HOUR_S,
        cores=pool.cores,
        cores_per_task=pool.cores_per_task,
        task_memory_bytes=round(
            trial.peak_memory_bytes + largest_bytes + 8 * windows / max(1, groups)
        ),
        stage_core_hours=dict(zip(("grouping", "scoring", "stitching"), core_hours, strict=True)),
        trial=trial,
        notes=found.notes,
    )


class _Slide:
    """Numbers of one slide at a stride and with some settings."""

    def __init__(
        self, size: SlideSize, window_px: int, stride_px: int, settings: RunSettings, trial: Trial
    ) -> None:
        self.size = size
        self.cells = size.n_cells(window_px)
        self.n_p = settings.n_p(raw_patch_bytes(window_px), self.cells)
        self.groups = math.ceil(self.cells / self.n_p)
        self.patch_bytes = _patch_bytes(trial, settings, self.n_p)
        self.windows = size.n_windows(window_px, stride_px)

    def times(self, trial: Trial, stride_px: int) -> tuple[Time, Time, Time]:
        """Of grouping, scoring and stitching, loading the model left out."""
        # What does not depend on the tissue grows with the slide: it is looked at whole.
        share = self.size.area_px / max(1, trial.area_px)
        return (
            trial.grouping * share + trial.grouping_patch * self.cells,
            trial.speeds[stride_px].window * self.windows,
            trial.stitching + trial.stitching_window * self.windows,
        )


def _drive(loads: Sequence[SlideLoad], cluster: ClusterModel) -> tuple[float, int, int]:
    """Wall seconds, tasks and arrays of a run, simulated where that takes seconds at most."""
    task_s, slots = 60 * cluster.task_minutes, cluster.slots
    light = cluster.light_tasks
    packs = [
        sum(1 for _ in pack_groups(s.n_groups, s.mean_group_s, task_s, slots, light=light))
        for s in loads
    ]
    tasks = sum(packs) + 2 * len(loads)
    if tasks <= _MOST_SIMULATED:
        simulated = simulate(loads, cluster, lambda record: None)
        return simulated.wall_s, simulated.tasks, simulated.arrays
    # With so many tasks every slot is busy from the first grouping to the last scoring.
    work = sum(s.grouping_s + s.scoring_s(0, s.n_groups) + s.stitching_s for s in loads)
    work += cluster.model_s * sum(packs) + (cluster.start_s + cluster.end_s) * tasks
    first, last = loads[0].grouping_s, max(task_s, loads[-1].mean_group_s) + loads[-1].stitching_s
    arrays = sum(math.ceil(n / cluster.max_array) for n in packs) + 2
    return first + work / slots + last, tasks, arrays


def _patch_bytes(trial: Trial, settings: RunSettings, n_p: int) -> float:
    """Bytes stored for a patch in groups of `n_p`: small groups have more of a border, of half a
    window on each side, and of half a tile more where the slide's own tiles are stored.
    """
    if settings.group_layout is GroupLayout.PATCHES:
        return trial.patch_bytes

    def border(n: float) -> float:
        return (math.sqrt(n) + 1 + trial.tile_cells) ** 2 / n

    return trial.patch_bytes * border(n_p) / border(trial.patches_per_group)
