"""The master: submits what is missing, slide by slide, until nothing is.

A slide's scoring is submitted the moment its own groups are complete, its stitching the moment its
last group is scored; no slide waits for another.
"""

from __future__ import annotations

import heapq
import itertools
import shutil
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from hpc_heatmap.errors import (
    Interrupted,
    ModelOutputError,
    ReadOnlyError,
    StorageError,
    WorkError,
)
from hpc_heatmap.formats.atomic import PARTIAL_SUFFIX
from hpc_heatmap.formats.lookup import write_run_lookup
from hpc_heatmap.formats.paths import RunPaths
from hpc_heatmap.formats.run_file import RunFile
from hpc_heatmap.formats.score_file import has_scores
from hpc_heatmap.formats.slide_summary import read_summary
from hpc_heatmap.formats.task_files import (
    Failure,
    pack_records,
    read_failures,
    write_failure,
)
from hpc_heatmap.runs.launch_file import write_launch
from hpc_heatmap.runs.lease import Lease
from hpc_heatmap.runs.status import RunStatus, missing_groups, next_stage, run_status
from hpc_heatmap.schedulers import Job, QueueFullError, Scheduler
from hpc_heatmap.schedulers.packing import pack_groups
from hpc_heatmap.settings import LaunchSettings
from hpc_heatmap.stages.task import Stage, Task

__all__ = ["Master"]

#: Between two looks at what runs: at most, and for each job; a look costs a little for each.
_POLL_S, _JOB_POLL_S = 0.05, 0.003
_LOOK_S = 0.5
_QUEUE_FULL_S = 10.0
#: What a task was started from is kept for so long after its end: a node that dies may bring back
#: a task that had just ended.
_SETTLED_S = 1800.0
#: Records of so many slides that are done are put away at once: each time the folder is listed.
_PACKED_SLIDES = 20
#: A run needs at least this much space to go on.
_LEAST_FREE_BYTES = 1 << 20
#: Errors of a task that stop the run, and what the master raises for them; else WorkError.
_STOPPING = {
    "StorageError": StorageError,
    "ReadOnlyError": StorageError,
    "ModelOutputError": ModelOutputError,
}


