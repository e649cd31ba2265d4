"""One task: what it writes, what it records, and when it keeps quiet."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from runs.support import WINDOW_PX, darkness, dead_pid, drafts, function_run, make_slide

from hpc_heatmap import FunctionClassifier, Run, processes
from hpc_heatmap.errors import NoTissueError, StorageError
from hpc_heatmap.formats.slide_summary import read_summary
from hpc_heatmap.formats.task_files import TaskRecord, read_failures, read_records
from hpc_heatmap.stages import scoring
from hpc_heatmap.stages.task import Stage, Task, failure_of, peak_memory_bytes, perform

MODEL = FunctionClassifier(darkness, WINDOW_PX)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return function_run([make_slide(tmp_path / "a.tif")], tmp_path / "RUN")


def task(run: Run, stage: Stage, groups: tuple[int, ...] = ()) -> Task:
    start = processes.started(os.getpid())
    assert start is not None
    return Task(str(run.root), stage, "a", groups, master=(os.getpid(), start))


def orphan(a_task: Task) -> Task:
    return replace(a_task, master=(dead_pid(), 1.0))


def record_of(run: Run, stage: Stage) -> TaskRecord:
    (record,) = [r for r in read_records(run.paths) if r.stage == stage]
    return record


def test_records_say_what_a_task_took(run: Run) -> None:
    before = time.time()
    perform(task(run, Stage.GROUPING))
    perform(task(run, Stage.SCORING, (0, 1)), MODEL)
    grouping, scoring_ = record_of(run, Stage.GROUPING), record_of(run, Stage.SCORING)
    for record in (grouping, scoring_):
        assert before <= record.started_at <= time.time()
        assert 0 < record.wall_s < 60 and 0 < record.cpu_s < 60
        assert 10 * 2**20 < record.peak_memory_bytes < 64 * 2**30
        assert record.host == socket.gethostname() and record.pid == os.getpid()
        assert record.slide == "a" and record.job
    assert grouping.bytes_read == run.paths.slide("a").groups.stat().st_size
    assert grouping.groups == [] and grouping.windows == 0 and grouping.model_s == 0
    assert scoring_.groups == [0, 1]
    # 16 cells a group, 4 x 4 windows a cell at a quarter of the window.
    assert scoring_.windows == 2 * 16 * 16
    assert 0 < scoring_.model_s <= scoring_.wall_s
    # Squares of half a window, each once: more than the cells, less than the patches.
    cell_bytes = 3 * WINDOW_PX**2
    assert 32 * cell_bytes < scoring_.bytes_read < 4 * 32 * cell_bytes


def test_a_stitching_record_counts_the_scores(run: Run) -> None:
    perform(task(run, Stage.GROUPING))
    files = run.paths.slide("a")
    groups = tuple(range(read_summary(files.summary).n_groups))
    perform(task(run, Stage.SCORING, groups), MODEL)
    n_bytes = sum(file.stat().st_size for file in files.scores.iterdir())
    perform(task(run, Stage.STITCHING))
    record = record_of(run, Stage.STITCHING)
    assert record.bytes_read == n_bytes + files.slide_scores.stat().st_size
    assert not files.scores.exists()


def test_a_group_that_is_scored_is_not_scored_again(run: Run) -> None:
    perform(task(run, Stage.GROUPING))
    perform(task(run, Stage.SCORING, (0,)), MODEL)
    file = run.paths.slide("a").group_scores(0)
    before = file.stat()
    perform(task(run, Stage.SCORING, (0, 1)), MODEL)
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert sorted(r.windows for r in read_records(run.paths)) == [0, 256, 256]


@pytest.mark.parametrize("stage", list(Stage))
def test_a_task_of_a_dead_master_does_nothing(run: Run, stage: Stage) -> None:
    perform(orphan(task(run, stage)), MODEL)
    assert not run.paths.slide("a").root.exists()
    assert not run.paths.failures.exists() and not run.paths.tasks.exists()


def test_a_task_of_a_cancelled_run_does_nothing(run: Run) -> None:
    run.paths.cancelled.touch()
    perform(task(run, Stage.GROUPING))
    assert not run.paths.slide("a").root.exists() and not run.paths.failures.exists()


def test_an_orphan_whose_files_are_swept_away_keeps_quiet(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    perform(task(run, Stage.GROUPING))
    alive = True
    monkeypatch.setattr(processes, "is_alive", lambda *_: alive)
    score = scoring.score_group

    def die_and_sweep(*arguments: Any) -> Any:
        nonlocal alive
        found = score(*arguments)
        alive = False
        monkeypatch.setattr(os, "fsync", lambda _: [d.unlink() for d in drafts(run.root)])
        return found

    monkeypatch.setattr(scoring, "score_group", die_and_sweep)
    perform(task(run, Stage.SCORING, (0,)), MODEL)
    assert not run.paths.failures.exists()
    assert not run.paths.slide("a").group_scores(0).exists()
    # The same with a master is a failure.
    alive = True
    monkeypatch.setattr(scoring, "score_group", score)
    with pytest.raises(FileNotFoundError):
        # Not even the failure can be written here: fsync sweeps all drafts away.
        perform(task(run, Stage.SCORING, (0,)), MODEL)


def test_a_run_directory_that_is_deleted_stays_deleted(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    perform(task(run, Stage.GROUPING))

    def delete(*_: Any) -> Any:
        shutil.rmtree(run.root)
        raise OSError("the files have gone")

    monkeypatch.setattr(scoring, "score_group", delete)
    perform(task(run, Stage.SCORING, (0,)), MODEL)
    assert not run.root.exists()


def test_what_fails_is_written_with_its_reason(run: Run) -> None:
    Path(run.file.slides[0].path).unlink()
    perform(task(run, Stage.GROUPING))
    (failure,) = read_failures(run.paths)
    assert (failure.slide, failure.stage, failure.scope) == ("a", "grouping", "slide")
    assert "a.tif" in failure.reason and failure.log == ""
    assert len(read_records(run.paths)) == 1


def test_a_bug_is_written_with_its_traceback(run: Run) -> None:
    def broken(_: Any) -> Any:
        raise ZeroDivisionError("by zero")

    perform(task(run, Stage.GROUPING))
    perform(task(run, Stage.SCORING, (0,)), FunctionClassifier(broken, WINDOW_PX))
    (failure,) = read_failures(run.paths)
    assert failure.reason == "ZeroDivisionError: by zero" and failure.scope == "slide"
    assert "Traceback" in failure.log and "in broken" in failure.log


def test_errors_of_ours_keep_their_scope_and_no_traceback(run: Run) -> None:
    a_task = task(run, Stage.SCORING)
    assert failure_of(a_task, None, StorageError("The disk is full.")).scope == "run"
    failure = failure_of(a_task, 3, NoTissueError("There is none."))
    assert (failure.scope, failure.group, failure.log) == ("slide", 3, "")
    assert failure.name == "a-scoring-000003"


def test_peak_memory_grows_with_what_is_held() -> None:
    before = peak_memory_bytes()
    held = bytearray(os.urandom(1)) * (before + 64 * 2**20)
    assert peak_memory_bytes() >= len(held)
