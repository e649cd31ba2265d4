"""What Slurm 22.05.8 and Son of Grid Engine 8.1.9 really said, read by their schedulers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from hpc_heatmap.schedulers import cluster, sge, slurm
from hpc_heatmap.settings import Cluster, ClusterProfile

CONFIG = """\
Configuration data as of 2026-11-23T07:27:54
AccountingStorageType   = accounting_storage/slurmdbd
MaxArraySize            = 50
MaxJobCount             = 5000
"""
SINFO = "n1 2\nn1 2\nn2 2\nn2 2\nn3 16\nn4 8\n"
SQUEUE = "41_0\n41_1\n41_17\n54\n"
SACCT = "FAILED|9:0|n1\n"
SACCT_REQUEUED = "NODE_FAIL|0:0|n2\nCANCELLED by 0|0:0|n3\n"
SCONTROL = """\
JobId=41 JobName=heatmap-830f37fa49
   JobState=FAILED Reason=NonZeroExitCode Dependency=(null)
   Requeue=1 Restarts=0 BatchFlag=1 Reboot=0 ExitCode=9:0
   NodeList=n1
   BatchHost=n1
"""
QHOST = """\
HOSTNAME                ARCH         NCPU NSOC NCOR NTHR  LOAD  MEMTOT  MEMUSE  SWAPTO  SWAPUS
----------------------------------------------------------------------------------------------
global                  -               -    -    -    -     -       -       -       -       -
node1                   lx-amd64        8    1    8    8  1.07   23.5G  615.8M     0.0     0.0
node2                   lx-amd64       16    2   16   16  0.02   62.8G    1.2G     0.0     0.0
"""
JOB = """\
    <job_list state="{where}">
      <JB_job_number>{number}</JB_job_number>
      <JAT_prio>0.55500</JAT_prio>
      <JB_name>{name}</JB_name>
      <JB_owner>me</JB_owner>
      <state>{state}</state>
      <queue_name></queue_name>
      <slots>1</slots>{tasks}
    </job_list>
