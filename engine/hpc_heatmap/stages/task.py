"""The code that runs on a node: one task, from its name to its files.

Each stage imports what it needs when it runs: a task is short, and imports are half of it.
"""

from __future__ import annotations

import math
import os
import socket
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from hpc_heatmap import processes
from hpc_heatmap.errors import HpcHeatmapError, Interrupted
from hpc_heatmap.formats.paths import RunPaths, SlidePaths
from hpc_heatmap.formats.run_file import RunFile, SlideEntry, read_run_file
from hpc_heatmap.formats.task_files import Failure, TaskRecord, write_failure, write_record
from hpc_heatmap.model import Classifier, load_classifier, read_descriptor
from hpc_heatmap.settings import StainPer

if TYPE_CHECKING:
    from hpc_heatmap.stages.staining import Restaining

__all__ = ["Stage", "Task", "load_run_classifier", "perform", "reset_peak_memory"]


class Stage(StrEnum):
    """What is done to a slide, in this order."""

    GROUPING = "grouping"
    SCORING = "scoring"
    STITCHING = "stitching"


@dataclass(frozen=True)
class Task:
    """A piece of work: small enough to be pickled by any scheduler.

    Attributes
    ----------
    run
        The run directory.
    stage, slide_id, groups
        What to do. Grouping makes all groups where none are named, else the first so many: a trial.
    threads
        Threads of one inference.
    master
        Process id and start time of a master on this machine without which the task stops;
        None for masters elsewhere.
    submitted_at
        When the master submitted it, seconds since 1970.
    scratch
        Folder on a disk of the node for copies of what scoring reads; None for no copies.
    """

    run: str
    stage: Stage
    slide_id: str
    groups: tuple[int, ...] = ()
    threads: int = 1
    master: tuple[int, float] | None = None
    submitted_at: float | None = None
    scratch: str | None = None


@dataclass
class _Work:
    """What a task has done so far."""

    bytes_read: int = 0
    windows: int = 0
    skipped: int = 0
    model_s: float = 0.0


def perform(
    task: Task,
    classifier: Classifier | None = None,
    told_to_stop: Callable[[], bool] = lambda: False,
    load: Callable[[RunPaths, RunFile, int, str | None], Classifier] | None = None,
) -> None:
    """Do a task and record it. What fails for a reason of its own is written to ``failures/``.

    A task whose run is cancelled, whose master is gone or whose job is to stop ends without a word:
    the next master may sweep its files away meanwhile, which is no failure.

    Parameters
    ----------
    task
        What to do.
    classifier
        The run's model where it is already in memory.
    told_to_stop
        Whether the scheduler has told the job to stop.
    load
        Loads the run's model where it is not. Default: :func:`load_run_classifier`.
    """
    paths = RunPaths(Path(task.run))
    started, cpu_before, wall = time.time(), time.process_time(), time.perf_counter()
    work = _Work()
    go_on = _Watch(task, paths, told_to_stop)
    try:
        run = read_run_file(paths.run_file)
        slide = next(s for s in run.slides if s.id == task.slide_id)
        go_on()
        if task.stage is Stage.GROUPING:
            _group(paths, run, slide, len(task.groups) or None, go_on)
            work.bytes_read = paths.slide(slide.id).groups.stat().st_size
        elif task.stage is Stage.SCORING:
            if classifier is None:
                load = load or load_run_classifier
                classifier = load(paths, run, task.threads, task.scratch)
            _score(paths, run, task, classifier, work, go_on)
        else:
            _stitch(paths, run, slide, work, go_on)
    except Interrupted:
        return
    except Exception as error:
        if go_on.stop_reason():
            return
        write_failure(paths, failure_of(task, None, error))
    record = TaskRecord(
        stage=task.stage.value,
        slide=task.slide_id,
        groups=list(task.groups),
        job=_job_id(),
        host=socket.gethostname(),
        pid=os.getpid(),
        started_at=started,
        wall_s=time.perf_counter() - wall,
        cpu_s=time.process_time() - cpu_before,
        model_s=work.model_s,
        peak_memory_bytes=peak_memory_bytes(),
        bytes_read=work.bytes_read,
        windows=work.windows,
        skipped=work.skipped,
        submitted_at=task.submitted_at,
        threads=task.threads,
        cluster=os.environ.get("SUBMITIT_EXECUTOR", "local"),
    )
    if paths.run_file.exists():
        # The next master may sweep the draft of the record away.
        with suppress(FileNotFoundError):
            write_record(paths, f"{task.slide_id}-{task.stage}-{uuid4().hex[:8]}", record)


