"""The code that runs on a node: one task, from its name to its files."""

from __future__ import annotations

import os
import socket
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from uuid import uuid4

from hpc_heatmap.errors import HpcHeatmapError, Interrupted
from hpc_heatmap.formats.group_file import open_groups
from hpc_heatmap.formats.heatmap import Heatmap
from hpc_heatmap.formats.lesion_files import write_lesions_csv, write_lesions_geojson
from hpc_heatmap.formats.lookup import read_lookup
from hpc_heatmap.formats.paths import RunPaths
from hpc_heatmap.formats.run_file import RunFile, SlideEntry, read_run_file
from hpc_heatmap.formats.score_file import write_scores
from hpc_heatmap.formats.slide_summary import read_summary
from hpc_heatmap.formats.task_files import Failure, TaskRecord, write_failure, write_record
from hpc_heatmap.model import Classifier, load_classifier, read_descriptor
from hpc_heatmap.slide import Slide
from hpc_heatmap.stages.grouping import GroupingInput, group_slide
from hpc_heatmap.stages.lesions import detect_lesions, kernel_radius
from hpc_heatmap.stages.pictures import draw_overview
from hpc_heatmap.stages.scoring import score_group
from hpc_heatmap.stages.stitching import stitch

__all__ = ["Stage", "Task", "load_run_classifier", "perform"]


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
        What to do; groups for scoring alone.
    threads
        Threads of one inference.
    master
        Process id and start time of a master on this machine without which the task stops;
        None for masters elsewhere.
    """

    run: str
    stage: Stage
    slide_id: str
    groups: tuple[int, ...] = ()
    threads: int = 1
    master: tuple[int, float] | None = None


@dataclass
class _Work:
    """What a task has done so far."""

    bytes_read: int = 0
    windows: int = 0
    model_s: float = 0.0


def perform(task: Task, classifier: Classifier | None = None) -> None:
    """Do a task and record it. What fails for a reason of its own is written to ``failures/``.

    Parameters
    ----------
    task
        What to do.
    classifier
        The run's model where it is already in memory.
    """
    paths = RunPaths(Path(task.run))
    started, cpu_before, wall = time.time(), time.process_time(), time.perf_counter()
    work = _Work()
    try:
        run = read_run_file(paths.run_file)
        slide = next(s for s in run.slides if s.id == task.slide_id)
        go_on = _watch(task, paths)
        if task.stage is Stage.GROUPING:
            _group(paths, run, slide, go_on)
            work.bytes_read = paths.slide(slide.id).groups.stat().st_size
        elif task.stage is Stage.SCORING:
            _score(paths, run, task, classifier, work, go_on)
        else:
            _stitch(paths, run, slide, go_on)
    except Interrupted:
        return
    except Exception as error:
        write_failure(paths, failure_of(task, None, error))
    record = TaskRecord(
        stage=task.stage.value,
        slide=task.slide_id,
        groups=list(task.groups),
        job=os.environ.get("SUBMITIT_LOCAL_JOB_ID", str(os.getpid())),
        host=socket.gethostname(),
        pid=os.getpid(),
        started_at=started,
        wall_s=time.perf_counter() - wall,
        cpu_s=time.process_time() - cpu_before,
        model_s=work.model_s,
        peak_memory_bytes=peak_memory_bytes(),
        bytes_read=work.bytes_read,
        windows=work.windows,
    )
    write_record(paths, f"{task.slide_id}-{task.stage}-{uuid4().hex[:8]}", record)


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


def _group(paths: RunPaths, run: RunFile, slide: SlideEntry, go_on: Callable[[], None]) -> None:
    given = GroupingInput(
        slide_id=slide.id,
        slide_path=slide.path,
        window_px=run.model.window_px,
        stride_px=run.stride_px,
        requested_spacing_um=run.model.requested_spacing_um,
        settings=run.settings,
    )
    group_slide(given, paths.slide(slide.id), go_on)


def load_run_classifier(paths: RunPaths, run: RunFile, threads: int) -> Classifier:
    """The model of a run from its own copy.

    Raises
    ------
    ModelError
        The run's model is a Python function, or its file is gone.
    """
    return load_classifier(
        paths.model_folder / (run.model.file or "no file: the model is a Python function"),
        read_descriptor(paths.descriptor),
        lesion_class=run.model.lesion_class,
        threads=threads,
    )


def _score(
    paths: RunPaths,
    run: RunFile,
    task: Task,
    classifier: Classifier | None,
    work: _Work,
    go_on: Callable[[], None],
) -> None:
    classifier = classifier or load_run_classifier(paths, run, task.threads)
    slide_paths = paths.slide(task.slide_id)
    with open_groups(slide_paths.groups) as groups:
        geometry = groups.header.geometry(run.stride_px)
        for index in task.groups:
            go_on()
            target = slide_paths.group_scores(index)
            if target.exists():
                continue
            try:
                group = groups.read(index)
                scores, took = score_group(
                    group, geometry, classifier, run.settings.batch_size, go_on
                )
                write_scores(target, scores)
            except HpcHeatmapError as error:
                if error.scope != "group":
                    raise
                write_failure(paths, failure_of(task, index, error))
                continue
            work.bytes_read += group.bytes_read
            work.windows += took.windows
            work.model_s += took.model_s


def _stitch(paths: RunPaths, run: RunFile, entry: SlideEntry, go_on: Callable[[], None]) -> None:
    files = paths.slide(entry.id)
    summary = read_summary(files.summary)
    with open_groups(files.groups) as groups:
        header = groups.header
    geometry = header.geometry(run.stride_px)
    attributes = {
        "slide_id": entry.id,
        "slide_path": entry.path,
        "slide_size_px": (entry.width_px, entry.height_px),
        "window_px": run.model.window_px,
        "read_spacing_um": (header.spacing_x_um, header.spacing_y_um),
        "model": run.model.name,
        "model_sha256": run.model.sha256 or "",
        "lesion_class": run.model.lesion_class or "",
        "unreadable_patches": summary.n_unreadable,
    }
    # Pictures and lesions come first, from the heatmap before it has its name: the heatmap's
    # name says that all of the slide is done.
    draft = files.heatmap_draft
    stitch(draft, geometry, read_lookup(files.lookup), files.group_scores, attributes, go_on)
    with Heatmap(draft) as heatmap, Slide(entry.path, spacing_um=run.settings.spacing) as slide:
        radius = kernel_radius(run.model.window_px, run.stride_px)
        lesions = detect_lesions(heatmap, run.settings.threshold, radius)
        write_lesions_csv(files.lesions_csv, lesions, entry.spacing_um)
        write_lesions_geojson(files.lesions_geojson, lesions, entry.spacing_um)
        title = (
            f"{entry.id}: {len(lesions)} lesions at {run.settings.threshold:g}, {run.model.name}"
        )
        draw_overview(files.overview, slide, heatmap, title)
    os.replace(draft, files.heatmap)


def _watch(task: Task, paths: RunPaths) -> Callable[[], None]:
    """A function that raises once the run is cancelled or the master on this machine is gone."""
    import psutil

    last = 0.0

    def go_on() -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < 0.5:
            return
        last = now
        if paths.cancelled.exists():
            raise Interrupted("The run was cancelled.")
        if task.master is not None:
            pid, created = task.master
            try:
                alive = abs(psutil.Process(pid).create_time() - created) < 1
            except psutil.NoSuchProcess:
                alive = False
            if not alive:
                raise Interrupted("The master is gone.")

    return go_on


def peak_memory_bytes() -> int:
    """Largest resident memory that this process had."""
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
