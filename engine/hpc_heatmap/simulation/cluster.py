"""The cluster of a simulation: nodes, limits, delays and faults."""

from __future__ import annotations

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from hpc_heatmap.settings import Settings

__all__ = ["ClusterModel"]


class ClusterModel(Settings):
    """Nodes, limits, delays and faults. The defaults are an ideal cluster, without any."""

    nodes: PositiveInt = 1
    """Nodes."""

    slots_per_node: PositiveInt = 1
    """Tasks that a node runs at once."""

    cores_per_task: PositiveInt = 1
    """Cores of a task."""

    task_minutes: PositiveFloat = 2.0
    """How long a scoring task should last: groups are packed to this length."""

    light_tasks: bool = False
    """Whether tasks are cut short, as where workers stay."""

    max_array: PositiveInt = 1000
    """Tasks in one array at most."""

    max_queued: PositiveInt = 1_000_000
    """Tasks that wait or run at once at most."""

    throttle: PositiveInt | None = None
    """Tasks of one array that run at once."""

    start_s: NonNegativeFloat = 0.0
    """From a slot's assignment to the task's own clock: the scheduler's launch, the interpreter."""

    end_s: NonNegativeFloat = 0.0
    """From the end of the task's own clock to its slot being free."""

    model_s: NonNegativeFloat = 0.0
    """Loading the model, once a scoring task, by the task's own clock."""

    dispatch_s: NonNegativeFloat = 0.0
    """Seconds of the scheduler for each task that it starts; it starts one at a time."""

    submit_s: NonNegativeFloat = 0.0
    """Seconds of the master for submitting an array, and as much again for a thousand tasks."""

    master_task_s: NonNegativeFloat = 0.0
    """Seconds of the master for each task that has ended."""

    poll_s: NonNegativeFloat = 0.0
    """Seconds until the master sees that a task has ended."""

    queue_wait_s: NonNegativeFloat = 0.0
    """Mean time that an array waits before others let its first task start (exponential)."""

    straggler_share: float = Field(default=0.0, ge=0, le=1)
    """Share of tasks on slow hardware."""

    straggler_factor: float = Field(default=3.0, ge=1)
    """How much longer these take."""

    spread: NonNegativeFloat = 0.0
    """Spread of the tasks' times around what is expected (sigma of a log-normal of mean 1)."""

    node_mtbf_h: PositiveFloat | None = None
    """Mean time between failures of one node; its tasks start anew elsewhere."""

    repair_s: NonNegativeFloat = 600.0
    """How long a node that failed is away."""

    kill_s: NonNegativeFloat = 60.0
    """Until the scheduler sees that a node is gone and queues its tasks again."""

    bandwidth_bytes_per_s: PositiveFloat | None = None
    """Of the whole file system; without limit where not given."""

    client_bytes_per_s: PositiveFloat = 1e9
    """What one task reads at most, a second."""

    seed: NonNegativeInt = 0
    """Of all that is random."""

    @property
    def slots(self) -> int:
        """Tasks that run at once."""
        return self.nodes * self.slots_per_node

    @property
    def cores(self) -> int:
        """Cores in use when every slot has a task."""
        return self.slots * self.cores_per_task