def _job_id() -> str:
    """The job's name with its scheduler; the process number outside of one."""
    get = os.environ.get
    if get("SUBMITIT_EXECUTOR") == "slurm":
        array, index = get("SLURM_ARRAY_JOB_ID"), get("SLURM_ARRAY_TASK_ID")
        return f"{array}_{index}" if array else get("SLURM_JOB_ID", "")
    if get("SUBMITIT_EXECUTOR") == "sge":
        index = get("SGE_TASK_ID", "undefined")
        return get("JOB_ID", "") + (f"_{int(index) - 1}" if index.isdigit() else "")
    return get("SUBMITIT_LOCAL_JOB_ID", str(os.getpid()))


def failure_of(task: Task, group: int | None, error: Exception) -> Failure:
    """A failure in words; errors that are not ours keep their traceback."""
    ours = isinstance(error, HpcHeatmapError)
    return Failure(
        stage=task.stage.value,
        slide=task.slide_id,
        group=group,
        reason=str(error) if ours else f"{type(error).__name__}: {error}",
        error=type(error).__name__,
        scope=error.scope if isinstance(error, HpcHeatmapError) else "slide",
        log="" if ours else "".join(traceback.format_exception(error))[-4000:],
    )


def _group(
    paths: RunPaths,
    run: RunFile,
    slide: SlideEntry,
    first_groups: int | None,
    go_on: Callable[[], None],
) -> None:
    from hpc_heatmap.stages.grouping import GroupingInput, group_slide

    given = GroupingInput(
        slide_id=slide.id,
        slide_path=slide.path,
        window_px=run.model.window_px,
        stride_px=run.stride_px,
        requested_spacing_um=run.model.requested_spacing_um,
        settings=run.settings,
        stain_target=run.stain_target,
        first_groups=first_groups,
    )
    group_slide(given, paths.slide(slide.id), go_on)


def load_run_classifier(
    paths: RunPaths, run: RunFile, threads: int, scratch: str | None = None
) -> Classifier:
    """The model of a run from its own copy, or from a copy of that in a scratch folder.

    Raises
    ------
    ModelError
        The run's model is a Python function, or its file is gone.
    """
    from hpc_heatmap.stages.scratch import cached_model

    file = paths.model_folder / (run.model.file or "no file: the model is a Python function")
    return load_classifier(
        cached_model(file, run.model.sha256, scratch),
        read_descriptor(paths.descriptor),
        lesion_class=run.model.lesion_class,
        threads=threads,
        channels_last=run.model.memory_format == "channels_last",
        traced=cached_model(paths.traced_model, run.model.sha256, scratch),
        execution=run.model.execution,
        program=cached_model(paths.program, run.model.sha256, scratch),
        tolerance=run.settings.tolerance,
    )


def _score(
    paths: RunPaths,
    run: RunFile,
    task: Task,
    classifier: Classifier,
    work: _Work,
    go_on: _Watch,
) -> None:
    from hpc_heatmap.formats.group_file import open_groups
    from hpc_heatmap.formats.score_file import has_scores, write_scores
    from hpc_heatmap.stages.adaptive import Refinement, score_adaptively
    from hpc_heatmap.stages.scoring import score_group
    from hpc_heatmap.stages.scratch import local_groups

    slide_paths = paths.slide(task.slide_id)
    missing = [g for g in task.groups if not has_scores(slide_paths, g)]
    with (
        local_groups(slide_paths.groups, missing, task.scratch) as file,
        open_groups(file) as groups,
    ):
        geometry = groups.header.geometry(run.stride_px)
        restain = _restaining(run, slide_paths)
        coarse_px = run.settings.coarse_stride_px(run.stride_px, run.model.window_px)
        threshold = run.settings.threshold
        limit = threshold - run.settings.adaptive_margin
        batch_size = run.settings.batch_size
        for index in task.groups:
            go_on()
            if has_scores(slide_paths, index):
                continue
            try:
                group = groups.read(index)
                if restain is not None:
                    restain.raw.clear()
                    group = replace(group, recolour=restain)
                if coarse_px is None:
                    scores, took = score_group(group, geometry, classifier, batch_size, go_on)
                else:
                    wanted = Refinement(coarse_px, threshold, limit)
                    scores, took = score_adaptively(
                        group, geometry, wanted, classifier, batch_size, go_on
                    )
                if restain is not None:
                    scores = replace(scores, raw_patches=len(restain.raw))
                write_scores(slide_paths.group_scores(index), scores)
            except HpcHeatmapError as error:
                if error.scope != "group" or go_on.stop_reason():
                    raise
                write_failure(paths, failure_of(task, index, error))
                continue
            work.bytes_read += group.bytes_read
            work.windows += took.windows
            work.skipped += took.skipped
            work.model_s += took.model_s


