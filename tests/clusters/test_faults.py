"""Whatever breaks, the heatmaps are the same to the bit and nothing complete is done twice.

Each test disturbs a run on a real cluster of its own, started here.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
import types
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
from clusters.faults_support import CLUSTERS, Request, SgeLab, SlurmLab, Trial, job_of, said
from runs.support import command, end_of, kill, make_model, make_slide, results, wait_until

from hpc_heatmap import RunSettings, start_run
from hpc_heatmap.formats.paths import RunPaths
from hpc_heatmap.formats.slide_summary import read_summary
from hpc_heatmap.runs import lease
from hpc_heatmap.runs.lease import LeaseHolder
from hpc_heatmap.runs.run import MasterWork
from hpc_heatmap.runs.status import State

pytestmark = pytest.mark.slow

LIMIT_S = 400  # a test that takes longer hangs
MIN_GROUPS = 20
#: A node is away for so long: jobs younger than Slurm's BatchStartTimeout, 10 s, are taken for not
#: yet begun when it comes back without them, and stay in the queue for minutes.
AWAY_S = 12
PROFILE = """
cluster = "slurm"
cores_per_task = 1
memory_gb = 0.5
time_minutes = 10
poll_s = 1
"""
HERE = PROFILE + 'master = "here"\n'
MASTER_JOB = PROFILE + 'master = "cluster"\n'


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
def request_(tmp_path_factory: pytest.TempPathFactory) -> Request:
    folder = tmp_path_factory.mktemp("faults")
    slides = [make_slide(folder / f"{name}.tif", 400, 330) for name in "abc"]
    options: list[object] = ["--model", make_model(folder), "--stride", 1]
    options += ["--patches-per-group", 8]
    run = command("run", *slides, *options, "--out", folder / "RUN", "--quiet")
    assert end_of(run, 120) == (0, "")
    paths = RunPaths(folder / "RUN")
    found = results(paths)
    slides_dir = paths.root / "slides"
    assert sum(read_summary(f).n_groups for f in slides_dir.glob("*/summary.json")) >= MIN_GROUPS
    return Request(slides, options, found)


def need_labs() -> None:
    if not (CLUSTERS / "slurm-up").exists():
        pytest.skip(f"no scripts that start clusters: {CLUSTERS.name} is not beside the checkout")
    if os.geteuid() != 0:
        pytest.skip("a cluster is started by root alone")


@pytest.fixture(scope="session")
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A disk that can be filled; mounted before the clusters start, so that their nodes see it."""
    need_labs()
    folder = tmp_path_factory.mktemp("disk")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture(scope="session")
def session_lab(small_disk: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmLab]:
    lab = SlurmLab(tmp_path_factory.mktemp("slurm") / "lab", 17800, nodes=2, cpus=2)
    lab.up()
    yield lab
    lab.down()


@pytest.fixture
def lab(session_lab: SlurmLab, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlurmLab]:
    monkeypatch.setenv("SLURM_CONF", str(session_lab.conf))
    yield session_lab
    session_lab.clear()


Make = Callable[..., Trial]


@pytest.fixture
def trial(lab: SlurmLab, request_: Request, tmp_path: Path) -> Make:
    def make(name: str, profile: str = HERE, root: Path | None = None) -> Trial:
        return Trial(request_, root or tmp_path / name, profile, lab)

    return make


def test_kill_9_of_tasks(trial: Make) -> None:
    dice = random.Random(1)
    with trial("TASKS") as one:
        run = one.run("--retries", 6)
        killed = 0
        while run.poll() is None and killed < 6:
            time.sleep(dice.uniform(0.5, 1.5))
            one.remember()
            workers = one.workers()
            if workers:
                kill(dice.choice(workers))
                killed += 1
        assert killed >= 4
        one.ends(run)
        one.check()
        one.check_no_overlap()


