"""The call that is pickled for a cluster, when its job is told to stop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from runs.support import make_model, make_slide

from hpc_heatmap import Run, RunSettings, start_run
from hpc_heatmap.schedulers.cluster import Work
from hpc_heatmap.stages import scoring
from hpc_heatmap.stages.task import Stage, Task, perform


@pytest.fixture
def run(tmp_path: Path) -> Run:
    settings = RunSettings(stride=8, patches_per_group=16)
    slide = make_slide(tmp_path / "a.tif", 260, 230)
    run = start_run([slide], make_model(tmp_path), tmp_path / "RUN", settings=settings)
    perform(Task(str(run.root), Stage.GROUPING, "a"))
    return run


def test_work_returns_when_it_is_done(run: Run) -> None:
    Work(Task(str(run.root), Stage.SCORING, "a", (0,)))()
    assert run.paths.slide("a").group_scores(0).exists()


@pytest.mark.parametrize("lost", [True, False])
def test_a_job_that_was_told_to_stop_never_looks_done(
    run: Run, monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    """Whether what the signal handler raised reaches the task's end, or is lost on the way."""
    work = Work(Task(str(run.root), Stage.SCORING, "a", (0,)))
    score = scoring.score_group

    def interrupted(*arguments: Any) -> Any:
        work.checkpoint()
        if not lost:
            raise SystemExit(-1)
        return score(*arguments)

    monkeypatch.setattr(scoring, "score_group", interrupted)
    with pytest.raises(SystemExit):
        work()
    assert not run.paths.failures.exists()
    # The job comes back from the queue, with a new life.
    monkeypatch.setattr(scoring, "score_group", score)
    again = work.checkpoint().function
    again()
    assert run.paths.slide("a").group_scores(0).exists()
