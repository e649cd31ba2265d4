"""Against a running cell of Grid Engine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
import submitit
from submitit.core.utils import DelayedSubmission, FailedSubmissionError

from submitit_sge import SgeExecutor, SgeJob
from submitit_sge.executor import read_max_tasks

# Jobs cannot import this file.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


def double(x: int) -> int:
    return 2 * x


def wait_and_tell(seconds: float) -> tuple[float, float]:
    start = time.time()
    time.sleep(seconds)
    return start, time.time()


def touch_and_sleep(path: Path) -> None:
    path.write_text(str(os.getpid()))
    time.sleep(100)


def wait_until(true: Callable[[], Any], patience_s: float = 60) -> None:
    end = time.time() + patience_s
    while not true():
        assert time.time() < end, "waited in vain"
        time.sleep(0.2)


def state_after_the_end(job: submitit.Job[Any]) -> str:
    wait_until(lambda: job.watcher.is_done(job.job_id, mode="force"))
    return job.state


class Steps:
    """Takes a step a run, and saves itself when a signal says so."""

    def __init__(self, folder: Path, steps: int = 0) -> None:
        self.folder, self.steps = folder, steps

    def __call__(self) -> int:
        (self.folder / f"step-{self.steps}").touch()
        if self.steps == 0:
            time.sleep(100)
        return self.steps

    def checkpoint(self) -> DelayedSubmission:
        return DelayedSubmission(Steps(self.folder, self.steps + 1))


def test_one_job(executor: SgeExecutor) -> None:
    job = executor.submit(double, 21)
    assert job.result() == 42
    assert state_after_the_end(job) == "COMPLETED"
    info = job.get_info(mode="cache")
    assert (info["exit_status"], info["failed"]) == ("0", "0")
    assert {"maxvmem", "ru_wallclock", "hostname"} <= set(info)
    assert "JobEnvironment(job_id=" + job.job_id in (job.stdout() or "")
    assert not list(job.paths.folder.glob(".*"))


def test_exceptions_come_back_with_their_traceback(executor: SgeExecutor) -> None:
    def fail() -> None:
        raise ZeroDivisionError("the very reason")

    job = executor.submit(fail)
    with pytest.raises(submitit.core.utils.FailedJobError, match="the very reason") as caught:
        job.result()
    assert "in fail" in str(caught.value)
    assert state_after_the_end(job) == "FAILED"


def test_what_a_job_knows_about_itself(executor: SgeExecutor) -> None:
    def tell() -> tuple[Any, ...]:
        env = submitit.JobEnvironment()
        assert isinstance(env.slots, int)  # type: ignore[attr-defined]
        return type(env).__name__, env.job_id, env.array_job_id, env.num_tasks, env.num_nodes

    single = executor.submit(tell)
    array = executor.map_array(lambda _: tell(), range(2))
    assert single.result() == ("SgeJobEnvironment", single.job_id, None, 1, 1)
    number = array[0].job_id.split("_")[0]
    assert [j.job_id for j in array] == [f"{number}_0", f"{number}_1"]
    assert [j.result()[1:3] for j in array] == [(f"{number}_{i}", number) for i in range(2)]


def test_parameters_reach_the_job(executor: SgeExecutor) -> None:
    environments = subprocess.run(["qconf", "-spl"], capture_output=True, text=True).stdout.split()
    if "thread" not in environments:
        pytest.skip("the cell has no parallel environment named thread")
    executor.update_parameters(
        cpus_per_task=2,
        pe="thread",
        setup=["export GREETING='good day'", "echo to stderr >&2"],
        stderr_to_stdout=True,
    )
    job = executor.submit(lambda: (os.environ["NSLOTS"], os.environ["GREETING"]))
    assert job.result() == ("2", "good day")
    assert "to stderr" in (job.stdout() or "")
    assert job.stderr() is None


def test_environment_goes_along_on_request(
    executor: SgeExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OF_THE_SUBMITTER", "here")
    without = executor.submit(lambda: os.environ.get("OF_THE_SUBMITTER"))
    executor.update_parameters(export_env=True)
    along = executor.submit(lambda: os.environ.get("OF_THE_SUBMITTER"))
    assert (without.result(), along.result()) == (None, "here")


@pytest.mark.parametrize("name", ["a b's", 'é,:$HOME"`id`', "%A/%j"])
def test_folders_of_any_name(cell: None, tmp_path: Path, name: str) -> None:
    executor = SgeExecutor(tmp_path / name)
    jobs = executor.map_array(double, range(2))
    assert [j.result() for j in jobs] == [0, 2]
    assert "Job completed" in (jobs[1].stdout() or "") + (jobs[1].stderr() or "")
    assert jobs[1].paths.submission_file.parent.parent.exists()


def test_auto_executor(cell: None, tmp_path: Path) -> None:
    executor = submitit.AutoExecutor(tmp_path, cluster="sge", sge_max_num_timeout=1)
    executor.update_parameters(
        timeout_min=2, mem_gb=0.5, nodes=1, name="auto", sge_memory_resource="mem_free"
    )
    executor.update_parameters(sge_array_parallelism=2, slurm_partition="ignored")
    assert executor._executor.parameters["tc"] == 2
    with executor.batch():
        jobs = [executor.submit(double, i) for i in range(3)]
    assert [j.result() for j in jobs] == [0, 2, 4]
    assert len({j.job_id.split("_")[0] for j in jobs}) == 1


def test_unknown_parameters_are_refused(cell: None, tmp_path: Path) -> None:
    executor = SgeExecutor(tmp_path)
    with pytest.raises(ValueError, match=r"(?s)partition.*Valid are.*queue"):
        executor.update_parameters(partition="long")
    with pytest.raises(ValueError, match="parallel environment"):
        executor.update_parameters(cpus_per_task=4)
    assert executor.parameters == {}


def test_a_refused_submission_leaves_nothing(executor: SgeExecutor) -> None:
    executor.update_parameters(queue="no-such.q")
    for submit in (lambda: executor.submit(double, 1), lambda: executor.map_array(double, [1, 2])):
        with pytest.raises(FailedSubmissionError, match=r'unknown queue "no-such\.q"'):
            submit()
    assert list(executor.folder.iterdir()) == []


def test_what_cannot_be_pickled_leaves_nothing(executor: SgeExecutor) -> None:
    with pytest.raises(TypeError):
        executor.map_array(double, [1, threading.Lock()])  # type: ignore[list-item]
    executor.max_pickle_size_gb = 1e-9
    with pytest.raises(RuntimeError, match="max_pickle_size_gb"):
        executor.submit(double, 1)
    assert list(executor.folder.iterdir()) == []


def test_a_refusal_midway_takes_back_what_was_submitted(
    executor: SgeExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("submitit_sge.executor.read_max_tasks", lambda: 2)
    submit, numbers = executor._qsub, []

    def refuse_the_second(*arguments: Any) -> str:
        if numbers:
            executor.update_parameters(queue="no-such.q")
            arguments = (arguments[0], executor._read_parameters(), *arguments[2:])
        numbers.append(submit(*arguments))
        return numbers[-1]

    monkeypatch.setattr(executor, "_qsub", refuse_the_second)
    executor.update_parameters(extra=["-h"])
    with pytest.raises(FailedSubmissionError, match="no-such"):
        executor.map_array(double, range(4))
    (number,) = numbers
    assert not list(executor.folder.glob("*.pkl"))
    wait_until(lambda: subprocess.run(["qstat", "-j", number], capture_output=True).returncode)


@pytest.mark.slow
def test_array_with_limited_parallelism(executor: SgeExecutor) -> None:
    executor.update_parameters(array_parallelism=2)
    jobs = executor.map_array(wait_and_tell, [1.0] * 12)
    spans = [j.result() for j in jobs]
    changes = sorted([(s, 1) for s, _ in spans] + [(e, -1) for _, e in spans])
    running = most = 0
    for _, change in changes:
        running += change
        most = max(most, running)
    assert 1 <= most <= 2
    (number,) = {j.job_id.split("_")[0] for j in jobs}
    assert [j.job_id for j in jobs] == [f"{number}_{i}" for i in range(12)]
    assert {state_after_the_end(j) for j in jobs} == {"COMPLETED"}
    said = subprocess.run(["qacct", "-j", number], capture_output=True, text=True).stdout
    assert said.count("jobnumber") == 12


@pytest.mark.slow
@pytest.mark.parametrize("tc", [None, 3])
def test_array_larger_than_the_cell_allows(executor: SgeExecutor, tc: int | None) -> None:
    limit = read_max_tasks()
    if limit > 100:
        pytest.skip(f"the cell allows arrays of {limit} tasks: too many to exceed")
    count = 2 * limit + 20 if tc is None else limit + 3
    executor.update_parameters(timeout_min=5, **({} if tc is None else {"tc": tc}))
    jobs = executor.map_array(wait_and_tell, [0.0] * count)
    numbers = list(dict.fromkeys(j.job_id.split("_")[0] for j in jobs))
    assert len(numbers) == -(-count // limit)
    assert [j.job_id for j in jobs] == [f"{numbers[i // limit]}_{i % limit}" for i in range(count)]
    spans = [j.result() for j in jobs]
    if tc is not None:  # the second array waits for the first
        assert max(end for _, end in spans[:limit]) <= min(start for start, _ in spans[limit:])


@pytest.mark.slow
def test_running_and_pending_tasks_are_cancelled(executor: SgeExecutor, tmp_path: Path) -> None:
    executor.update_parameters(tc=1)
    jobs = executor.map_array(touch_and_sleep, [tmp_path / f"{i}" for i in range(4)])
    wait_until((tmp_path / "0").exists)
    assert (jobs[0].state, jobs[1].get_info()["State"]) == ("RUNNING", "PENDING")
    jobs[1].cancel()
    SgeJob.cancel_all([jobs[0], jobs[3]])
    assert {state_after_the_end(jobs[i]) for i in (0, 1, 3)} == {"CANCELLED"}
    assert jobs[0].get_info(mode="cache")["exit_status"].startswith("137")
    wait_until((tmp_path / "2").exists)
    jobs[2].cancel()
    assert state_after_the_end(jobs[2]) == "CANCELLED"
    for job in jobs:
        job.cancel()  # what is over is no refusal
    assert not (tmp_path / "1").exists()


@pytest.mark.slow
def test_deleted_by_somebody_else_while_pending(
    executor: SgeExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SgeJob.watcher, "lost_s", 3.0)
    executor.update_parameters(extra=["-h"])
    job = executor.submit(double, 1)
    assert job.get_info()["sge_state"] == "hqw"
    subprocess.run(["qdel", job.job_id], check=True, capture_output=True)
    assert state_after_the_end(job) == "CANCELLED"
    assert job.get_info(mode="cache")["reason"].startswith("vanished")


@pytest.mark.slow
def test_a_killed_worker_does_not_hang_the_waiter(
    executor: SgeExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SgeJob, "_results_timeout_s", 1)
    job = executor.submit(touch_and_sleep, tmp_path / "pid")
    wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    with pytest.raises(submitit.core.utils.UncompletedJobError, match="state: FAILED"):
        job.result()
    assert job.get_info(mode="cache")["exit_status"].startswith("137")


@pytest.mark.slow
def test_time_limit(executor: SgeExecutor, tmp_path: Path) -> None:
    executor.update_parameters(h_rt=4)
    job = executor.submit(touch_and_sleep, tmp_path / "pid")
    assert state_after_the_end(job) == "TIMEOUT"


@pytest.mark.slow
def test_checkpoint_before_the_time_limit(executor: SgeExecutor, tmp_path: Path) -> None:
    executor.update_parameters(h_rt=40, signal_delay_s=35)
    array = executor.submit_array([Steps(tmp_path), lambda: time.sleep(100)])
    assert array[0].result() == 1
    assert (tmp_path / "step-1").exists()
    with pytest.raises(
        submitit.core.utils.FailedJobError, match="timed-out and not checkpointable"
    ):
        array[1].result()
    wait_until(lambda: array[0].get_info()["State"] == "COMPLETED")


@pytest.mark.slow
def test_rescheduled_with_notice(executor: SgeExecutor, tmp_path: Path) -> None:
    executor.update_parameters(rerunnable=True, notify=True)
    job = executor.submit(Steps(tmp_path))
    wait_until((tmp_path / "step-0").exists)
    time.sleep(1)
    job._interrupt()  # type: ignore[attr-defined]
    assert job.result() == 1


@pytest.mark.slow
def test_a_job_in_an_error_state_has_failed(executor: SgeExecutor) -> None:
    executor.update_parameters(extra=["-wd", "/no/such/folder"])
    job = executor.submit(double, 1)
    assert state_after_the_end(job) == "FAILED"
    info = job.get_info(mode="cache")
    assert info["sge_state"] == "Eqw"
    assert "/no/such/folder" in info["reason"]
    job.cancel()


@pytest.mark.slow
def test_jobs_wait_for_others(executor: SgeExecutor) -> None:
    first = executor.map_array(wait_and_tell, [1.0, 1.0])
    executor.update_parameters(hold_jid=[j.job_id for j in first])
    last = executor.submit(wait_and_tell, 0.0)
    ends = [j.result()[1] for j in first] + [last.result()[0]]
    assert all(earlier <= ends[-1] for earlier, _ in pairwise(ends))


def test_one_qstat_for_all(executor: SgeExecutor) -> None:
    executor.update_parameters(extra=["-h"])
    jobs = executor.map_array(double, range(5))
    watcher = type(SgeJob.watcher)()
    for job in jobs:
        watcher.register_job(job.job_id)
    watcher.update()
    assert {watcher.get_state(j.job_id, mode="cache") for j in jobs} == {"PENDING"}
    assert watcher.num_calls == 1


def test_a_silent_master_changes_no_state(
    executor: SgeExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor.update_parameters(extra=["-h"])
    job = executor.submit(double, 1)
    assert job.get_info()["State"] == "PENDING"
    with monkeypatch.context() as patch:
        patch.setenv("SGE_QMASTER_PORT", "1")
        assert job.get_info()["State"] == "PENDING"
    assert job.get_info()["State"] == "PENDING"