class Master:
    """Drives a run.

    Parameters
    ----------
    paths, run
        The run.
    scheduler
        Where tasks run.
    launch
        How they are packed and retried.
    on_status
        Called about twice a second with the run's status.
    """

    def __init__(
        self,
        paths: RunPaths,
        run: RunFile,
        scheduler: Scheduler,
        launch: LaunchSettings,
        on_status: Callable[[RunStatus], None] | None = None,
    ) -> None:
        self._paths = paths
        self._run = run
        self._scheduler = scheduler
        self._launch = launch
        self._on_status = on_status
        self._lease = Lease(paths.master)
        self._queue: list[tuple[int, int, Task]] = []
        self._order = itertools.count()
        self._rank = {slide.id: rank for rank, slide in enumerate(run.slides)}
        self._running: dict[Job, Task] = {}
        #: What has ended well, and when.
        self._ended: list[tuple[float, Job]] = []
        #: Tasks of each slide that wait or run.
        self._n_pending: Counter[str] = Counter()
        self._tries: Counter[tuple[str, Stage, tuple[int, ...]]] = Counter()
        #: Slides that were done since records were put away.
        self._just_done: set[str] = set()
        self._last_look = 0.0
        #: After a refusal: when to submit again, and how much.
        self._not_before = 0.0
        self._room = scheduler.max_array

    def drive(self) -> RunStatus:
        """Work until nothing is left to do, or nothing can be done.

        Raises
        ------
        RunConflictError
            Another master works on the run.
        Interrupted
            The run was cancelled.
        StorageError
            The disk is full or the run directory cannot be written.
        ModelOutputError
            The model gave NaN or the wrong shape.
        """
        with self._lease:
            write_launch(self._paths, self._launch)
            self._adopt()
            self._clean()
            for slide in self._run.slides:
                if not slide.problem:
                    self._queue_next(slide.id)
            moved = False
            try:
                self._loop()
            except ReadOnlyError as error:
                # It could be written when the run started.
                raise StorageError(str(error)) from error
            except SystemExit:
                # A scheduler moves this master elsewhere: the next one takes its jobs over.
                moved = not self._scheduler.own_processes
                raise
            finally:
                if not moved:
                    self._stop_jobs()
                self._clean_partials()
            self._clear(0.0)
            with suppress(StorageError):
                pack_records(self._paths, self._is_done)
                self._write_lookup()
        status = run_status(self._paths, self._run)
        if self._on_status is not None:
            self._on_status(status)
        return status

    def _loop(self) -> None:
        while self._queue or self._running:
            self._beat()
            self._submit()
            ended = [job for job in self._running if job.done()]
            for job in ended:
                task = self._running.pop(job)
                self._n_pending[task.slide_id] -= 1
                self._after(job, task)
            self._look()
            if not ended:
                time.sleep(min(_POLL_S, _JOB_POLL_S * (1 + len(self._running))))

    def _beat(self) -> None:
        """Show that the master is alive, and see whether it is to stop."""
        if self._paths.cancelled.exists():
            raise Interrupted(f"The run {self._paths.root} was cancelled.")
        self._lease.beat()

    def _adopt(self) -> None:
        """Take over what an earlier master has left in a queue."""
        while True:
            try:
                adopted = self._scheduler.adopt()
                break
            except QueueFullError:
                self._beat()
                time.sleep(1)
        for job, (stage, slide_id, groups) in adopted.items():
            if slide_id in self._rank:
                self._running[job] = self._task(stage, slide_id, groups)
                self._n_pending[slide_id] += 1

    def _submit(self) -> None:
        """Submit what waits, as arrays, while there is room."""
        while self._queue and time.monotonic() >= self._not_before:
            room = self._scheduler.slots - len(self._running)
            if room <= 0:
                return
            now = time.time()
            tasks = [
                replace(task, submitted_at=now)
                for task in self._next_array(min(room, self._scheduler.max_array))
            ]
            try:
                jobs = self._scheduler.submit(tasks)
            except QueueFullError:
                # Others' jobs, or a limit that we do not know: wait politely, with what fits.
                for task in tasks:
                    self._n_pending[task.slide_id] -= 1
                    self._push(task)
                self._not_before = time.monotonic() + _QUEUE_FULL_S
                self._room = max(1, len(tasks) // 2)
                return
            self._running.update(zip(jobs, tasks, strict=True))

    def _next_array(self, longest: int) -> list[Task]:
        """Tasks that wait and may share an array: of one stage, and scoring of one slide."""
        first = heapq.heappop(self._queue)[-1]
        tasks = [first]
        limit = min(longest, self._room)
        self._room = self._scheduler.max_array
        while self._queue and len(tasks) < limit:
            following = self._queue[0][-1]
            same_slide = following.slide_id == first.slide_id
            if following.stage is not first.stage or (
                first.stage is Stage.SCORING and not same_slide
            ):
                break
            tasks.append(heapq.heappop(self._queue)[-1])
        return tasks

    def _after(self, job: Job, task: Task) -> None:
        """See from the files what an ended task has left to do."""
        failures = [f for f in read_failures(self._paths) if f.slide == task.slide_id]
        for failure in failures:
            if failure.scope == "run":
                self._queue.clear()
                raise _STOPPING.get(failure.error, WorkError)(failure.reason)
        if any(f.scope == "slide" for f in failures):
            return
        if self._is_complete(task, failures):
            if not failures:
                self._ended.append((time.monotonic(), job))
            if task.stage is Stage.STITCHING:
                self._put_away(task.slide_id)
            if not self._n_pending[task.slide_id]:
                self._queue_next(task.slide_id)
            return
        if not self._paths.run_file.exists():
            raise StorageError(f"The run directory {self._paths.root} is gone.")
        if shutil.disk_usage(self._paths.root).free < _LEAST_FREE_BYTES:
            raise StorageError(
                f"The disk of {self._paths.root} is full: free some space, then `hpc-heatmap "
                f"resume {self._paths.root}`."
            )
        if task.stage is Stage.SCORING:
            # What it has done counts: a task that is stopped again and again still gets on.
            files = self._paths.slide(task.slide_id)
            left = tuple(g for g in task.groups if not has_scores(files, g))
            task = replace(task, groups=left)
        key = (task.slide_id, task.stage, task.groups)
        self._tries[key] += 1
        if self._tries[key] <= self._launch.retries:
            self._push(task)
            return
        write_failure(
            self._paths,
            Failure(
                stage=task.stage.value,
                slide=task.slide_id,
                group=None,
                reason=f"Tried {self._tries[key]} times: {job.reason()}.",
                error="WorkError",
                scope="slide",
                log=job.log(),
            ),
        )

    def _put_away(self, slide_id: str) -> None:
        """One file for the records of each slide that is done, some slides at a time."""
        self._just_done.add(slide_id)
        if len(self._just_done) >= _PACKED_SLIDES:
            pack_records(self._paths, self._just_done.__contains__)
            self._just_done.clear()
            self._clear(_SETTLED_S)

    def _clear(self, least_s: float) -> None:
        """Delete what tasks were started from that ended so long ago."""
        limit = time.monotonic() - least_s
        settled = [job for ended, job in self._ended if ended <= limit]
        self._ended = self._ended[len(settled) :]
        self._scheduler.clear(settled)

    def _is_complete(self, task: Task, failures: list[Failure]) -> bool:
        files = self._paths.slide(task.slide_id)
        if task.stage is not Stage.SCORING:
            return next_stage(files) is not task.stage
        failed = {f.group for f in failures if f.stage == Stage.SCORING}
        return all(g in failed or has_scores(files, g) for g in task.groups)

    def _pending(self, slide_id: str) -> list[Task]:
        """Tasks of a slide that wait or run."""
        if not self._n_pending[slide_id]:
            # As nearly always; only what an earlier master has left makes it worth a look.
            return []
        pending = [*(entry[-1] for entry in self._queue), *self._running.values()]
        return [task for task in pending if task.slide_id == slide_id]

    def _queue_next(self, slide_id: str) -> None:
        """Queue the next stage of a slide."""
        files = self._paths.slide(slide_id)
        stage = next_stage(files)
        pending = self._pending(slide_id)
        if stage is None or any(t.stage is not Stage.SCORING for t in pending):
            return
        if stage is not Stage.SCORING:
            self._push(self._task(stage, slide_id))
            return
        summary = read_summary(files.summary)
        taken = {g for task in pending for g in task.groups}
        missing = [g for g in missing_groups(files, summary.n_groups) if g not in taken]
        if any(f.slide == slide_id for f in read_failures(self._paths)):
            return
        per_group = summary.n_windows / summary.n_groups
        for start, stop in pack_groups(
            len(missing),
            per_group / (self._run.windows_per_s or 1.0),
            60 * self._launch.task_minutes,
            self._scheduler.parallel(),
            light=self._scheduler.light_tasks,
        ):
            self._push(self._task(Stage.SCORING, slide_id, tuple(missing[start:stop])))

    def _task(self, stage: Stage, slide_id: str, groups: tuple[int, ...] = ()) -> Task:
        holder = self._lease.holder
        mine = (holder.pid, holder.process_started) if self._scheduler.own_processes else None
        return Task(
            str(self._paths.root),
            stage,
            slide_id,
            groups,
            threads=self._scheduler.threads,
            master=mine,
        )

    def _push(self, task: Task) -> None:
        """Earlier slides first, so that they are done early and their space can be freed."""
        self._n_pending[task.slide_id] += 1
        heapq.heappush(self._queue, (self._rank[task.slide_id], next(self._order), task))

    def _clean(self) -> None:
        """Forget what an earlier master left: failures are tried again."""
        self._clean_partials()
        for file in self._paths.failures.glob("*.json"):
            file.unlink(missing_ok=True)

    def _clean_partials(self) -> None:
        """Sweep away what tasks, plans and masters that were killed had begun to write.

        Nothing is swept while tasks run. Other programs may write elsewhere in the run directory,
        and a request to cancel or to launch may come at any time: their drafts stay.
        """
        if self._running:
            return
        paths = self._paths
        folders = [paths.root, paths.model_folder, paths.tasks, paths.failures]
        for slide in self._run.slides:
            files = paths.slide(slide.id)
            folders += [files.root, files.scores]
        requests = tuple(f".{file.stem}-" for file in (paths.cancelled, paths.launch))
        for folder in folders:
            for file in folder.glob(f".*{PARTIAL_SUFFIX}"):
                if not file.name.startswith(requests):
                    with suppress(OSError):
                        file.unlink()
        # submitit's own way of writing beside and renaming.
        for file in paths.jobs.glob("*/*.save_tmp"):
            with suppress(OSError):
                file.unlink()

    def _is_done(self, slide_id: str) -> bool:
        return slide_id in self._rank and next_stage(self._paths.slide(slide_id)) is None

    def _write_lookup(self) -> None:
        """The run's lookup table, once every slide that can be grouped is."""
        summaries = {}
        for slide in self._run.slides:
            file = self._paths.slide(slide.id).summary
            if file.exists():
                summaries[slide.id] = read_summary(file)
        if summaries:
            write_run_lookup(self._paths.lookup_csv, summaries)

    def _stop_jobs(self) -> None:
        """Stop what runs, and workers without work: they live as long as the run."""
        if self._running or self._scheduler.own_processes:
            self._scheduler.stop_all()
        self._running.clear()

    def _look(self) -> None:
        now = time.monotonic()
        if self._on_status is None or now - self._last_look < _LOOK_S:
            return
        self._last_look = now
        self._on_status(run_status(self._paths, self._run))
