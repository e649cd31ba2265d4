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
        command = ["sinfo", "--noheader", "--format=%c"]
        if self.profile.partition:
            command.append(f"--partition={self.profile.partition}")
        cores = [int(w.rstrip("+")) for w in (ask(command) or "").split() if w.rstrip("+").isdigit()]
        return max(1, min(cores, default=2) - 1)

    def make_executor(self, folder: Path) -> Any:
        """submitit's SlurmExecutor with the profile's parameters."""
        profile = self.profile
        executor = submitit.SlurmExecutor(folder=folder, max_num_timeout=10)
        parameters: dict[str, Any] = {
            "job_name": f"hpc-heatmap-{self._session}",
            "time": profile.time_minutes,
            "cpus_per_task": self.threads,
            "mem": f"{round(profile.memory_gb * 1024)}M",
            "nodes": 1,
            "ntasks_per_node": 1,
            "partition": profile.partition,
            "account": profile.account,
            "qos": profile.qos,
            "gres": f"gpu:{profile.gpus}" if profile.gpus else None,
            "array_parallelism": profile.throttle or self.max_array,
            "setup": [*(f"module load {m}" for m in profile.modules), *profile.setup] or None,
            # The signal before a time limit: a task stops between two batches of windows.
            "signal_delay_s": 30,
            "additional_parameters": dict(profile.extra) or None,
            # A job step brings nothing to a task of one process, and costs a second.
            "use_srun": False,
        }
        executor.update_parameters(**{k: v for k, v in parameters.items() if v is not None})
        return executor

    def list_live(self) -> set[str] | None:
        """One listing of all of the user's jobs, arrays expanded."""
        listed = ask(["squeue", "--noheader", "--array", f"--user={self.user}", "--format=%i"])
        return None if listed is None else set(listed.split())

    def describe(self, job_id: str) -> str:
        """State and exit code from sacct; where accounting is off, from the controller's memory."""
        fields = "--format=State%40,ExitCode,NodeList"
        listed = ask(["sacct", "--noheader", "--allocations", "--parsable2", "-j", job_id, fields])
        if listed and listed.strip():
            state, code, nodes, *_ = [*listed.strip().splitlines()[-1].split("|"), "", ""]
            return f"Slurm: {state}, exit code {code}, on {nodes}."
        shown = ask(["scontrol", "show", "job", job_id]) or ""
        wanted = ("JobState=", "Reason=", "ExitCode=", "NodeList=", "Restarts=")
        words = [word for word in shown.split() if word.startswith(wanted)]
        return f"Slurm: {', '.join(words)}." if words else "Slurm no longer knows the job."

    def cancel(self, job_ids: Sequence[str]) -> None:
        """Cancel jobs, some hundred at once."""
        for start in range(0, len(job_ids), 200):
            subprocess.run(
                ["scancel", *job_ids[start : start + 200]], capture_output=True, check=False
            )

    def is_full(self, message: str) -> bool:
        """Whether a refusal means that the queue is full for now."""
        return any(words.lower() in message.lower() for words in _FULL)
