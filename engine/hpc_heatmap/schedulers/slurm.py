"""Slurm, through submitit's own executor."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import submitit

from hpc_heatmap.schedulers.cluster import ClusterScheduler, ask

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

    def default_cores(self) -> int:
        """All but one core of the smallest node of the partition."""
        return max(1, min(self._cores_of_nodes(), default=2) - 1)

    def parallel(self) -> int:
        """Tasks that could run at once on all nodes of the partition."""
        per_node = [cores // self.threads for cores in self._cores_of_nodes()]
        return max(1, sum(per_node))

    def _cores_of_nodes(self) -> list[int]:
        command = ["sinfo", "--noheader", "--Node", "--format=%N %c"]
        if self.profile.partition:
            command.append(f"--partition={self.profile.partition}")
        lines = {tuple(line.split()) for line in (ask(command) or "").splitlines()}
        return [int(line[1]) for line in lines if len(line) == 2 and line[1].isdigit()]

    def make_executor(self, folder: Path, *, threads: int, memory_gb: float, gpus: int) -> Any:
        """Submitit's SlurmExecutor with the profile's parameters."""
        profile = self.profile
        executor = submitit.SlurmExecutor(folder=folder, max_num_timeout=10)
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
            "setup": self.setup_lines or None,
            "signal_delay_s": self.signal_delay_s,
            "stderr_to_stdout": True,
            # A task that was preempted, or whose node died, goes on under its own name.
            "additional_parameters": {"requeue": True, **profile.extra},
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
