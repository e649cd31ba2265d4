"""Workers that stay: what they keep, when they end, who takes their place."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from runs.support import kill, make_model, make_slide, wait_until, workers_of
from schedulers.contract import workers

from hpc_heatmap import Run, RunSettings, processes, start_run
from hpc_heatmap.formats.slide_summary import read_summary
from hpc_heatmap.formats.task_files import read_records
from hpc_heatmap.schedulers import local_worker
from hpc_heatmap.schedulers.local import LocalScheduler
from hpc_heatmap.schedulers.local_worker import Desk, serve
from hpc_heatmap.stages.task import Stage, Task, load_run_classifier, perform

#: A master that has handed out one task, and then does nothing for ever.
_MASTER = """
import sys, time
from pathlib import Path
from hpc_heatmap.schedulers.local import LocalScheduler
from hpc_heatmap.stages.task import Stage, Task
root = Path(sys.argv[1])
task = Task(str(root), Stage.GROUPING, "a")
(job,) = LocalScheduler(root / "jobs", "s", 2, soon=2).submit([task])
while not job.done():
    time.sleep(0.01)
print("done", flush=True)
time.sleep(600)
"""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    settings = RunSettings(stride=8, patches_per_group=16, tissue_method="all")
    slide = make_slide(tmp_path / "a.tif", 260, 230)
    return start_run([slide], make_model(tmp_path), tmp_path / "RUN", settings=settings)


def task(run: Run, stage: Stage, groups: tuple[int, ...] = ()) -> Task:
    return Task(str(run.root), stage, "a", groups)


def test_a_worker_does_all_stages_in_one_process(run: Run) -> None:
    scheduler = LocalScheduler(run.paths.jobs, "session", 1)
    try:
        ids = set()
        for stage, groups in (
            (Stage.GROUPING, ()),
            (Stage.SCORING, (0, 1)),
            (Stage.SCORING, tuple(range(2, 10))),
            (Stage.STITCHING, ()),
        ):
            (job,) = scheduler.submit([task(run, stage, groups)])
            wait_until(job.done, 60)
            ids.add(job.id)
            assert f"{stage} of a" in job.log() and "Task" in job.log()
            assert job.log().count("Task ") == 1, "the log of a job is its own"
    finally:
        scheduler.stop_all()
    records = read_records(run.paths)
    assert [r.stage for r in records] == ["grouping", "scoring", "scoring", "stitching"]
    assert len({r.pid for r in records}) == len(ids) == 1 and {r.job for r in records} == ids
    assert workers_of(run.root) == []


def test_a_worker_that_was_killed_is_replaced(run: Run) -> None:
    scheduler = LocalScheduler(run.paths.jobs, "session", 1)
    slide = run.slides["a"].path
    content = slide.read_bytes()
    slide.unlink()
    os.mkfifo(slide)
    try:
        (first,) = scheduler.submit([task(run, Stage.GROUPING)])
        kill(wait_until(lambda: workers(run), 60)[0])
        wait_until(first.done, 60)
        slide.unlink()
        slide.write_bytes(content)
        (second,) = scheduler.submit([task(run, Stage.GROUPING)])
        wait_until(second.done, 60)
        assert run.slides["a"].files.summary.exists()
        assert second.id != first.id
        assert "was killed" in first.reason() and "was killed" not in second.reason()
    finally:
        scheduler.stop_all()


def test_workers_that_will_be_needed_start_with_the_first_task(run: Run) -> None:
    scheduler = LocalScheduler(run.paths.jobs, "session", 3, soon=2)
    try:
        scheduler.submit([task(run, Stage.GROUPING)])
        wait_until(lambda: len(workers(run)) == 2, 60)
    finally:
        scheduler.stop_all()
    assert workers_of(run.root) == []


def test_workers_without_work_end_with_their_master(run: Run) -> None:
    master = subprocess.Popen(
        [sys.executable, "-c", _MASTER, str(run.root)], stdout=subprocess.PIPE, text=True
    )
    assert master.stdout is not None and master.stdout.readline() == "done\n"
    wait_until(lambda: len(workers(run)) == 2, 60)
    master.kill()
    wait_until(lambda: not workers_of(run.root), 15)
    master.communicate()


def test_the_model_is_loaded_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    perform(task(run, Stage.GROUPING))
    n_groups = read_summary(run.slides["a"].files.summary).n_groups
    assert n_groups > 2
    start = processes.started(os.getpid())
    assert start is not None
    run.paths.jobs.mkdir()
    desk = Desk(str(run.paths.jobs), "worker", str(run.root), 1, (os.getpid(), start))
    files = [desk.put(g + 1, task(run, Stage.SCORING, (g,))) for g in range(n_groups)]
    monkeypatch.setattr(Desk, "is_needed", lambda self: any(f.exists() for f in files))
    loaded = []

    def load(*arguments: Any) -> Any:
        loaded.append(arguments)
        return load_run_classifier(*arguments)

    monkeypatch.setattr(local_worker, "load_run_classifier", load)
    serve(desk)
    assert not any(f.exists() for f in files)
    assert all(run.slides["a"].files.group_scores(g).exists() for g in range(n_groups))
    assert len(loaded) == 1


def test_a_worker_without_work_loads_the_model_as_long_as_it_is_needed(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(str(run.root), "worker", str(run.root), 1, (0, 0.0))
    loaded: list[Any] = []
    monkeypatch.setattr(local_worker, "load_run_classifier", lambda *a: loaded.append(a))
    serve(desk)
    assert len(loaded) == 1
    run.slides["a"].files.root.mkdir(parents=True)
    run.slides["a"].files.slide_scores.touch()
    serve(desk)
    assert len(loaded) == 1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux forgets a peak")
def test_the_peak_of_a_task_is_its_own() -> None:
    from hpc_heatmap.stages.task import peak_memory_bytes, reset_peak_memory

    large = bytearray(b"x" * 200_000_000)
    del large
    before = peak_memory_bytes()
    reset_peak_memory()
    assert peak_memory_bytes() < before - 100_000_000


def test_no_more_workers_than_groups_there_can_be(run: Run) -> None:
    perform(task(run, Stage.GROUPING))
    n_groups = read_summary(run.slides["a"].files.summary).n_groups
    assert n_groups <= run.file.most_groups() <= n_groups + 1
