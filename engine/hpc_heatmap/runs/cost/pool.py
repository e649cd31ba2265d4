"""The cores that a launch would have, as the simulation sees them."""

from __future__ import annotations

from pathlib import Path

from hpc_heatmap.errors import SchedulerError, SettingsError
from hpc_heatmap.schedulers.local import LocalScheduler
from hpc_heatmap.schedulers.profiles import make_cluster_scheduler, read_profile
from hpc_heatmap.settings import ClusterProfile, LaunchSettings
from hpc_heatmap.simulation import ClusterModel

__all__ = ["pool_of"]

#: Taken for a cluster that is not reached from here and whose profile does not say.
_MAX_ARRAY = 1000


def pool_of(launch: LaunchSettings, cores: int | None = None) -> ClusterModel:
    """Slots and limits of a launch.

    Parameters
    ----------
    launch
        Where the run would go.
    cores
        How many cores it would have. Default: all of this machine, or of the cluster, which must
        answer then.

    Raises
    ------
    SettingsError
        The profile cannot be used, or `cores` are not enough for one task.
    SchedulerError
        The cluster is not reached, and `cores` are not given.
    """
    if launch.is_local:
        here = LocalScheduler(Path("jobs"), "plan", launch.workers or cores)
        return ClusterModel(
            slots_per_node=here.slots,
            task_minutes=launch.task_minutes,
            light_tasks=here.light_tasks,
            max_array=here.max_array,
            max_queued=here.slots,
        )
    profile = read_profile(launch)
    threads, slots, max_array = _shape(profile, cores)
    if cores is not None:
        slots = cores // threads
        if not slots:
            raise SettingsError(
                f"--cores {cores} are not enough for one task of {threads} cores: give more, or "
                "set cores_per_task in the profile."
            )
    return ClusterModel(
        nodes=slots,
        cores_per_task=threads,
        task_minutes=launch.task_minutes,
        max_array=max_array,
        max_queued=profile.max_queued,
        throttle=profile.throttle,
        poll_s=profile.poll_s / 2,
    )


def _shape(profile: ClusterProfile, cores: int | None) -> tuple[int, int, int]:
    """Cores of a task, tasks at once and tasks of an array, from the cluster where it answers."""
    try:
        # The throttle bounds an array; other arrays run beside it.
        unbounded = profile.model_copy(update={"throttle": None})
        scheduler = make_cluster_scheduler(Path("jobs"), "plan", unbounded)
    except SchedulerError as error:
        if cores is None:
            raise SchedulerError(f"{error} Or say with --cores how many it has.") from error
        longest = min(profile.max_array or _MAX_ARRAY, profile.max_queued)
        return profile.cores_per_task or 1, 1, longest
    return scheduler.threads, scheduler.parallel(), scheduler.max_array
