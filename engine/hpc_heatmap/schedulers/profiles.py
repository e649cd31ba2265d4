"""Cluster profiles: what a site needs, in TOML."""

from __future__ import annotations

import tomllib
from pathlib import Path

from pydantic import ValidationError

from hpc_heatmap.errors import SettingsError
from hpc_heatmap.schedulers.cluster import ClusterScheduler
from hpc_heatmap.settings import Cluster, ClusterProfile, LaunchSettings, settings_error

__all__ = ["make_cluster_scheduler", "read_profile"]


def make_cluster_scheduler(jobs: Path, session: str, profile: ClusterProfile) -> ClusterScheduler:
    """The scheduler of a profile.

    Raises
    ------
    SchedulerError
        It is not on this machine.
    """
    if profile.cluster is Cluster.SGE:
        from hpc_heatmap.schedulers.sge import SgeScheduler

        return SgeScheduler(jobs, session, profile)
    from hpc_heatmap.schedulers.slurm import SlurmScheduler

    return SlurmScheduler(jobs, session, profile)


def read_profile(launch: LaunchSettings) -> ClusterProfile:
    """The profile of a launch: its file, or defaults for its cluster.

    Raises
    ------
    SettingsError
        The file is missing, is not TOML, or holds what it should not.
    """
    if launch.profile is None:
        return ClusterProfile(cluster=launch.cluster)
    profile = _read(launch.profile)
    if launch.cluster is not Cluster.LOCAL and launch.cluster is not profile.cluster:
        raise SettingsError(
            f"{launch.profile} is a profile for {profile.cluster.value}, but --cluster is "
            f"{launch.cluster.value}: give one that fits."
        )
    return profile


def _read(path: Path) -> ClusterProfile:
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise SettingsError(f"There is no profile {path}: check --profile.") from error
    except ValueError as error:
        raise SettingsError(f"{path} is not TOML ({error}).") from error
    try:
        return ClusterProfile(**values)
    except ValidationError as error:
        raise settings_error(error, path) from error
