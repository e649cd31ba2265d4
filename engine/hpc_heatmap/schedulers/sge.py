"""Son of Grid Engine and its kin, through the submitit plug-in `submitit_sge`."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from hpc_heatmap.schedulers.cluster import ClusterScheduler, ask
from submitit_sge import SgeExecutor
from submitit_sge.executor import read_max_tasks

__all__ = ["SgeScheduler"]

#: What Grid Engine says when a limit on submitted jobs is reached, against refusals that last.
_FULL = (
    "exceeds per user job limit",
    "exceeds limit",
    "job rejected: only",
    "max_u_jobs",
    "try again",
)


class SgeScheduler(ClusterScheduler):
    """Array jobs on Grid Engine."""

    name = "Grid Engine"
    commands = ("qsub", "qstat", "qdel", "qconf", "qhost")

    def array_limit(self) -> int:
        """`max_aj_tasks` of the cluster's configuration."""
        return max(1, read_max_tasks())

    def default_cores(self) -> int:
        """All but one core of the smallest host."""
        return max(1, min(self._cores_of_hosts(), default=2) - 1)

    def parallel(self) -> int:
        """Tasks that could run at once on all hosts."""
        return max(1, sum(self._cores_of_hosts()) // self.threads)

    def _cores_of_hosts(self) -> list[int]:
        words = [line.split() for line in (ask(["qhost"]) or "").splitlines()]
        return [int(w[2]) for w in words if len(w) > 2 and w[2].isdigit()]

    def make_executor(self, folder: Path, *, threads: int, memory_gb: float, gpus: int) -> Any:
        """The plug-in's executor with the profile's parameters."""
        profile = self.profile
        executor = SgeExecutor(folder, max_num_timeout=10)
        parameters: dict[str, Any] = {
            "name": self.job_name,
            "h_rt": profile.time_minutes * 60,
            "signal_delay_s": min(self.signal_delay_s, profile.time_minutes * 12),
            "slots": threads,
            "pe": profile.parallel_environment if threads > 1 else None,
            "queue": profile.partition,
            "project": profile.account,
            "gpus": gpus or None,
            "tc": profile.throttle,
            "setup": self.setup_lines or None,
            "rerunnable": True,
            "notify": True,
            "stderr_to_stdout": True,
            "extra": [w for name, value in profile.extra.items() for w in (f"-{name}", value) if w],
        }
        if profile.memory_resource:
            parameters["memory"] = f"{round(memory_gb * 1024)}M"
            parameters["memory_resource"] = profile.memory_resource
        executor.update_parameters(**{k: v for k, v in parameters.items() if v is not None})
        return executor

    def list_live(self) -> set[str] | None:
        """One listing of the run's jobs; ids of array tasks count from 0, as submitit's do."""
        listed = ask(["qstat", "-xml", "-g", "d", "-u", self.user])
        if listed is None:
            return None
        try:
            tree = ElementTree.fromstring(listed)
        except ElementTree.ParseError:
            return None
        live = set()
        for job in tree.iter("job_list"):
            if job.findtext("JB_name") != self.job_name or "E" in (job.findtext("state") or ""):
                continue
            number, task = job.findtext("JB_job_number"), job.findtext("tasks")
            live.add(f"{number}_{int(task) - 1}" if task else str(number))
        return live

    def describe(self, job_id: str) -> str:
        """Exit status and failure code from accounting."""
        number, _, index = job_id.partition("_")
        command = ["qacct", "-j", number, *(["-t", str(int(index) + 1)] if index else [])]
        fields = dict(
            line.split(None, 1) for line in (ask(command) or "").splitlines() if " " in line.strip()
        )
        wanted = [f"{n} {fields[n].strip()}" for n in ("exit_status", "failed") if n in fields]
        return f"Grid Engine: {', '.join(wanted)}" if wanted else "Grid Engine has no record of it"

    def stop(self, job_ids: Sequence[str]) -> None:
        """Delete jobs, an array's tasks at once."""
        arrays: dict[str, list[int]] = {}
        for job_id in job_ids:
            number, _, index = job_id.partition("_")
            arrays.setdefault(number, []).extend([int(index) + 1] if index else [])
        for number, tasks in arrays.items():
            targets = [["-t", str(task)] for task in sorted(tasks)] or [[]]
            if len(tasks) > 1 and len(tasks) == max(tasks) - min(tasks) + 1:
                targets = [["-t", f"{min(tasks)}-{max(tasks)}"]]
            for target in targets:
                subprocess.run(["qdel", number, *target], capture_output=True, check=False)

    def is_full(self, message: str) -> bool:
        """Whether a refusal means that the queue is full for now."""
        return any(words in message.lower() for words in _FULL)