def _restaining(run: RunFile, files: SlidePaths) -> Restaining | None:
    """What a slide's patches go through before they are scored; None for raw colours."""
    if run.stain_target is None:
        return None
    from hpc_heatmap.formats.slide_summary import read_summary
    from hpc_heatmap.stages.staining import Restaining

    per_patch = run.settings.stain_per is StainPer.PATCH
    return Restaining(run.stain_target, read_summary(files.summary).stain, per_patch=per_patch)


def _stitch(
    paths: RunPaths, run: RunFile, entry: SlideEntry, work: _Work, go_on: Callable[[], None]
) -> None:
    """Stitch a slide, where it is not yet, and make lesions and pictures of its heatmap.

    Its scores are put into one file first; the groups' own go once the heatmap is made of it.
    """
    from hpc_heatmap.formats.heatmap import Heatmap
    from hpc_heatmap.formats.lesion_files import write_lesions_csv, write_lesions_geojson
    from hpc_heatmap.formats.score_file import open_scores, pack_scores, remove_packed
    from hpc_heatmap.formats.slide_summary import read_summary
    from hpc_heatmap.slide import Slide
    from hpc_heatmap.stages.grouping import slide_geometry
    from hpc_heatmap.stages.lesion_methods import find_lesions, threshold_of
    from hpc_heatmap.stages.pictures import draw_overview
    from hpc_heatmap.stages.stitching import stitch

    files = paths.slide(entry.id)
    summary = read_summary(files.summary)
    work.bytes_read = pack_scores(files, summary.n_groups, summary.n_patches)
    with Slide(entry.path, spacing_um=run.settings.spacing) as slide:
        view = slide.view(run.model.requested_spacing_um)
        if not files.heatmap.exists():
            attributes: dict[str, Any] = {
                "slide_id": entry.id,
                "slide_path": entry.path,
                "slide_size_px": (entry.width_px, entry.height_px),
                "window_px": run.model.window_px,
                "read_spacing_um": view.spacing_um or (math.nan, math.nan),
                "model": run.model.name,
                "model_sha256": run.model.sha256 or "",
                "lesion_class": run.model.lesion_class or "",
                "unreadable_patches": summary.n_unreadable,
                "stain": run.settings.stain.value,
            }
            geometry = slide_geometry(view, run.model.window_px, run.stride_px)
            with open_scores(files.slide_scores) as scores:
                attributes["raw_patches"] = int(scores.raw_patches.sum())
                stitch(files.heatmap, geometry, scores, attributes, go_on)
            work.bytes_read += files.slide_scores.stat().st_size
        remove_packed(files)
        with Heatmap(files.heatmap) as heatmap:
            go_on()
            lesions = find_lesions(heatmap, run.settings, run.model.window_px, run.stride_px)
            write_lesions_csv(files.lesions_csv, lesions, entry.spacing_um)
            write_lesions_geojson(files.lesions_geojson, lesions, entry.spacing_um)
            title = (
                f"{entry.id}: {len(lesions)} lesion{'' if len(lesions) == 1 else 's'} at "
                f"{threshold_of(run.settings):g}, {run.model.name}"
            )
            draw_overview(files.overview, slide, heatmap, title)


class _Watch:
    """Call it now and then: it raises once the work is to stop."""

    def __init__(self, task: Task, paths: RunPaths, told_to_stop: Callable[[], bool]) -> None:
        self._paths = paths
        self._told_to_stop = told_to_stop
        self._master = task.master
        self._last = -math.inf

    def __call__(self) -> None:
        now = time.monotonic()
        if now - self._last < 0.5:
            return
        self._last = now
        reason = self.stop_reason()
        if reason:
            raise Interrupted(reason)

    def stop_reason(self) -> str | None:
        """Why the work is to stop now, None where it is not."""
        if self._told_to_stop():
            return "The job was told to stop."
        if self._paths.cancelled.exists():
            return "The run was cancelled."
        if not self._paths.run_file.exists():
            return "The run directory is gone."
        if self._master is not None and not processes.is_alive(*self._master):
            return "The master is gone."
        return None


def reset_peak_memory() -> None:
    """Have :func:`peak_memory_bytes` begin anew, where the system can: Linux."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory_bytes() -> int:
    """Largest resident memory that this process had, since it was reset."""
    if sys.platform.startswith("linux"):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024
