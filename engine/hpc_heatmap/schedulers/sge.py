"""Son of Grid Engine and its kin, through the submitit plug-in `submitit_sge`."""

from __future__ import annotations

import math
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from hpc_heatmap.schedulers.cluster import Check, ClusterScheduler, ask, said
from hpc_heatmap.settings import MasterPlace
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

    def cores_of_nodes(self) -> list[int]:
        """Cores of each host."""
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
            parameters["mem_gb"] = memory_gb
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

    def check(self) -> Iterator[Check]:
        """Queue, parallel environment, time, project, limits, and a task that is only tried."""
        profile = self.profile
        queues = (ask(["qconf", "-sql"]) or "").split()
        if not queues:
            yield "queue", "Grid Engine does not answer, or has no queue", False
            return
        wanted = (profile.partition or "").split("@")[0]
        if wanted and wanted not in queues:
            yield "queue", f"there is no {wanted}: set partition to one of {queues}", False
            queues = []
        elif wanted:
            queues = [wanted]
        settings = {queue: _table(ask(["qconf", "-sq", queue])) for queue in queues}
        if settings:
            batch = [q for q, values in settings.items() if "BATCH" in values.get("qtype", "")]
            yield "queue", f"{', '.join(queues)}: {len(batch)} take batch jobs", bool(batch)
            limits = {q: values.get("h_rt", "INFINITY") for q, values in settings.items()}
            fits = any(profile.time_minutes <= _minutes(limit) for limit in limits.values())
            named = ", ".join(f"{q} allows {limit}" for q, limit in limits.items())
            yield "time limit", f"time_minutes = {profile.time_minutes}; {named}", fits
        yield from self._check_cores(settings)
        yield from self._check_resources()
        if profile.account:
            projects = (ask(["qconf", "-sprjl"]) or "").split()
            known = ", ".join(projects) or "none"
            there = profile.account in projects
            found = profile.account if there else f"no project {profile.account}; known: {known}"
            yield "account", found, there
        if profile.qos:
            yield "qos", "Grid Engine has none: leave qos out", False
        configuration = _table(ask(["qconf", "-sconf"]))
        limits_set = [int(configuration.get(n, "0")) for n in ("max_u_jobs", "max_jobs")]
        jobs = min((limit for limit in limits_set if limit), default=None)
        yield from self.check_limits(self.array_limit(), jobs)
        hosts = set((ask(["qconf", "-sel"]) or "").split())
        may = hosts & set((ask(["qconf", "-ss"]) or "").split())
        found = f"{len(may)} of {len(hosts)} hosts"
        if not may and profile.master is MasterPlace.CLUSTER:
            yield "nodes submit", f"{found}: set master to 'login' or 'here'", False
        else:
            yield "nodes submit", found, True
        works, _ = said(["qacct", "-o", self.user, "-d", "1"])
        how = "on" if works else "off, or not readable here: why a job ended is not known"
        yield "accounting", how, True
        yield "a task", *self._try_out()

    def _check_cores(self, settings: dict[str, dict[str, str]]) -> Iterator[Check]:
        slots = [int(n) for v in settings.values() for n in re.findall(r"\d+\b(?!\])", v["slots"])]
        slots += [int(n) for v in settings.values() for n in re.findall(r"=(\d+)\]", v["slots"])]
        most = max(slots, default=0)
        if settings:
            yield "cores", f"{self.threads} a task; queues have up to {most}", self.threads <= most
        if self.threads == 1:
            return
        name = self.profile.parallel_environment
        known = (ask(["qconf", "-spl"]) or "").split()
        if name not in known:
            yield "parallel environment", f"no {name}; known: {', '.join(known) or 'none'}", False
            return
        rule = _table(ask(["qconf", "-sp", name])).get("allocation_rule", "")
        offered = any(
            name in v.get("pe_list", "").replace(",", " ").split() for v in settings.values()
        )
        if settings and not offered:
            yield "parallel environment", f"{name} is in no pe_list of {', '.join(settings)}", False
        elif rule == "$pe_slots" or rule == str(self.threads):
            yield "parallel environment", f"{name}: all cores on one host", True
        else:
            found = f"{name} spreads cores over hosts (allocation_rule {rule}): take another"
            yield "parallel environment", found, False

    def _check_resources(self) -> Iterator[Check]:
        """Memory and GPUs: resources are the site's own."""
        profile = self.profile
        known = {
            name
            for line in (ask(["qconf", "-sc"]) or "").splitlines()
            if not line.startswith("#")
            for name in line.split()[:2]
        }
        rows = [line.split() for line in (ask(["qhost"]) or "").splitlines()]
        memory_gb = max(
            (_gigabytes(r[7]) for r in rows if len(r) > 7 and r[2].isdigit()), default=0
        )
        resource = profile.memory_resource
        found = f"{profile.memory_gb:g} GiB a task; hosts have up to {memory_gb:.1f}"
        if resource is None:
            yield "memory", f"{found}; not asked for without memory_resource", True
        elif resource not in known:
            yield "memory", f"there is no resource {resource}: set memory_resource", False
        else:
            yield "memory", f"{found}, asked for as {resource}", profile.memory_gb <= memory_gb
        if profile.gpus:
            there = "gpu" in known
            yield "gpus", f"{profile.gpus} a task, asked for as gpu" if there else "no gpu", there

    def _try_out(self) -> tuple[str, bool]:
        """Let Grid Engine look at a task; it is not submitted."""
        with tempfile.TemporaryDirectory() as folder:
            executor = self.make_executor(
                Path(folder),
                threads=self.threads,
                memory_gb=self.profile.memory_gb,
                gpus=self.profile.gpus,
            )
            script = Path(folder) / "task.sh"
            script.write_text("#!/bin/sh\ntrue\n", "utf-8")
            arguments = executor._read_parameters().qsub_arguments()
            works, what = said(["qsub", *arguments, "-w", "v", str(script)])
        return ("could be submitted" if works else f"would be refused: {what}"), works


def _table(listed: str | None) -> dict[str, str]:
    """Names and values of ``qconf``."""
    joined = (listed or "").replace("\\\n", " ")
    pairs = (line.split(None, 1) for line in joined.splitlines() if not line.startswith("#"))
    return {pair[0]: pair[1].strip() for pair in pairs if len(pair) == 2}


def _minutes(limit: str) -> float:
    """Minutes of ``INFINITY``, ``3600`` or ``4:00:00``."""
    first = limit.split(",")[0]
    if not first[:1].isdigit():
        return math.inf
    seconds = 0
    for part in first.split(":"):
        seconds = seconds * 60 + int(part or 0)
    return seconds / 60


def _gigabytes(text: str) -> float:
    """GiB of ``23.5G`` or ``800.0M``."""
    units = {"K": 2.0**-20, "M": 2.0**-10, "G": 1.0, "T": 2.0**10}
    number = re.match(r"[\d.]+", text)
    return float(number[0]) * units.get(text[-1], 2.0**-30) if number else 0.0