"""
QACCT = """\
==============================================================
jobname      heatmap-830f37fa49
jobnumber    153
taskid       1
slots        1
failed       100 : assumedly after job
exit_status  137                  (Killed)
ru_wallclock 6s
"""

Answers = Callable[[dict[str, str | None]], list[list[str]]]


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    """Let commands answer as given, by their first word; gives the commands that were asked."""
    asked: list[list[str]] = []

    def give(said: dict[str, str | None]) -> list[list[str]]:
        def ask(command: Sequence[str]) -> str | None:
            asked.append(list(command))
            return said.get(command[0])

        for module in (slurm, sge):
            monkeypatch.setattr(module, "ask", ask)
        return asked

    monkeypatch.setattr(slurm.SlurmScheduler, "commands", ())
    monkeypatch.setattr(sge.SgeScheduler, "commands", ())
    monkeypatch.setattr(sge, "read_max_tasks", lambda: 75_000)
    return give


def make_slurm(tmp_path: Path, **keys: Any) -> slurm.SlurmScheduler:
    return slurm.SlurmScheduler(tmp_path / "jobs", "session", ClusterProfile(**keys))


def make_sge(tmp_path: Path, **keys: Any) -> sge.SgeScheduler:
    profile = ClusterProfile(cluster=Cluster.SGE, **keys)
    return sge.SgeScheduler(tmp_path / "jobs", "session", profile)


def test_slurms_limits_and_nodes(answers: Answers, tmp_path: Path) -> None:
    asked = answers({"scontrol": CONFIG, "sinfo": SINFO})
    scheduler = make_slurm(tmp_path, partition="main")
    assert scheduler.max_array == 50
    # All but one core of the smallest node; each node is listed once a partition.
    assert scheduler.threads == 1 and scheduler.parallel() == 2 + 2 + 16 + 8
    assert make_slurm(tmp_path, cores_per_task=8).parallel() == 3
    assert make_slurm(tmp_path, cores_per_task=8, throttle=2).parallel() == 2
    assert make_slurm(tmp_path, max_array=20).max_array == 20
    assert "--partition=main" in next(command for command in asked if command[0] == "sinfo")


def test_slurm_that_is_silent(answers: Answers, tmp_path: Path) -> None:
    answers({})
    scheduler = make_slurm(tmp_path, max_queued=5000)
    assert (scheduler.max_array, scheduler.threads, scheduler.parallel()) == (1001, 1, 1)
    assert scheduler.list_live() is None
    assert scheduler.describe("41_0") == "Slurm no longer knows the job"


def test_squeue(answers: Answers, tmp_path: Path) -> None:
    asked = answers({"squeue": SQUEUE})
    scheduler = make_slurm(tmp_path)
    assert scheduler.list_live() == {"41_0", "41_1", "41_17", "54"}
    assert f"--name={scheduler.job_name}" in asked[-1]
    answers({"squeue": ""})
    assert make_slurm(tmp_path).list_live() == set()


@pytest.mark.parametrize(
    ("said", "live"), [(SQUEUE, True), ("99\n", False), ("", False), (None, True)]
)
def test_an_empty_queue_is_no_silence(
    answers: Answers, tmp_path: Path, said: str | None, live: bool
) -> None:
    answers({"squeue": said})
    assert make_slurm(tmp_path).is_live("54") is live


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"sacct": SACCT}, "Slurm: FAILED, exit code 9:0, on n1"),
        ({"sacct": SACCT_REQUEUED}, "Slurm: CANCELLED by 0, exit code 0:0, on n3"),
        (
            {"sacct": None, "scontrol": SCONTROL},
            "Slurm: JobState=FAILED, Reason=NonZeroExitCode, Restarts=0, ExitCode=9:0, NodeList=n1",
        ),
        ({"sacct": "", "scontrol": None}, "Slurm no longer knows the job"),
    ],
)
def test_how_slurms_jobs_ended(
    answers: Answers, tmp_path: Path, said: dict[str, str | None], reason: str
) -> None:
    answers(said)
    assert make_slurm(tmp_path).describe("41_0") == reason


def test_grid_engines_hosts(answers: Answers, tmp_path: Path) -> None:
    answers({"qhost": QHOST})
    scheduler = make_sge(tmp_path)
    assert scheduler.threads == 7
    assert make_sge(tmp_path, cores_per_task=1).parallel() == 24
    assert scheduler.max_array == 1000
    assert make_sge(tmp_path, max_queued=100_000).max_array == 75_000


def test_tasks_of_grid_engine_do_not_span_hosts(answers: Answers, tmp_path: Path) -> None:
    answers({"qhost": QHOST})
    assert make_sge(tmp_path, cores_per_task=6).parallel() == 1 + 2


def test_qstat(answers: Answers, tmp_path: Path) -> None:
    name = make_sge(tmp_path).job_name

    def job(number: int, state: str, task: int | None, name: str = name) -> str:
        tasks = f"\n      <tasks>{task}</tasks>" if task else ""
        where = "pending" if "q" in state else "running"
        return JOB.format(where=where, number=number, name=name, state=state, tasks=tasks)

    jobs = [job(7, "r", 1), job(7, "qw", 2), job(7, "hqw", 10), job(8, "dr", None)]
    others = [job(9, "r", 1, "heatmap-0123456789"), job(10, "Eqw", 1)]
    listed = "".join(jobs + others)
    answers({"qstat": f"<?xml version='1.0'?>\n<job_info>\n{listed}</job_info>"})
    assert make_sge(tmp_path).list_live() == {"7_0", "7_1", "7_9", "8"}
    for silent in (None, "error: unable to contact qmaster", "<job_info><job_list>"):
        answers({"qstat": silent})
        assert make_sge(tmp_path).list_live() is None


def test_qacct(answers: Answers, tmp_path: Path) -> None:
    asked = answers({"qacct": QACCT})
    reason = make_sge(tmp_path).describe("153_0")
    assert "exit_status 137" in reason and "Killed" in reason and "100 : assumedly" in reason
    assert asked[-1] == ["qacct", "-j", "153", "-t", "1"]
    answers({"qacct": None})
    assert make_sge(tmp_path).describe("153_0") == "Grid Engine has no record of it"


@pytest.mark.parametrize(
    ("message", "full"),
    [
        ("sbatch: error: QOSMaxSubmitJobPerUserLimit", True),
        ("sbatch: error: AssocMaxSubmitJobLimit", True),
        ("Slurm temporarily unable to accept job, sleeping and retrying", True),
        ("Socket timed out on send/recv operation", True),
        ("Batch job submission failed: Invalid partition name specified", False),
        ("Batch job submission failed: Requested node configuration is not available", False),
        ("Batch job submission failed: Invalid job array specification", False),
    ],
)
def test_what_slurm_says_where_the_queue_is_full(
    answers: Answers, tmp_path: Path, message: str, full: bool
) -> None:
    answers({})
    assert make_slurm(tmp_path).is_full(message) is full


@pytest.mark.parametrize(
    ("message", "full"),
    [
        ("job rejected: only 4 jobs are allowed per user (current job count: 4)", True),
        ("job rejected: only 2 jobs are allowed per cluster", True),
        ("job rejected: you tried to submit a job with more than 50 tasks", False),
        ('Job was rejected because job requests unknown queue "nope.q"', False),
        ('job rejected: the requested parallel environment "nope" does not exist', False),
        ('job rejected: the requested project "nope" does not exist', False),
        ('unknown resource "nope"', False),
        ("error: no suitable queues", False),
    ],
)
def test_what_grid_engine_says_where_the_queue_is_full(
    answers: Answers, tmp_path: Path, message: str, full: bool
) -> None:
    answers({})
    assert make_sge(tmp_path).is_full(f"Unable to run job: {message} Exiting.") is full


def test_a_command_that_fails_or_is_not_there_says_nothing() -> None:
    assert cluster.ask(["false"]) is None
    assert cluster.ask(["no-such-command-anywhere"]) is None
    assert cluster.ask(["echo", "words"]) == "words\n"
