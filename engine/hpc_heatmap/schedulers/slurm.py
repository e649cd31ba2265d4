"""Slurm, through submitit's own executor."""

from __future__ import annotations

import math
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import submitit

from hpc_heatmap.schedulers.cluster import Check, ClusterScheduler, ask, said

__all__ = ["SlurmScheduler"]

_DEFAULT_ARRAY = 1001
#: What Slurm says when a limit on submitted jobs is reached, against refusals that last.
_FULL = (
    "QOSMaxSubmitJobPerUserLimit",
    "AssocMaxSubmitJobLimit",
    "AssocGrpSubmitJobsLimit",
    "QOSGrpSubmitJobsLimit",
    "Slurm temporarily unable to accept job",
    "Resource temporarily unavailable",
    "Socket timed out",
    "Unable to contact slurm controller",
    "job submit limit",
)


class SlurmScheduler(ClusterScheduler):
    """Array jobs on Slurm."""

    name = "Slurm"
    commands = ("sbatch", "squeue", "scancel", "scontrol", "sinfo")

    def array_limit(self) -> int:
        """MaxArraySize: it caps the index, and indices start at 0."""
        for line in (ask(["scontrol", "show", "config"]) or "").splitlines():
            name, _, value = line.partition("=")
            if name.strip() == "MaxArraySize" and value.strip().isdigit():
                return max(1, int(value))
        return _DEFAULT_ARRAY

    def cores_of_nodes(self) -> list[int]:
        """Cores of each node of the partition, which counts once whatever else it is in."""
        command = ["sinfo", "--noheader", "--Node", "--format=%N %c"]
        if self.profile.partition:
            command.append(f"--partition={self.profile.partition}")
        lines = {tuple(line.split()) for line in (ask(command) or "").splitlines()}
        return [int(line[1]) for line in lines if len(line) == 2 and line[1].isdigit()]

    def make_executor(self, folder: Path, *, threads: int, memory_gb: float, gpus: int) -> Any:
        """Submitit's SlurmExecutor with the profile's parameters."""
        profile = self.profile
        # Python takes the place of the shell, so that Slurm's signals reach it.
        python = f"exec {shlex.quote(sys.executable)}"
        executor = submitit.SlurmExecutor(folder=folder, max_num_timeout=10, python=python)
        parameters: dict[str, Any] = {
            "job_name": self.job_name,
            "time": profile.time_minutes,
            "cpus_per_task": threads,
            "mem": f"{round(memory_gb * 1024)}M",
            "nodes": 1,
            "ntasks_per_node": 1,
            "partition": profile.partition,
            "account": profile.account,
            "qos": profile.qos,
            "gres": f"gpu:{gpus}" if gpus else None,
            "array_parallelism": profile.throttle or self.max_array,
            # Until Python listens to it, this signal must not end the job.
            "setup": [*self.setup_lines, "trap '' USR2"],
            "stderr_to_stdout": True,
            # A task that was preempted, or whose node died, goes on under its own name.
            "additional_parameters": {
                "requeue": True,
                "signal": f"B:USR2@{self.signal_delay_s}",
                **profile.extra,
            },
            # A job step brings nothing to a task of one process, and costs a second.
            "use_srun": False,
        }
        executor.update_parameters(**{k: v for k, v in parameters.items() if v is not None})
        return executor

    def list_live(self) -> set[str] | None:
        """One listing of the run's jobs, arrays expanded."""
        who = [f"--user={self.user}", f"--name={self.job_name}"]
        listed = ask(["squeue", "--noheader", "--array", *who, "--format=%i"])
        return None if listed is None else set(listed.split())

    def describe(self, job_id: str) -> str:
        """State and exit code from sacct; where accounting is off, from the controller's memory."""
        fields = "--format=State%40,ExitCode,NodeList"
        listed = ask(["sacct", "--noheader", "--allocations", "--parsable2", "-j", job_id, fields])
        if listed and listed.strip():
            state, code, nodes, *_ = [*listed.strip().splitlines()[-1].split("|"), "", ""]
            return f"Slurm: {state}, exit code {code}, on {nodes}"
        shown = ask(["scontrol", "show", "job", job_id]) or ""
        wanted = ("JobState=", "Reason=", "ExitCode=", "NodeList=", "Restarts=")
        words = [word for word in shown.split() if word.startswith(wanted)]
        return f"Slurm: {', '.join(words)}" if words else "Slurm no longer knows the job"

    def stop(self, job_ids: Sequence[str]) -> None:
        """Cancel jobs, some hundred at once."""
        for start in range(0, len(job_ids), 200):
            subprocess.run(
                ["scancel", *job_ids[start : start + 200]], capture_output=True, check=False
            )

    def is_full(self, message: str) -> bool:
        """Whether a refusal means that the queue is full for now."""
        return any(words.lower() in message.lower() for words in _FULL)

    def check(self) -> Iterator[Check]:
        """Partition, nodes, time, account, limits, accounting, and a task that is only tried."""
        profile = self.profile
        fields = ["sinfo", "--noheader", "--format=%P|%a|%l|%D"]
        rows = [line.split("|") for line in (ask(fields) or "").splitlines()]
        partitions = {row[0].rstrip("*"): row for row in rows if len(row) == 4}
        default = next((row[0].rstrip("*") for row in rows if row[0].endswith("*")), None)
        name = profile.partition or default
        if not partitions:
            yield "partition", "Slurm does not answer: is its controller up?", False
            return
        # A list of partitions is allowed, and the first one that is free is used.
        wanted = name.split(",") if name else []
        missing = [p for p in wanted if p not in partitions]
        if not wanted or missing:
            what = f"there is no {', '.join(missing)}" if missing else "none given and no default"
            yield "partition", f"{what}: set partition to one of {', '.join(partitions)}", False
        else:
            for partition in wanted:
                _, state, _, nodes = partitions[partition]
                yield "partition", f"{partition}: {nodes} nodes, {state}", state == "up"
            yield from self._check_nodes(wanted)
            limits = {p: partitions[p][2] for p in wanted}
            fits = any(profile.time_minutes <= _minutes(limit) for limit in limits.values())
            said_limits = ", ".join(f"{p} allows {limit}" for p, limit in limits.items())
            yield "time limit", f"time_minutes = {profile.time_minutes}; {said_limits}", fits
        yield from self._check_account()
        yield from self.check_limits(self.array_limit(), self._submit_limit())
        yield from self._check_submission(wanted)
        works, _ = said(["sacct", "--noheader", "--allocations", "--starttime=now"])
        how = "on" if works else "off: why a job ended is known for minutes only, from scontrol"
        yield "accounting", how, True
        yield "a task", *self._try_out()

    def _check_nodes(self, partitions: Sequence[str]) -> Iterator[Check]:
        profile = self.profile
        command = ["sinfo", "--noheader", "--Node", "--format=%c|%m|%G"]
        listed = ask([*command, f"--partition={','.join(partitions)}"]) or ""
        nodes = [row for line in listed.splitlines() if len(row := line.split("|", 2)) == 3]
        cores = max((_number(row[0]) for row in nodes), default=0)
        memory_gb = max((_number(row[1]) for row in nodes), default=0) / 1024
        gpus = max((_gpus(row[2]) for row in nodes), default=0)
        yield "cores", f"{self.threads} a task; nodes have up to {cores}", self.threads <= cores
        found = f"{profile.memory_gb:g} GiB a task; nodes have up to {memory_gb:.1f}"
        yield "memory", found, profile.memory_gb <= memory_gb
        if profile.gpus:
            found = f"{profile.gpus} a task; nodes have up to {gpus}"
            yield "gpus", found, profile.gpus <= gpus

    def _check_account(self) -> Iterator[Check]:
        profile = self.profile
        for what, wanted, table in (
            ("account", profile.account, ["account", "format=account"]),
            ("qos", profile.qos, ["qos", "format=name"]),
        ):
            if wanted is None:
                continue
            listed = ask(["sacctmgr", "--noheader", "--parsable2", "show", *table])
            if listed is None:
                yield what, f"{wanted}: cannot be checked, accounting does not answer", True
            else:
                known = sorted(set(listed.split()))
                there = wanted in known
                yield what, wanted if there else f"no {wanted}; known: {', '.join(known)}", there

    def _submit_limit(self) -> int | None:
        """Jobs that this user may have in the queue, each task of an array counted."""
        show = ["sacctmgr", "--noheader", "--parsable2", "show"]
        mine = ask([*show, "assoc", f"user={self.user}", "format=defaultqos,maxsubmit"]) or ""
        limits = [_number(line.rpartition("|")[2]) for line in mine.splitlines()]
        qos = self.profile.qos or next((q for q in mine.partition("|")[:1] if q), "normal")
        listed = ask([*show, "qos", qos, "format=maxsubmitpu"]) or ""
        limits += [_number(word) for word in listed.split()]
        return min((limit for limit in limits if limit), default=None)

    def _check_submission(self, partitions: Sequence[str]) -> Iterator[Check]:
        for partition in partitions:
            shown = (ask(["scontrol", "--oneliner", "show", "partition", partition]) or "").split()
            allowed = next((w[11:] for w in shown if w.startswith("AllocNodes=")), "unknown")
            if allowed == "ALL":
                yield "nodes submit", f"{partition}: allowed (not tried)", True
            else:
                who = f"{partition}: {allowed} alone; elsewhere set master to 'login' or 'here'"
                yield "nodes submit", who, True

    def _try_out(self) -> tuple[str, bool]:
        """Let Slurm look at the script of a task; it is not submitted."""
        with tempfile.TemporaryDirectory() as folder:
            executor = self.make_executor(
                Path(folder),
                threads=self.threads,
                memory_gb=self.profile.memory_gb,
                gpus=self.profile.gpus,
            )
            script = Path(folder) / "task.sh"
            script.write_text(executor._make_submission_file_text("true", "task"), "utf-8")
            works, what = said(["sbatch", "--test-only", str(script)])
        return ("could be submitted" if works else f"would be refused: {what}"), works


def _number(text: str) -> int:
    """The number that a text starts with, as in ``4000+``; 0 without one."""
    digits = re.match(r"\d+", text.strip())
    return int(digits[0]) if digits else 0


def _gpus(resources: str) -> int:
    """GPUs in ``gpu:a100:4(S:0-1),gpu:2``."""
    counts = re.findall(r"\bgpu(?::[^:,(]+)?:(\d+)", resources)
    return sum(map(int, counts))


def _minutes(limit: str) -> float:
    """Minutes of ``infinite``, ``30:00``, ``4:00:00`` or ``2-00:00:00``."""
    if not limit[:1].isdigit():
        return math.inf
    days, dash, clock = limit.rpartition("-")
    parts = [int(part) for part in clock.split(":")]
    hours, minutes, seconds = ([0] * (3 - len(parts)) + parts)[:3]
    return (int(days) if dash else 0) * 1440 + hours * 60 + minutes + seconds / 60
