"""Runs from Python: start one, open one, look at its heatmaps."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpc_heatmap.errors import (
    HpcHeatmapError,
    Interrupted,
    ModelError,
    RunConflictError,
)
from hpc_heatmap.formats.atomic import storage_errors, write_json
from hpc_heatmap.formats.paths import RunPaths, SlidePaths
from hpc_heatmap.formats.run_file import RunFile, SlideEntry, read_run_file
from hpc_heatmap.runs.launch_file import read_launch, write_launch
from hpc_heatmap.runs.lease import STALE_S, holder, refuse_second_master
from hpc_heatmap.runs.status import RunStatus, State, run_status
from hpc_heatmap.settings import LaunchSettings, MasterPlace, RunSettings

if TYPE_CHECKING:
    from hpc_heatmap.formats.lesion_files import LesionNumbers
    from hpc_heatmap.formats.review_file import ReviewJournal
    from hpc_heatmap.runs.reviews import ReviewedLesion
    from hpc_heatmap.schedulers import Scheduler

__all__ = ["MasterWork", "Run", "RunSlide", "open_run", "start_run"]

PathLike = str | os.PathLike[str]

#: Masters that may outlive this process: Popen warns of a child that is forgotten.
_detached: list[subprocess.Popen[bytes]] = []


class RunSlide:
    """One slide of a run.

    Attributes
    ----------
    id
        Name of the slide in the run.
    entry
        What was known of the slide when the run was planned.
    files
        Where its results are.
    """

    def __init__(self, entry: SlideEntry, run: RunPaths) -> None:
        self.id = entry.id
        self.entry = entry
        self.files: SlidePaths = run.slide(entry.id)
        self._run = run

    @property
    def path(self) -> Path:
        """The slide's own file."""
        return Path(self.entry.path)

    @property
    def heatmap(self) -> Any:
        """The slide's :class:`~hpc_heatmap.formats.heatmap.Heatmap`, opened.

        Raises
        ------
        FormatError
            The heatmap is not there yet.
        """
        from hpc_heatmap.formats.heatmap import Heatmap

        return Heatmap(self.files.heatmap)

    def reviews(self, who: str | None = None) -> ReviewJournal:
        """What reviewers say of the slide's lesions, to be read and written; by default the user
        of this machine writes.
        """
        from hpc_heatmap.formats.review_file import ReviewJournal

        return ReviewJournal(self._run.reviews(self.id), who)

    def lesions(self) -> list[ReviewedLesion]:
        """The slide's lesions as they stand after review.

        Raises
        ------
        FormatError
            The slide is not done, or a file is damaged.
        """
        from hpc_heatmap.runs.reviews import reviewed_lesions

        return reviewed_lesions(self._run, self.id)

    def lesion_numbers(self) -> tuple[LesionNumbers, list[ReviewedLesion]]:
        """Numbers of all lesions, and the lesions that reviewers spoke of or added; fast.

        Raises
        ------
        FormatError
            The slide is not done, or a file is damaged.
        """
        from hpc_heatmap.runs.reviews import lesion_numbers

        return lesion_numbers(self._run, self.id)

    def __repr__(self) -> str:
        return f"RunSlide({self.id!r})"


