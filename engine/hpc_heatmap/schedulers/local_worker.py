"""A worker that stays: it does the tasks that are laid on its desk, one after another.

A desk is a series of files, ``NAME-1.task``, ``NAME-2.task`` and so on. The master puts a task
there, complete; the worker deletes it when it has done it, which needs no space on a disk that is
full.
"""

from __future__ import annotations

import importlib
import logging
import pickle
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hpc_heatmap import processes
from hpc_heatmap.formats.paths import RunPaths
from hpc_heatmap.formats.run_file import ModelEntry, RunFile, read_run_file
from hpc_heatmap.model import Classifier
from hpc_heatmap.stages.task import Task, load_run_classifier, perform, reset_peak_memory

__all__ = ["Desk", "serve"]

#: submitit's: it writes to the worker's log.
_LOG = logging.getLogger("submitit")
_POLL_S = 0.01
#: How often a worker without work looks whether it is still needed.
_LOOK_S = 0.5
#: What the last stage needs and none before it.
_LATE_MODULES = ("stitching", "lesions", "pictures")


@dataclass(frozen=True)
class Desk:
    """Where a worker finds its tasks.

    Attributes
    ----------
    folder, name
        Its files.
    run
        The run directory that the worker gets ready for.
    threads
        Threads of one inference.
    master
        Process id and start time of the process whose worker it is.
    """

    folder: str
    name: str
    run: str
    threads: int
    master: tuple[int, float]

    def file(self, number: int) -> Path:
        """The task of that number, as long as it is not done."""
        return Path(self.folder, f"{self.name}-{number}.task")

    def put(self, number: int, task: Task) -> Path:
        """Lay a task down, complete."""
        file = self.file(number)
        draft = file.with_suffix(".task-draft")
        draft.write_bytes(pickle.dumps(task))
        draft.replace(file)
        return file

    def is_needed(self) -> bool:
        """Whether more tasks may come."""
        return processes.is_alive(*self.master) and RunPaths(Path(self.run)).run_file.exists()


def serve(desk: Desk) -> None:
    """Do tasks until the master or the run is gone; with nothing to do, get ready for what comes.

    An error that a task cannot write down ends the worker, as it would end a process of its own.
    """
    model = _Model()
    chores = [lambda: _load_model(desk, model), _import_late_modules]
    number, last_look = 1, time.monotonic()
    while True:
        file = desk.file(number)
        if file.exists():
            task = pickle.loads(file.read_bytes())
            _LOG.info(f"Task {number}: {task.stage} of {task.slide_id}, groups {task.groups}")
            reset_peak_memory()
            perform(task, load=model.load)
            file.unlink(missing_ok=True)
            number += 1
        elif time.monotonic() - last_look > _LOOK_S:
            if not desk.is_needed():
                return
            last_look = time.monotonic()
        elif chores:
            # Whatever is wrong, the task that needs it will say so.
            with suppress(Exception):
                chores.pop(0)()
        else:
            time.sleep(_POLL_S)


class _Model:
    """The classifier of a run, kept as long as the same is asked for."""

    def __init__(self) -> None:
        self._kept: tuple[tuple[ModelEntry, float | None, int], Classifier] | None = None

    def load(
        self, paths: RunPaths, run: RunFile, threads: int, scratch: str | None = None
    ) -> Classifier:
        """What :func:`load_run_classifier` gives, loaded once."""
        asked = (run.model, run.settings.tolerance, threads)
        if self._kept is None or self._kept[0] != asked:
            self._kept = asked, load_run_classifier(paths, run, threads, scratch)
        return self._kept[1]


def _load_model(desk: Desk, model: _Model) -> None:
    """Load the model, unless every slide is scored."""
    paths = RunPaths(Path(desk.run))
    run = read_run_file(paths.run_file)
    slides = [paths.slide(slide.id) for slide in run.slides if not slide.problem]
    if not all(files.slide_scores.exists() for files in slides):
        model.load(paths, run, desk.threads)


def _import_late_modules() -> None:
    for name in _LATE_MODULES:
        importlib.import_module(f"hpc_heatmap.stages.{name}")