def test_a_killed_task_without_retries_is_shown_with_its_reason_and_log(trial: Make) -> None:
    with trial("REASON") as one:
        run = one.run("--retries", 0)
        wait_until(lambda: one.n_scores() >= 2, 60)
        kill(one.victim())
        at = time.monotonic()
        wait_until(lambda: list(one.paths.failures.glob("*.json")), 15)
        print(f"seen after {time.monotonic() - at:.1f} s")
        errors = one.ends(run, code=1)
        failures = [f for s in one.status()["slides"].values() for f in s["failures"]]
        assert len(failures) == 1
        assert "FAILED" in failures[0]["reason"]
        assert ":9" in failures[0]["reason"]
        assert failures[0]["reason"] in errors
        assert "submitit" in failures[0]["log"]
        one.remember()
        one.ends(one.resume())
        one.check()


def test_kill_9_of_the_master_job_and_resume(trial: Make) -> None:
    with trial("MASTER", MASTER_JOB) as one:
        run = one.run()
        one.wait_for_scores(5)
        with one.held():
            kill(wait_until(lambda: one.workers(masters=True))[0])
            # Slurm does not start it again, and says so; tasks go on.
            errors = one.ends(run, code=1)
        assert "resume" in errors
        one.remember()
        one.ends(one.resume())
        one.check()
        again = {work: jobs for work, jobs in one.submitted().items() if len(jobs) > 1}
        assert again == {}


def test_kill_9_of_a_node_with_tasks(trial: Make, lab: SlurmLab) -> None:
    with trial("NODE") as one:
        run = one.run()
        one.wait_for_scores(4)
        with one.held():
            wait_until(lambda: said("squeue", "-h", "-w", "n2", "-t", "R", "-o", "%i"))
            lab.kill_node("n2")
            one.remember()
        time.sleep(AWAY_S)
        lab.start_node("n2")
        one.ends(run)
        one.check()
        assert max(map(len, one.submitted().values())) == 1


def test_kill_9_of_the_node_of_the_master(trial: Make, lab: SlurmLab) -> None:
    with trial("MASTERNODE", MASTER_JOB) as one:
        run = one.run()
        one.wait_for_scores(4)
        with one.held():
            master = wait_until(lambda: one.workers(masters=True))[0]
            node = master.environ()["SLURMD_NODENAME"]
            lab.kill_node(node)
            one.remember()
        time.sleep(AWAY_S)
        lab.start_node(node)
        one.ends(run)
        one.check()
        assert len(list(one.paths.jobs.glob("*-master"))) == 1


def test_the_controller_is_away_for_a_while(trial: Make, lab: SlurmLab) -> None:
    with trial("CONTROLLER") as one:
        run = one.run()
        one.wait_for_scores(3)
        with one.held():
            lab.stop_controller()
            one.remember()
            time.sleep(12)
            assert run.poll() is None
            lab.start_controller()
        one.ends(run)
        one.check()
        one.check_no_overlap()


def test_preemption(trial: Make, lab: SlurmLab) -> None:
    with trial("PREEMPTION", MASTER_JOB) as one:
        run = one.run()
        one.wait_for_scores(3)
        one.remember()
        # All nodes, so that the master is among those that must go.
        words = ("-p", "urgent", "--nodes=2", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 2")
        said("sbatch", *words)
        wait_until(lambda: "urgent" not in lab.listed(), 40)
        one.ends(run)
        one.check()
        restarts = said("sacct", "-D", "--noheader", "-X", "--format=State", "-S", "now-5minutes")
        assert "PREEMPTED" in restarts or "REQUEUED" in restarts
        one.check_no_overlap()


def test_resume_twice_at_once(trial: Make) -> None:
    with trial("TWICE", MASTER_JOB) as one:
        run = one.run()
        one.wait_for_scores(3)
        with one.held():
            kill(wait_until(lambda: one.workers(masters=True))[0])
            one.ends(run, code=1)
            one.remember()
        both = [one.resume(), one.resume()]
        for process in both:
            one.ends(process)
        one.check()
        assert max(map(len, one.submitted().values())) == 1


def test_a_full_disk_that_is_freed(trial: Make, small_disk: Path) -> None:
    with trial("FULL", HERE, small_disk / "FULL") as one:
        run = one.run()
        one.wait_for_scores(4)
        one.remember()
        filler = small_disk / "filler"
        with filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(1 << 16))
            except OSError:
                pass
        errors = one.ends(run, code=1)
        assert "full" in errors
        filler.unlink()
        assert one.status()["state"] != "done"
        one.ends(one.resume())
        one.check()


