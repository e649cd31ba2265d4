"""The real clusters of this machine: found, or the test is skipped. Nothing of them is imitated."""

from __future__ import annotations

import functools
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hpc_heatmap.schedulers.cluster import ClusterScheduler
from hpc_heatmap.schedulers.profiles import make_cluster_scheduler
from hpc_heatmap.settings import Cluster, ClusterProfile

_ANSWER_S = 20
_ASK = {Cluster.SLURM: ["sinfo", "--noheader"], Cluster.SGE: ["qconf", "-sconf"]}
_SUBMIT = {Cluster.SLURM: "sbatch", Cluster.SGE: "qsub"}


@functools.cache
def why_not(cluster: Cluster) -> str:
    """Why a cluster cannot be used here; empty where it can."""
    if shutil.which(_SUBMIT[cluster]) is None:
        return f"no {_SUBMIT[cluster]} on PATH"
    try:
        subprocess.run(_ASK[cluster], capture_output=True, check=True, timeout=_ANSWER_S)
    except (OSError, subprocess.SubprocessError) as error:
        return f"{cluster.value} does not answer: {error}"
    return ""


def need(cluster: Cluster) -> None:
    """Skip, saying so, where there is no such cluster."""
    if reason := why_not(cluster):
        pytest.skip(reason)


def output(*command: str) -> str:
    """What a command of a scheduler says."""
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def scheduler(jobs: Path, cluster: Cluster, session: str = "session", **keys: Any) -> Any:
    """A scheduler for short tasks of one core."""
    values = {"cores_per_task": 1, "memory_gb": 0.5, "time_minutes": 15, "poll_s": 0.3}
    made: ClusterScheduler = make_cluster_scheduler(
        jobs, session, ClusterProfile(cluster=cluster, **(values | keys))
    )
    return made


def submit_limit(cluster: Cluster) -> int:
    """Jobs that a user may submit; 0 for any number."""
    if cluster is Cluster.SLURM:
        said = output("sacctmgr", "--noheader", "--parsable2", "show", "qos", "format=MaxSubmitPU")
        return int(said.split()[0]) if said.split() else 0
    words = output("qconf", "-sconf").split()
    return int(words[words.index("max_u_jobs") + 1])