class MasterWork:
    """A master as a job: the call that is pickled, and submitted again when it is interrupted."""

    def __init__(self, root: str) -> None:
        self.root = root

    def __call__(self) -> None:
        """Drive the run; how it ends is in its files.

        A lease may be this master's own, of its life on a node that died: it goes stale.
        """
        patience_ends = time.monotonic() + STALE_S + 15
        while True:
            try:
                Run(self.root).resume(fresh=False)
            except HpcHeatmapError as error:
                if isinstance(error, RunConflictError) and time.monotonic() < patience_ends:
                    time.sleep(1)
                    continue
                print(f"hpc-heatmap: {error}", file=sys.stderr)  # noqa: T201 - the job's log
            return

    def checkpoint(self) -> Any:
        """What to go on with after an interruption."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)


class Run:
    """A run directory.

    Raises
    ------
    RunConflictError
        The directory holds no run.
    """

    def __init__(self, root: PathLike) -> None:
        self.paths = RunPaths(Path(os.path.abspath(root)))
        self.file: RunFile = read_run_file(self.paths.run_file)
        self.slides: dict[str, RunSlide] = {
            entry.id: RunSlide(entry, self.paths) for entry in self.file.slides
        }

    @property
    def root(self) -> Path:
        """The directory."""
        return self.paths.root

    @property
    def settings(self) -> RunSettings:
        """What the user chose."""
        return self.file.settings

    def status(self) -> RunStatus:
        """State of the run, from its files."""
        return run_status(self.paths, self.file)

    def resume(
        self,
        launch: LaunchSettings | None = None,
        *,
        model: Any = None,
        on_status: Callable[[RunStatus], None] | None = None,
        fresh: bool = True,
    ) -> RunStatus:
        """Do what is missing with this process as the master; return when nothing is left to do.

        Parameters
        ----------
        launch
            Where and how. Default: as the last time.
        model
            The classifier, for runs whose model is a Python function.
        on_status
            Called about twice a second.
        fresh
            Whether an earlier request to cancel is forgotten.

        Raises
        ------
        RunConflictError
            Another master works on the run.
        ModelError
            The model is a Python function and is not given.
        Interrupted
            The run was cancelled meanwhile.
        StorageError
            The disk is full.
        """
        from hpc_heatmap.runs.master import Master

        launch = launch or self.last_launch()
        scheduler = self._scheduler(launch, model)
        if fresh:
            self._forget_cancel()
        return Master(self.paths, self.file, scheduler, launch, on_status).drive()

    def _scheduler(self, launch: LaunchSettings, model: Any = None) -> Scheduler:
        from hpc_heatmap.schedulers.in_process import InProcessScheduler
        from hpc_heatmap.schedulers.local import LocalScheduler
        from hpc_heatmap.schedulers.profiles import make_cluster_scheduler, read_profile

        if self.file.model.file is None:
            if model is None:
                raise ModelError(
                    f"The model of {self.root} is a Python function: resume the run from Python "
                    "with the same request, `start_run(slides, function, out)`."
                )
            return InProcessScheduler(model)
        if launch.is_local:
            soon = self.file.most_groups()
            return LocalScheduler(self.paths.jobs, _session(), launch.workers, soon)
        return make_cluster_scheduler(self.paths.jobs, _session(), read_profile(launch))

    def last_launch(self) -> LaunchSettings:
        """Where and how the run was launched last; on this machine where it never was."""
        return read_launch(self.paths)

    def _forget_cancel(self) -> None:
        if holder(self.paths.master) is None:
            with storage_errors(self.paths.root):
                self.paths.cancelled.unlink(missing_ok=True)

    def launch(self, launch: LaunchSettings | None = None) -> Callable[[], bool]:
        """Do what is missing with a master that outlives this process.

        It is a job of its own on a cluster, or a process of this machine: on a laptop, and where
        the profile says so. The process writes to ``master.log``.

        Returns
        -------
        function
            Tells whether the master is still there, waiting jobs included.

        Raises
        ------
        RunConflictError
            Another master works on the run.
        SchedulerError
            The scheduler refuses the master.
        StorageError
            The run directory cannot be written.
        """
        from hpc_heatmap.schedulers.profiles import make_cluster_scheduler, read_profile

        launch = launch or self.last_launch()
        refuse_second_master(self.paths.master)
        self._forget_cancel()
        write_launch(self.paths, launch)
        if not launch.is_local:
            profile = read_profile(launch)
            if profile.master is MasterPlace.CLUSTER:
                scheduler = make_cluster_scheduler(self.paths.jobs, _session(), profile)
                job_id = scheduler.submit_master(MasterWork(str(self.root)))
                return lambda: scheduler.is_live(job_id)
        command = [sys.executable, "-m", "hpc_heatmap", "resume", str(self.root)]
        with storage_errors(self.paths.master_log), self.paths.master_log.open("ab") as log:
            process = subprocess.Popen(
                [*command, "--quiet", "--continued"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        _detached.append(process)
        return lambda: process.poll() is None

    def has_master_elsewhere(self, launch: LaunchSettings) -> bool:
        """Whether a launch means a master that is not this process."""
        from hpc_heatmap.schedulers.profiles import read_profile

        return not launch.is_local and read_profile(launch).master is not MasterPlace.HERE

    def wait(
        self,
        is_there: Callable[[], bool],
        on_status: Callable[[RunStatus], None] = lambda status: None,
    ) -> None:
        """Wait until a master that :meth:`launch` gave has ended, by looking at files and at it."""
        looked_at = 0.0
        while True:
            status = self.status()
            on_status(status)
            # The last slide may be done a moment before the master has put everything away.
            if status.state is State.DONE and status.master is None:
                return
            now = time.monotonic()
            if status.master is None and now - looked_at > 3:
                looked_at = now
                if not is_there():
                    return
            time.sleep(0.5)

    def cancel(self, timeout_s: float = 60.0) -> None:
        """Stop the run's jobs and keep what is done. A run that is done stays done.

        Raises
        ------
        Interrupted
            The master did not stop in time.
        SchedulerError
            The run's cluster is not reached from this machine.
        """
        write_json(self.paths.cancelled, {"at": time.time()})
        deadline = time.monotonic() + timeout_s
        while (master := holder(self.paths.master)) is not None:
            if time.monotonic() > deadline:
                raise Interrupted(
                    f"Process {master.pid} on {master.host} has not stopped after {timeout_s:g} s; "
                    "it stops as soon as it sees the request."
                )
            time.sleep(0.1)
        launch = self.last_launch()
        if not launch.is_local:
            # A master that waits in the queue, and what one that was killed has left there.
            self._scheduler(launch).stop_all()

    def __repr__(self) -> str:
        return f"Run({str(self.root)!r}, {len(self.slides)} slides)"


def _session() -> str:
    """Name of this master's folder of jobs."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"