def test_slides_that_cannot_be_read_among_good_ones(trial: Make, tmp_path: Path) -> None:
    bad = tmp_path / "bad.tif"
    bad.write_bytes(b"not a slide")
    gone = make_slide(tmp_path / "gone.tif")
    with trial("BAD") as one:
        run = one.run(slides=[bad, gone])
        wait_until(one.paths.run_file.exists)
        gone.unlink()
        errors = one.ends(run, code=1)
        slides = one.status()["slides"]
        assert {n: s["state"] for n, s in slides.items()} == {
            **dict.fromkeys("abc", "done"),
            "bad": "failed",
            "gone": "failed",
        }
        for name in ("bad", "gone"):
            reason = slides[name]["failures"][0]["reason"]
            assert name in reason
            assert reason in errors
        found = results(one.paths)
        assert {n: found.get(n) for n in one.request.results if n != "lookup.csv"} == {
            n: v for n, v in one.request.results.items() if n != "lookup.csv"
        }
        wait_until(lambda: not one.queued(), 20)


def test_without_accounting(
    request_: Request, small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = SlurmLab(tmp_path / "lab", 17850, nodes=2, cpus=2, db=0)
    lab.up()
    try:
        monkeypatch.setenv("SLURM_CONF", str(lab.conf))
        with Trial(request_, tmp_path / "NODB", HERE, lab) as one:
            run = one.run("--retries", 0)
            one.wait_for_scores(2)
            one.remember()
            kill(one.victim())
            errors = one.ends(run, code=1)
            assert "FAILED" in errors
            one.ends(one.resume())
            one.check()
    finally:
        lab.down()


@pytest.fixture
def sge_lab(monkeypatch: pytest.MonkeyPatch) -> Iterator[SgeLab]:
    need_labs()
    folder = Path(tempfile.mkdtemp(prefix="sge-"))
    folder.chmod(0o755)
    lab = SgeLab(folder / "lab", 17944)
    for name, value in lab.up().items():
        monkeypatch.setenv(name, value)
    yield lab
    lab.down()
    shutil.rmtree(folder)


def test_kill_9_of_tasks_and_of_the_master_on_grid_engine(
    sge_lab: SgeLab, request_: Request, tmp_path: Path
) -> None:
    profile = MASTER_JOB.replace("slurm", "sge")
    with Trial(request_, tmp_path / "SGE", profile, sge_lab) as one:
        run = one.run()
        one.wait_for_scores(2)
        for _ in range(2):
            one.remember()
            kill(wait_until(one.workers)[0])
            time.sleep(2)
        with one.held():
            kill(wait_until(lambda: one.workers(masters=True))[0])
            errors = one.ends(run, code=1)
        assert "resume" in errors
        one.remember()
        one.ends(one.resume())
        one.check()


def test_a_master_that_is_started_elsewhere_outwaits_its_own_old_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide, settings = make_slide(tmp_path / "a.tif", 260, 230), RunSettings(stride=16)
    run = start_run([slide], make_model(tmp_path), tmp_path / "RUN", settings=settings)
    left = LeaseHolder("a-node-that-died", 1, 1.0, "token")
    run.paths.master.write_text(json.dumps(asdict(left)))
    monkeypatch.setattr(lease, "STALE_S", 4.0)
    began = time.monotonic()
    MasterWork(str(run.root))()
    assert time.monotonic() - began > 3
    assert run.status().state is State.DONE
    assert not run.paths.master.exists()


def test_a_time_limit_that_hits(trial: Make) -> None:
    with trial("LIMIT") as one:
        run = one.run()
        one.wait_for_scores(1)
        hung = one.victim()
        one.remember()
        # Slurm wakes it up to tell it, half a minute before the end, and it goes back to the queue.
        said("scontrol", "update", f"JobId={hung.environ()['SLURM_JOB_ID']}", "TimeLimit=1")
        job = job_of(hung)
        log = next(one.paths.jobs.glob(f"*/{job}_0_log.out"))
        wait_until(lambda: "timed-out" in log.read_text(), 60)
        one.ends(run)
        one.check()
        assert log.read_text().count("Starting with") == 2
        assert max(map(len, one.submitted().values())) == 1
