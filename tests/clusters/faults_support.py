"""Clusters of our own whose daemons may be killed, and runs on them that are disturbed."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import time
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from runs.support import (
    command,
    drafts,
    end_of,
    kill,
    n_groups_of,
    results,
    score_stamps,
    wait_until,
)

from hpc_heatmap.formats.paths import RunPaths, SlidePaths
from hpc_heatmap.formats.score_file import has_scores
from hpc_heatmap.schedulers.profiles import make_cluster_scheduler
from hpc_heatmap.settings import ClusterProfile

CLUSTERS = Path(__file__).parents[3] / "shared" / "clusters"
#: A disturbed run that takes longer than this is stuck.
STUCK_S = 300
WORKER = "submitit.core._submit"


def said(*words: object) -> str:
    """What a command prints, nothing where it fails."""
    done = subprocess.run(
        [str(w) for w in words], capture_output=True, text=True, check=False, timeout=60
    )
    return done.stdout


def tail(file: Path, n_lines: int = 25) -> str:
    try:
        return "\n".join(file.read_text(errors="replace").splitlines()[-n_lines:])
    except OSError as error:
        return str(error)


class SlurmLab:
    """A Slurm cluster in a mount namespace, so that its /etc/slurm is nobody else's."""

    #: Shorter timers than the lab's own, so that what takes minutes on a site takes seconds.
    TIMERS = "s/^AuthInfo=.*/&,cred_expire=8/;s/^SlurmdTimeout=.*/SlurmdTimeout=10/;s/^KillWait=.*/KillWait=2/;s/GraceTime=10/GraceTime=4/"  # noqa: E501

    def __init__(self, base: Path, port: int, **knobs: object) -> None:
        self.base = base
        self.conf = base / "etc" / "slurm.conf"
        self._knobs = {"SLURM_LAB": base, "SLURM_LAB_PORT": port} | {
            f"SLURM_LAB_{name.upper()}": value for name, value in knobs.items()
        }
        self._side = base.with_name(base.name + "-etc")

    def up(self) -> None:
        (self._side / "bin").mkdir(parents=True, exist_ok=True)
        (self._side / "etc").mkdir(exist_ok=True)
        shim = self._side / "bin" / "slurmctld"
        shim.write_text(
            f'#!/bin/sh\nsed -i "{self.TIMERS}" {self.conf}\nexec /usr/sbin/slurmctld "$@"\n'
        )
        shim.chmod(0o755)
        script = f"mount --bind {self._side}/etc /etc/slurm && exec {CLUSTERS}/slurm-up"
        environment = {name: str(value) for name, value in self._knobs.items()}
        path = f"{shim.parent}:{os.environ['PATH']}"
        done = subprocess.run(
            ["unshare", "-m", "--propagation", "slave", "bash", "-c", script],
            env=os.environ | environment | {"PATH": path},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def down(self) -> None:
        subprocess.run(
            [CLUSTERS / "slurm-down"],
            env=os.environ | {"SLURM_LAB": str(self.base)},
            check=False,
            timeout=120,
            capture_output=True,
        )

    def _pid(self, daemon: str) -> int:
        return int((self.base / "run" / f"{daemon}.pid").read_text())

    def _start(self, *words: str) -> None:
        inside = ["nsenter", f"--target={self._pid('munged')}", "--mount"]
        subprocess.run([*inside, *words], check=True, timeout=30, capture_output=True)

    def stop_controller(self) -> None:
        process = psutil.Process(self._pid("slurmctld"))
        process.terminate()
        wait_until(lambda: not alive(process))

    def start_controller(self) -> None:
        self._start("slurmctld")
        wait_until(lambda: "UP" in said("scontrol", "ping"))

    def kill_node(self, node: str) -> None:
        """kill -9 of a slurmd, of its step daemons and of everything that they run."""
        kill(psutil.Process(self._pid(f"slurmd-{node}")))
        numbers = set(said("squeue", "--noheader", f"--nodelist={node}", "--format=%A").split())
        tasks = [p for p in self._processes() if own_job(p) in numbers]
        # Step daemons first: they would tell how their tasks have ended.
        parents = [parent for task in tasks for parent in task.parents()]
        for process in [*(p for p in parents if p.name() == "slurmstepd"), *tasks]:
            kill(process)

    def start_node(self, node: str) -> None:
        self._start("slurmd", "-N", node)

    def _processes(self) -> Iterator[psutil.Process]:
        """Step daemons and tasks of this cluster."""
        for process in psutil.process_iter():
            try:
                if process.environ().get("SLURM_CONF") == str(self.conf):
                    yield process
            except (psutil.Error, OSError):
                continue

    def listed(self) -> str:
        return said("squeue", "--array", "--noheader", "--format=%i %P %j %T %r %N")

    def clear(self) -> None:
        """Nothing of a test is left for the next, and all nodes are there."""
        for partition in ("main", "urgent"):
            said("scancel", "-p", partition, "--state=PENDING")
            said("scancel", "-p", partition)
        wait_until(lambda: not self.listed(), 40)

    def logs(self) -> str:
        return tail(self.base / "log" / "slurmctld.log", 40)


class SgeLab:
    """A Grid Engine cell of our own. Its folder is one that all users can enter."""

    def __init__(self, base: Path, port: int) -> None:
        self.base = base
        self._knobs = {"SGE_LAB": str(base), "SGE_LAB_PORT": str(port)}

    def up(self) -> dict[str, str]:
        """Start it; gives the variables by which commands find it."""
        self._call("sge-up", check=True)
        script = f". {self.base}/env.sh && env -0"
        found = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
        lines = (line.partition("=") for line in found.stdout.split("\0"))
        return {n: value for n, _, value in lines if n == "PATH" or n.startswith("SGE_")}

    def down(self) -> None:
        self._call("sge-down", check=False)

    def _call(self, script: str, *, check: bool) -> None:
        done = subprocess.run(
            [CLUSTERS / script],
            env=os.environ | self._knobs,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr

    def listed(self) -> str:
        return said("qstat", "-u", "*")

    def logs(self) -> str:
        return tail(self.base / "spool" / "qmaster" / "messages")


def own_job(process: psutil.Process) -> str:
    """Number of the job that a process belongs to."""
    try:
        line = " ".join(process.cmdline())
        if line.startswith("slurmstepd: ["):
            return line.split("[")[1].split(".")[0]
        return str(process.environ().get("SLURM_JOB_ID", ""))
    except psutil.Error:
        return ""


def job_of(process: psutil.Process) -> str:
    """The job of a task by the name that submitit knows."""
    get = process.environ().get
    if get("SUBMITIT_EXECUTOR") == "sge":
        index = str(get("SGE_TASK_ID"))
        return f"{get('JOB_ID')}_{int(index) - 1}" if index.isdigit() else str(get("JOB_ID"))
    array = get("SLURM_ARRAY_JOB_ID")
    return f"{array}_{get('SLURM_ARRAY_TASK_ID')}" if array else str(get("SLURM_JOB_ID"))


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@dataclass(frozen=True)
class Request:
    """A run that nobody disturbed, and how to ask for it."""

    slides: Sequence[Path]
    options: Sequence[object]
    results: dict[str, Any]


class Trial:
    """A run that is disturbed. Use it in a `with` block: what goes wrong is shown with all logs."""

    def __init__(self, request: Request, root: Path, profile: str, lab: SlurmLab | SgeLab) -> None:
        self.request = request
        self.paths = RunPaths(root)
        self.root = root
        self.lab = lab
        self.profile = root.with_name(root.name + ".toml")
        self.profile.write_text(profile)
        self.complete: dict[Path, tuple[int, int]] = {}
        self._processes: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Trial:
        self._began = time.monotonic()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        print(f"\n{self.root.name}: {time.monotonic() - self._began:.1f} s")
        if kind is not None:
            self._tell()
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
            process.wait()

    def _tell(self) -> None:
        for file in sorted((self.root / "jobs").rglob("*.out")):
            lines = tail(file, 12)
            if "-master" in str(file) or "Error" in lines:
                print(f"--- {file}\n{lines}")
        for file in self.paths.failures.glob("*.json"):
            print(f"--- {file}\n{file.read_text()}")
        print(f"--- scheduler\n{self.lab.logs()}\n--- queue\n{self.lab.listed()}")

    # Commands

    def _command(self, *words: object) -> subprocess.Popen[str]:
        process = command(*words)
        self._processes.append(process)
        return process

    def run(self, *options: object, slides: Sequence[Path] = ()) -> subprocess.Popen[str]:
        what = [*self.request.slides, *slides, *self.request.options]
        how = ["--profile", self.profile, "--quiet", "--out", self.root]
        return self._command("run", *what, *how, *options)

    def resume(self, *options: object) -> subprocess.Popen[str]:
        return self._command("resume", self.root, "--quiet", *options)

    def status(self) -> dict[str, Any]:
        process = self._command("status", self.root, "--json")
        out, _ = process.communicate(timeout=60)
        found: dict[str, Any] = json.loads(out)
        return found

    # What is going on

    def n_scores(self) -> int:
        """Groups that are scored."""
        return sum(
            n_groups_of(SlidePaths(file.parent)) if file.name == "scores.h5" else 1
            for file in score_stamps(self.paths)
        )

    def wait_for_scores(self, number: int) -> None:
        wait_until(lambda: self.n_scores() >= number, 90)

    def remember(self) -> None:
        """What is complete now stays as it is."""
        for file, stamp in score_stamps(self.paths).items():
            assert self.complete.setdefault(file, stamp) == stamp, f"{file} was written anew"

    def workers(self, *, masters: bool = False) -> list[psutil.Process]:
        """Python processes of the run's jobs: its tasks, or its masters."""
        found = []
        for process in psutil.process_iter():
            try:
                line = process.cmdline()
            except psutil.Error:
                continue
            ours = WORKER in line and Path(line[-1]).is_relative_to(self.root / "jobs")
            if ours and line[-1].endswith("-master") is masters:
                found.append(process)
        return found

    def victim(self) -> psutil.Process:
        """A task in the middle of scoring, stopped where it stands."""
        found: psutil.Process = wait_until(lambda: next(self._scoring(), None), 60)
        return found

    @contextmanager
    def held(self) -> Iterator[None]:
        """A task stands still meanwhile, so that the run cannot end before it was disturbed."""
        victim = self.victim()
        try:
            yield
        finally:
            with suppress(psutil.NoSuchProcess):
                victim.resume()

    def _scoring(self) -> Iterator[psutil.Process]:
        for process in self.workers():
            try:
                process.suspend()
                loaded = "onnxruntime" in Path(f"/proc/{process.pid}/maps").read_text()
                if loaded and self._misses_groups(job_of(process)):
                    yield process
                process.resume()
            except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
                continue

    def _misses_groups(self, job: str) -> bool:
        work = [work for work, jobs in self.submitted().items() if jobs[-1] == job]
        return any(
            group is not None and not has_scores(self.paths.slide(slide), group)
            for _, slide, group in work
        )

    def queued(self) -> list[str]:
        """Jobs of the run that wait or run, its masters included."""
        profile = ClusterProfile(**tomllib.loads(self.profile.read_text()))
        listed = make_cluster_scheduler(self.paths.jobs, "none", profile).list_live()
        assert listed is not None
        return sorted(listed)

    def submitted(self) -> dict[tuple[str, str, int | None], list[str]]:
        """Jobs that each piece of work was given to, in order."""
        found = defaultdict(list)
        for file in sorted(self.paths.jobs.glob("*/submitted-*.json"), key=os.path.getmtime):
            for entry in json.loads(file.read_text()):
                for group in entry["groups"] or [None]:
                    found[entry["stage"], entry["slide"], group].append(entry["job"])
        return found

    # The end

    def ends(self, process: subprocess.Popen[str], code: int = 0) -> str:
        """Wait for a command's end; gives what it said of errors."""
        found, errors = end_of(process, STUCK_S)
        assert found == code, f"exit code {found}: {errors}"
        return errors

    def check(self) -> None:
        """The same bits as undisturbed, nothing done twice, nothing left."""
        found = results(self.paths)
        assert found.keys() == self.request.results.keys()
        assert [n for n in found if found[n] != self.request.results[n]] == []
        self.remember()
        assert self.complete
        assert self.status()["state"] == "done"
        wait_until(lambda: not self.queued(), 120)
        assert drafts(self.root) == []
        assert not self.paths.master.exists()
        assert self.workers() == []

    def check_no_overlap(self) -> None:
        """No work was submitted again while the first job with it was alive, as sacct tells it."""
        again = {work: jobs for work, jobs in self.submitted().items() if len(jobs) > 1}
        for work, jobs in again.items():
            times = []
            for job in jobs:
                form = ("--noheader", "--parsable2", "--allocations", "--format=Submit,End")
                times.append(said("sacct", "-j", job, *form).strip().split("|"))
            for (_, end), (submit, _) in itertools.pairwise(times):
                assert end <= submit, f"{work} was given to {jobs}: {times}"
