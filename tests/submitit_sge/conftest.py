"""A real cell, or nothing: what Grid Engine does is not imitated here."""

from __future__ import annotations

import shutil
import signal
import subprocess
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
import submitit

from submitit_sge import SgeExecutor

LIMIT_S = 150  # a test that takes longer hangs


@pytest.fixture(autouse=True)
def _bounded() -> Iterator[None]:
    def stop(signum: int, frame: types.FrameType | None) -> None:
        raise TimeoutError(f"stopped after {LIMIT_S} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(LIMIT_S)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="session")
def cell() -> None:
    """Skip where no Grid Engine answers."""
    if not shutil.which("qsub") or not shutil.which("qconf"):
        pytest.skip("no Grid Engine: qsub and qconf are not on PATH")
    try:
        subprocess.run(["qconf", "-sconf"], check=True, capture_output=True, timeout=20)
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"Grid Engine does not answer: {error}")


@pytest.fixture
def executor(cell: None, tmp_path: Path) -> Iterator[SgeExecutor]:
    """An executor whose jobs are deleted at the end, whatever became of the test."""
    executor = SgeExecutor(tmp_path / "jobs")
    executor.update_parameters(timeout_min=2, name="submitit_sge-tests")
    jobs: list[submitit.Job[object]] = []
    process = executor._internal_process_submissions

    def remember(submissions: list[submitit.core.utils.DelayedSubmission]) -> list[object]:
        new = process(submissions)
        jobs.extend(new)
        return list(new)

    executor._internal_process_submissions = remember  # type: ignore[method-assign,assignment]
    yield executor
    executor.job_class.cancel_all([j for j in jobs if not j.done()], check=False)
