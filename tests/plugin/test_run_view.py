"""What the Monitor says of runs, the memory of runs, commands of the engine: no window."""

from __future__ import annotations

from pathlib import Path

import pytest
from runs.support import finish, function_run, make_slide, unpack_scores

from hpc_heatmap.errors import RunConflictError
from hpc_heatmap.runs.lease import Lease
from hpc_heatmap.runs.status import State
from napari_hpc_heatmap._engine_command import CommandError, Request, run_command
from napari_hpc_heatmap._recent_runs import RecentRuns
from napari_hpc_heatmap._run_view import RunWatch, in_words


def test_a_run_from_its_plan_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = tmp_path / "bad.svs"
    bad.write_bytes(b"no slide")
    run = function_run([make_slide(tmp_path / "a.tif"), bad], tmp_path / "RUN")
    watch = RunWatch(run.root)
    view = watch.look()
    assert [row.state for row in view.slides] == [State.PLANNED, State.FAILED]
    assert "OpenSlide" in view.slides[1].reason
    assert (view.n_done, view.n_failed, view.share, view.left_s) == (0, 1, 0.0, None)

    finish(run)
    run.paths.master_log.write_text("x" * 20_000 + "the end\n")
    view = watch.look()
    assert [(s.done, s.total, s.unit) for s in view.stages] == [
        (1, 1, "slides"),
        (view.slides[0].groups, view.slides[0].groups, "groups"),
        (1, 1, "slides"),
    ]
    assert view.sentence == "failed, 1 of 2 slides done, 1 failed"
    assert view.log.endswith("the end\n") and len(view.log) == 8192

    # While a master works, what is left is told from what was scored since.
    scores = unpack_scores(run.slides["a"].files)
    kept = {path: path.read_bytes() for path in scores[1:]}
    assert len(kept) > 2
    for path in kept:
        path.unlink()
    run.slides["a"].files.heatmap.unlink()
    now = [1000.0]
    monkeypatch.setattr("napari_hpc_heatmap._run_view.time.monotonic", lambda: now[0])
    with Lease(run.paths.master):
        view = watch.look()
        assert (view.state, view.left_s) == (State.RUNNING, None)
        first = next(iter(kept))
        first.write_bytes(kept[first])
        now[0] += 10
        left_s = watch.look().left_s
    assert left_s == pytest.approx(10 * (len(scores) - 2), rel=0.01)


def test_no_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(RunConflictError, match="no run directory"):
        RunWatch(tmp_path).look()


def test_durations_in_words() -> None:
    assert [in_words(s) for s in (0.2, 40, 720, 5400, 12_600)] == [
        "1 s",
        "40 s",
        "12 min",
        "1.5 h",
        "3.5 h",
    ]


def test_runs_are_remembered_the_latest_first(tmp_path: Path) -> None:
    runs = RecentRuns(tmp_path / "config" / "runs.json")
    assert runs.paths() == []
    for name in ("a", "b", "a"):
        runs.add(tmp_path / name)
    assert RecentRuns(runs.file).paths() == [tmp_path / "a", tmp_path / "b"]
    runs.forget(tmp_path / "a")
    assert runs.paths() == [tmp_path / "b"]
    runs.file.write_text("{")
    assert runs.paths() == []
    # A place that cannot be written costs the memory alone.
    blocked = RecentRuns(runs.file / "runs.json")
    blocked.add(tmp_path)
    assert blocked.paths() == []


def test_what_the_engine_refuses_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"is no run directory") as refused:
        run_command(["status", str(tmp_path)])
    assert "\n" not in str(refused.value) and "hpc-heatmap:" not in str(refused.value)
    assert "usage" in run_command(["--help"]).lower()


def test_a_request_is_the_commands_own_arguments() -> None:
    options = (("group_memory", "16"), ("cluster", "slurm"))
    asked = Request(("a.svs", "b"), "m.pt2", options)
    expected = ["a.svs", "b", "--model=m.pt2", "--group-memory=16", "--cluster=slurm"]
    assert asked.arguments() == expected
    assert asked.problem == ""
    assert "slides" in Request((), "m").problem and "model" in Request(("a",), "").problem
