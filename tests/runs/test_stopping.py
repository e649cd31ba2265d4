"""Masters and workers that are stopped, from outside and by each other."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import psutil
import pytest
from runs.support import (
    WORKER_MODULES,
    command,
    drafts,
    end_of,
    kill,
    make_model,
    make_slide,
    results,
    wait_until,
    workers_of,
)

import hpc_heatmap
from hpc_heatmap import Run, RunSettings, start_run
from hpc_heatmap.formats.task_files import read_failures
from hpc_heatmap.runs.status import State


def plan(tmp_path: Path, slide_ids: str) -> Run:
    slides = [make_slide(tmp_path / f"{name}.tif") for name in slide_ids]
    settings = RunSettings(stride=2, patches_per_group=4)
    return start_run(slides, make_model(tmp_path), tmp_path / "RUN", settings=settings)


@pytest.fixture
def planned(tmp_path: Path) -> Run:
    """A run that takes some seconds."""
    return plan(tmp_path, "a")


def resume(run: Run, *options: object) -> tuple[int, str]:
    return end_of(command("resume", run.root, "--quiet", *options))


def begun(run: Run) -> bool:
    """Whether a worker is at work on a slide."""
    return any(run.root.glob("slides/*/*"))


def worker_of(run: Run) -> psutil.Process | None:
    """A worker itself, not its controller."""
    for process in workers_of(run.root):
        try:
            if "submitit.core._submit" in process.cmdline():
                return process
        except psutil.Error:
            continue
    return None


def test_of_two_masters_one_works(planned: Run) -> None:
    first, second = (command("resume", planned.root, "--quiet", "--workers", 1) for _ in range(2))
    ends = sorted([end_of(first), end_of(second)])
    assert ends[0] == (0, "")
    code, errors = ends[1]
    assert code == 2
    assert errors.startswith("hpc-heatmap: ") and errors.count("\n") == 1
    assert "works on" in errors or "has just started" in errors
    assert planned.status().state is State.DONE


def test_ctrl_c_stops_everything_and_the_run_resumes(planned: Run) -> None:
    master = command("resume", planned.root, "--quiet")
    wait_until(lambda: begun(planned))
    os.killpg(master.pid, signal.SIGINT)
    code, errors = end_of(master)
    assert workers_of(planned.root) == []
    assert code == 1
    assert errors.startswith("hpc-heatmap: Stopped.") and errors.count("\n") == 1
    assert "Traceback" not in errors and "resume" in errors
    assert drafts(planned.root) == [] and not planned.paths.master.exists()
    assert not planned.paths.failures.exists()
    assert planned.status().state is State.PLANNED
    assert resume(planned) == (0, "")


def test_ctrl_c_while_planning_leaves_nothing(planned: Run, tmp_path: Path) -> None:
    slide, model = planned.file.slides[0].path, planned.file.model.source
    process = command("run", slide, "--model", model, "--out", tmp_path / "NEW", "--quiet")
    # Python itself prints a traceback while it loads the command: wait until the model is loaded.
    wait_until(lambda: "onnxruntime" in Path(f"/proc/{process.pid}/maps").read_text())
    time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    code, errors = end_of(process)
    assert code == 1 and "Traceback" not in errors and errors.startswith("hpc-heatmap: Stopped.")
    root = tmp_path / "NEW"
    assert not root.exists() or (root / "run.json").exists()


def test_cancel_stops_a_running_run(planned: Run) -> None:
    master = command("resume", planned.root, "--quiet")
    wait_until(lambda: begun(planned))
    assert planned.status().state is State.RUNNING
    assert end_of(command("cancel", planned.root))[0] == 0
    assert workers_of(planned.root) == []
    code, errors = end_of(master)
    assert code == 1 and "was cancelled" in errors and errors.count("\n") == 1
    assert planned.status().state is State.CANCELLED
    assert drafts(planned.root) == [] and not planned.paths.failures.exists()
    assert resume(planned) == (0, "")
    assert planned.status().state is State.DONE


def test_a_run_whose_directory_is_deleted_ends_with_a_word(planned: Run) -> None:
    master = command("resume", planned.root, "--quiet")
    wait_until(lambda: begun(planned))
    # Renamed, not deleted file by file: what is written meanwhile would be in the way.
    gone = planned.root.rename(planned.root.with_name("GONE"))
    code, errors = end_of(master)
    assert code == 1 and "is gone" in errors and errors.count("\n") == 1
    wait_until(lambda: not workers_of(planned.root) + workers_of(gone))


@pytest.mark.slow
def test_a_worker_that_is_killed_is_tried_again(planned: Run) -> None:
    master = command("resume", planned.root, "--quiet")
    kill(wait_until(lambda: worker_of(planned)))
    assert end_of(master) == (0, "")
    assert planned.status().state is State.DONE


@pytest.mark.slow
def test_the_worker_of_a_controller_that_is_killed_is_stopped(planned: Run) -> None:
    master = command("resume", planned.root, "--quiet", "--workers", 1)
    worker = wait_until(lambda: worker_of(planned))
    controller = worker.parent()
    assert WORKER_MODULES.intersection(controller.cmdline())
    kill(controller)
    wait_until(lambda: not worker.is_running(), 10)
    assert end_of(master) == (0, "")


@pytest.mark.slow
def test_a_slide_whose_worker_always_dies_fails_and_the_others_are_done(tmp_path: Path) -> None:
    planned = plan(tmp_path, "ab")
    (Path(planned.file.slides[0].path)).unlink()
    os.mkfifo(planned.file.slides[0].path)  # Opening it waits for ever.
    master = command("resume", planned.root, "--quiet", "--workers", 2, "--retries", 1)
    seen = set()
    while len(seen) < 2:
        worker = wait_until(lambda: _waits_long(planned, seen), 60)
        seen.add(worker.pid)
        kill(worker)
    code, errors = end_of(master)
    assert code == 1
    assert "a: Tried 2 times: the worker was killed" in errors and "Traceback" not in errors
    status = planned.status()
    assert status.state is State.FAILED
    assert status.slides["a"].state is State.FAILED and status.slides["b"].state is State.DONE
    (failure,) = read_failures(planned.paths)
    assert (failure.slide, failure.stage, failure.scope) == ("a", "grouping", "slide")
    assert "submitit INFO" in failure.log and "grouping of a" in failure.log
    assert "of b" not in failure.log
    log = Path(failure.reason.partition("its log is ")[2].rstrip("."))
    assert log.is_relative_to(planned.paths.jobs) and log.exists()
    Path(planned.file.slides[0].path).unlink()
    make_slide(Path(planned.file.slides[0].path))
    assert resume(planned) == (0, "")
    assert set(results(hpc_heatmap.open_run(planned.root).paths)) >= {"lookup.csv"}


def _waits_long(run: Run, seen: set[int]) -> psutil.Process | None:
    """The worker that has waited for the slide for a while."""
    for process in workers_of(run.root):
        try:
            is_worker = "submitit.core._submit" in process.cmdline()
            if is_worker and process.pid not in seen and time.time() - process.create_time() > 6:
                return process
        except psutil.Error:
            continue
    return None
