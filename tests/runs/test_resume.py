"""Status is derived from files; deleting a result and resuming makes the same bytes again."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from runs.support import (
    darkness,
    drafts,
    finish,
    function_run,
    make_slide,
    results,
    score_stamps,
    scored_groups,
    unpack_scores,
)

import hpc_heatmap
from hpc_heatmap import FunctionClassifier, Run
from hpc_heatmap.errors import Interrupted, ModelError
from hpc_heatmap.formats.slide_summary import read_summary
from hpc_heatmap.formats.task_files import Failure, read_records, write_failure
from hpc_heatmap.runs import master
from hpc_heatmap.runs.lease import Lease
from hpc_heatmap.runs.status import State, next_stage
from hpc_heatmap.schedulers import Job
from hpc_heatmap.schedulers.in_process import InProcessScheduler
from hpc_heatmap.schedulers.packing import pack_groups
from hpc_heatmap.stages.task import Stage

RESULTS = (
    "grid.png", "lookup.h5", "summary.json", "heatmap.h5", "overview.png", "lesions.csv",
    "lesions.geojson",
)  # fmt: skip


class Done:
    """A finished run of two slides, and what is in it."""

    def __init__(self, folder: Path) -> None:
        self.slides = [make_slide(folder / "a.tif"), make_slide(folder / "b.tif", 300, 330)]
        self.run = function_run(self.slides, folder / "RUN")
        assert finish(self.run).state is State.DONE
        self.results = results(self.run.paths, pixels=True)
        self.n_groups = read_summary(self.run.paths.slide("a").summary).n_groups
        assert self.n_groups >= 4

    def copy(self, folder: Path) -> Run:
        shutil.copytree(self.run.root, folder / "RUN", symlinks=True)
        return hpc_heatmap.open_run(folder / "RUN")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    return Done(tmp_path_factory.mktemp("resume"))


@pytest.fixture
def run(done: Done, tmp_path: Path) -> Run:
    return done.copy(tmp_path)


def stages_done(run: Run, before: int) -> list[tuple[str, str]]:
    """Stage and slide of the tasks after the first ones."""
    return [(r.stage, r.slide) for r in read_records(run.paths)[before:]]


def test_a_new_run_is_planned_and_a_finished_one_done(done: Done, tmp_path: Path) -> None:
    planned = function_run(done.slides, tmp_path / "RUN")
    assert planned.status().state is State.PLANNED
    assert {s.state for s in planned.status().slides.values()} == {State.PLANNED}
    assert planned.status().as_dict()["slides"]["a"]["groups"] == 0
    status = done.run.status()
    assert status.state is State.DONE and status.n_done == 2 and status.master is None
    slide = status.as_dict()["slides"]["a"]
    assert slide["groups"] == slide["groups_done"] == done.n_groups
    assert slide["failures"] == [] and slide["state"] == "done"


def test_a_run_with_a_master_is_running(run: Run) -> None:
    run.paths.slide("a").heatmap.unlink()
    with Lease(run.paths.master):
        status = run.status()
        assert status.state is State.RUNNING and status.master is not None
        assert status.slides["a"].state is State.RUNNING
        assert status.slides["b"].state is State.DONE
    assert run.status().state is State.PLANNED


def test_a_failure_makes_a_run_failed_until_it_is_tried_again(run: Run) -> None:
    run.paths.slide("a").heatmap.unlink()
    why = Failure("stitching", "a", None, "There was a reason.", "WorkError", "slide", "log")
    write_failure(run.paths, why)
    status = run.status().as_dict()
    assert status["state"] == "failed" and status["slides"]["a"]["state"] == "failed"
    assert status["slides"]["a"]["failures"] == [
        {"stage": "stitching", "group": None, "reason": "There was a reason.", "log": "log"}
    ]
    assert finish(run).state is State.DONE
    assert list(run.paths.failures.iterdir()) == []


def test_a_planned_run_can_be_cancelled_and_resumed(done: Done, tmp_path: Path) -> None:
    run = function_run(done.slides, tmp_path / "RUN")
    run.cancel()
    assert run.status().state is State.CANCELLED
    assert {s.state for s in run.status().slides.values()} == {State.CANCELLED}
    assert finish(run).state is State.DONE
    assert not run.paths.cancelled.exists()


def test_cancelling_a_run_that_is_done_changes_nothing(run: Run) -> None:
    run.cancel()
    assert run.status().state is State.DONE


def test_cancel_while_running_keeps_what_is_done(done: Done, tmp_path: Path) -> None:
    run = function_run(done.slides, tmp_path / "RUN")

    def cancel_once_scored(_: object) -> None:
        if len(scored_groups(run.paths)) >= 2:
            run.paths.cancelled.touch()

    model = FunctionClassifier(_slow_darkness, 32)
    with pytest.raises(Interrupted, match="cancelled"):
        run.resume(model=model, on_status=cancel_once_scored)
    assert run.status().state is State.CANCELLED
    complete, n_records = scored_groups(run.paths), len(read_records(run.paths))
    assert len(complete) >= 2 and drafts(run.root) == []
    assert not run.paths.failures.exists()
    assert finish(run).state is State.DONE
    again = {(r.slide, g) for r in read_records(run.paths)[n_records:] for g in r.groups}
    assert again and not again & complete
    assert results(run.paths, pixels=True) == done.results


def _slow_darkness(windows: Any) -> Any:
    import time

    time.sleep(0.03)
    return darkness(windows)


def test_a_function_is_needed_again(run: Run) -> None:
    with pytest.raises(ModelError, match="Python function"):
        run.resume()


def test_what_tasks_leave_is_put_away_while_the_run_goes_on(
    done: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(master, "_PACKED_SLIDES", 1)
    monkeypatch.setattr(master, "_SETTLED_S", 0.0)
    run = function_run(done.slides, tmp_path / "RUN")
    cleared = []

    def clear(self: InProcessScheduler, jobs: list[Job]) -> None:
        cleared.append((len(jobs), sorted(f.name for f in run.paths.tasks.glob("*.jsonl"))))

    monkeypatch.setattr(InProcessScheduler, "clear", clear)
    assert finish(run).state is State.DONE
    (first, packed), *_, (_, at_the_end) = cleared
    assert first >= 3 and packed == ["a.jsonl"] and at_the_end == ["a.jsonl", "b.jsonl"]
    assert sum(n for n, _ in cleared) == len(read_records(run.paths)) >= 6
    assert sorted(f.name for f in run.paths.tasks.iterdir()) == at_the_end


def test_resuming_a_run_that_is_done_does_nothing(done: Done, run: Run) -> None:
    n_records, stamps = len(read_records(run.paths)), score_stamps(run.paths)
    assert finish(run).state is State.DONE
    assert len(read_records(run.paths)) == n_records
    assert score_stamps(run.paths) == stamps


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_that_is_deleted_is_made_again(done: Done, run: Run, name: str) -> None:
    n_records, stamps = len(read_records(run.paths)), score_stamps(run.paths)
    (run.paths.slide("a").root / name).unlink()
    assert run.status().state is State.PLANNED
    assert run.status().slides["b"].state is State.DONE
    assert finish(run).state is State.DONE
    assert results(run.paths, pixels=True) == done.results
    assert score_stamps(run.paths) == stamps
    stage = "grouping" if name in {"grid.png", "lookup.h5", "summary.json"} else "stitching"
    assert stages_done(run, n_records) == [(stage, "a")]


def test_all_scores_of_a_slide_are_made_again_where_their_file_is_gone(
    done: Done, run: Run
) -> None:
    n_records = len(read_records(run.paths))
    run.paths.slide("a").slide_scores.unlink()
    assert run.status().slides["a"].groups_done == 0
    finish(run)
    assert results(run.paths, pixels=True) == done.results
    assert stages_done(run, n_records) == [("scoring", "a")]


def test_one_score_file_is_made_again_alone(done: Done, run: Run) -> None:
    files = run.paths.slide("a")
    unpack_scores(files)
    files.overview.unlink()
    n_records = len(read_records(run.paths))
    files.group_scores(2).unlink()
    assert run.status().slides["a"].groups_done == done.n_groups - 1
    finish(run)
    assert results(run.paths, pixels=True) == done.results
    assert stages_done(run, n_records) == [("scoring", "a"), ("stitching", "a")]
    assert read_records(run.paths)[n_records].groups == [2]


def test_pixels_may_be_deleted_once_the_slide_is_done(done: Done, run: Run) -> None:
    n_records = len(read_records(run.paths))
    for slide_id in ("a", "b"):
        run.paths.slide(slide_id).groups.unlink()
    assert run.status().state is State.DONE
    assert finish(run).state is State.DONE
    assert not run.paths.slide("a").groups.exists() and stages_done(run, n_records) == []
    # The heatmap comes back without them, a score does not.
    run.paths.slide("a").heatmap.unlink()
    finish(run)
    assert stages_done(run, n_records) == [("stitching", "a")]
    run.paths.slide("b").slide_scores.unlink()
    run.paths.slide("b").heatmap.unlink()
    finish(run)
    stages = [stage for stage, _ in stages_done(run, n_records + 1)]
    assert stages == ["grouping", "scoring", "stitching"]
    assert results(run.paths) == {n: v for n, v in done.results.items() if "groups.h5" not in n}


def test_the_next_stage_is_seen_from_the_files(run: Run, tmp_path: Path) -> None:
    files = run.paths.slide("a")
    assert next_stage(files) is None
    files.lesions_csv.unlink()
    assert next_stage(files) is Stage.STITCHING
    unpack_scores(files)
    assert next_stage(files) is Stage.STITCHING
    files.group_scores(0).unlink()
    assert next_stage(files) is Stage.SCORING
    files.groups.unlink()
    assert next_stage(files) is Stage.GROUPING
    assert next_stage(run.paths.slide("unheard-of")) is Stage.GROUPING


@st.composite
def _deletions(draw: Any) -> list[str]:
    names = [*RESULTS, "groups.h5", "scores.h5"]
    chosen = draw(st.lists(st.sampled_from(names), unique=True))
    return [f"{draw(st.sampled_from('ab'))}/{name}" for name in chosen]


@pytest.fixture(scope="module")
def battered(done: Done, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    yield done.copy(tmp_path_factory.mktemp("battered"))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(deleted=_deletions())
def test_whatever_is_deleted_comes_back(done: Done, battered: Run, deleted: list[str]) -> None:
    there = [name for name in deleted if (battered.root / "slides" / name).exists()]
    for name in there:
        (battered.root / "slides" / name).unlink()
    if any(name.split("/", 1)[1] != "groups.h5" for name in there):
        assert battered.status().state is State.PLANNED
    assert finish(battered).state is State.DONE
    pixels_kept = {n: v for n, v in done.results.items() if not n.endswith("groups.h5")}
    assert results(battered.paths) == pixels_kept
    for name, value in results(battered.paths, pixels=True).items():
        assert value == done.results[name]


def test_a_slide_that_cannot_be_used_fails_and_the_others_are_done(
    done: Done, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.tif"
    bad.write_bytes(b"no slide")
    run = function_run([*done.slides, bad], tmp_path / "RUN")
    status = finish(run)
    assert status.state is State.FAILED and status.n_done == 2
    assert status.slides["bad"].state is State.FAILED
    assert "bad.tif" in status.slides["bad"].failures[0].reason


@given(
    n_groups=st.integers(0, 400),
    group_s=st.floats(1e-3, 1e3),
    task_s=st.floats(1, 600),
    slots=st.integers(1, 64),
    light=st.booleans(),
)
def test_tasks_cover_each_group_once(
    n_groups: int, group_s: float, task_s: float, slots: int, light: bool
) -> None:
    packs = list(pack_groups(n_groups, group_s, task_s, slots, light=light))
    assert [g for start, stop in packs for g in range(start, stop)] == list(range(n_groups))
    sizes = [stop - start for start, stop in packs]
    # The last ones are the short ones.
    assert all(later <= earlier + 1 for earlier, later in pairwise(sizes))
    # At most as long as asked, where one group is not longer already.
    assert max(sizes, default=0) * group_s <= max(task_s, group_s) * (1 + 1e-9)
    # Every slot has something to do.
    assert len(packs) >= min(slots, n_groups)


def test_light_tasks_leave_little_to_wait_for() -> None:
    sizes = [b - a for a, b in pack_groups(100, 2.0, 600, 2, light=True)]
    assert sizes[0] == 25 and sizes[-1] == 1
    assert [b - a for a, b in pack_groups(100, 2.0, 600, 2)] == [50, 37, 13]
    # Never shorter than a second, however many groups that takes.
    assert min(b - a for a, b in list(pack_groups(10_000, 0.01, 600, 2, light=True))[:-1]) == 100
