"""Runs from Python: start one, open one, look at its heatmaps."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hpc_heatmap.errors import Interrupted, ModelError, RunConflictError
from hpc_heatmap.formats.atomic import storage_errors, write_json
from hpc_heatmap.formats.paths import RunPaths, SlidePaths
from hpc_heatmap.formats.run_file import RunFile, SlideEntry, read_run_file
from hpc_heatmap.runs.lease import holder
from hpc_heatmap.runs.status import RunStatus, run_status
from hpc_heatmap.settings import LaunchSettings, RunSettings

__all__ = ["Run", "RunSlide", "open_run", "start_run"]

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

    def __init__(self, entry: SlideEntry, files: SlidePaths) -> None:
        self.id = entry.id
        self.entry = entry
        self.files = files

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

    def __repr__(self) -> str:
        return f"RunSlide({self.id!r})"


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
            entry.id: RunSlide(entry, self.paths.slide(entry.id)) for entry in self.file.slides
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
    ) -> RunStatus:
        """Do what is missing, and return when nothing is left to do.

        Parameters
        ----------
        launch
            Where and how.
        model
            The classifier, for runs whose model is a Python function.
        on_status
            Called about twice a second.

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
        from hpc_heatmap.schedulers import Scheduler
        from hpc_heatmap.schedulers.in_process import InProcessScheduler
        from hpc_heatmap.schedulers.local import LocalScheduler

        launch = launch or LaunchSettings()
        scheduler: Scheduler
        if self.file.model.file is None:
            if model is None:
                raise ModelError(
                    f"The model of {self.root} is a Python function: resume the run from Python "
                    "with the same request, `start_run(slides, function, out)`."
                )
            scheduler = InProcessScheduler(model)
        else:
            session = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
            scheduler = LocalScheduler(self.paths.jobs, session, launch.workers)
        if holder(self.paths.master) is None:
            with storage_errors(self.paths.root):
                self.paths.cancelled.unlink(missing_ok=True)
        return Master(self.paths, self.file, scheduler, launch, on_status).drive()

    def resume_detached(self, launch: LaunchSettings | None = None) -> int:
        """Do what is missing in a process of its own that outlives this one.

        Returns
        -------
        int
            Its process id; it writes to ``master.log``.
        """
        launch = launch or LaunchSettings()
        command = [sys.executable, "-m", "hpc_heatmap", "resume", str(self.root), "--quiet"]
        for name, value in launch.model_dump(mode="json", exclude_none=True).items():
            command += [f"--{name.replace('_', '-')}", str(value)]
        with storage_errors(self.paths.master_log), self.paths.master_log.open("ab") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        _detached.append(process)
        return process.pid

    def cancel(self, timeout_s: float = 30.0) -> None:
        """Stop the run's jobs and keep what is done. A run that is done stays done.

        Raises
        ------
        Interrupted
            The master did not stop in time.
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

    def __repr__(self) -> str:
        return f"Run({str(self.root)!r}, {len(self.slides)} slides)"


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