def open_run(root: PathLike) -> Run:
    """Open a run directory.

    Raises
    ------
    RunConflictError
        The directory holds no run.
    """
    return Run(root)


def start_run(
    slides: Sequence[PathLike],
    model: Any,
    out: PathLike,
    *,
    settings: RunSettings | None = None,
    model_config: PathLike | None = None,
) -> Run:
    """Check a request and make its run directory; :meth:`Run.resume` then does the work.

    Parameters
    ----------
    slides
        Slide files, and folders of them.
    model
        Path of a ``.pt``, ``.pt2`` or ``.onnx`` file, or a
        :class:`~hpc_heatmap.model.FunctionClassifier`.
    out
        The run directory: new, empty, or holding the same request.
    settings
        What to compute.
    model_config
        The model's descriptor, where it is not beside the model.

    Raises
    ------
    RequestError
        The request is wrong; nothing was written.
    StorageError
        The run directory cannot be written.
    """
    from hpc_heatmap.model import find_descriptor
    from hpc_heatmap.runs.planning import create_run, plan_run

    run_file = RunPaths(Path(out)).run_file
    if not run_file.exists() and Path(out).exists() and not Path(out).is_dir():
        raise RunConflictError(f"{out} is a file: give a directory with --out.")
    plan = plan_run(slides, model, settings or RunSettings(), model_config=model_config)
    files: dict[str, Path] = {}
    if isinstance(model, str | os.PathLike):
        files["model"] = Path(model)
        files["descriptor"] = find_descriptor(
            Path(model), Path(model_config) if model_config else None
        )
    return Run(create_run(out, plan, **files).root)
