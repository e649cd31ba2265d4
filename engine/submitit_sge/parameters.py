"""What can be asked for, and how ``qsub`` is told."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from submitit_sge.units import read_seconds

__all__ = ["SgeParameters"]


@dataclass(frozen=True)
class SgeParameters:
    """Parameters of a submission.

    Parameters
    ----------
    job_name
        Name of the job; all but ASCII letters, digits and ``_.-`` become underscores.
    h_rt
        Time limit in seconds or as ``"HH:MM:SS"``; 0 asks for none. submitit's ``timeout_min``.
    signal_delay_s
        Seconds before `h_rt` at which SIGUSR1 is sent (a request for ``s_rt``), so that a function
        with a checkpoint can save its state. 0: never; nor where `h_rt` is not longer than this.
    slots
        Slots on one host. submitit's ``cpus_per_task``.
    pe
        Parallel environment that gives more than one slot of one host (``qconf -spl``).
    nodes, tasks_per_node
        1, there is nothing else.
    mem_gb
        Memory of the whole job in GiB.
    memory_resource
        Resource that stands for memory at this site: ``h_vmem``, ``mem_free``, ``virtual_free`` ...
    memory_per_slot
        Whether that resource is counted per slot, so that `mem_gb` is divided.
    gpus
        Devices. submitit's ``gpus_per_node``.
    gpu_resource
        Resource that stands for them. It is asked for as given, even where a site counts it per
        slot.
    queue, project
        As in ``-q`` and ``-P``.
    tc
        Tasks of an array that may run at once. submitit's ``array_parallelism``.
    hold_jid
        Job ids or names to wait for, whatever becomes of them. Ids of array tasks wait for the
        whole array.
    rerunnable
        Whether a task is started again after its host died; None leaves it to the queue.
    notify
        Whether signals come before suspension (SIGUSR1) and before a kill (SIGUSR2). Cancelling
        then takes as long as the queue's ``notify``.
    export_env
        Whether the whole environment goes along (``-V``). Otherwise PYTHONPATH alone does.
    stderr_to_stdout
        Whether both streams go to one file.
    setup
        Lines of bash that run first in the job.
    extra
        Further arguments of ``qsub``.
    """

    job_name: str = "submitit"
    h_rt: int | str = 300
    signal_delay_s: int = 90
    slots: int = 1
    pe: str | None = None
    nodes: int = 1
    tasks_per_node: int = 1
    mem_gb: float | None = None
    memory_resource: str = "h_vmem"
    memory_per_slot: bool = True
    gpus: int = 0
    gpu_resource: str = "gpu"
    queue: str | None = None
    project: str | None = None
    tc: int | None = None
    hold_jid: int | str | Sequence[int | str] = ()
    rerunnable: bool | None = None
    notify: bool = False
    export_env: bool = False
    stderr_to_stdout: bool = False
    setup: Sequence[str] = ()
    extra: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name in ("nodes", "tasks_per_node"):
            if getattr(self, name) != 1:
                raise ValueError(
                    f"{name}={getattr(self, name)}: a job has one task on one host here."
                )
        for name, least in (("slots", 1), ("tc", 1), ("gpus", 0), ("signal_delay_s", 0)):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < least):
                raise ValueError(f"{name}={value!r}: a whole number from {least} on is needed.")
        for name in ("setup", "extra"):
            if isinstance(getattr(self, name), str):
                raise ValueError(f"{name}={getattr(self, name)!r}: a list of strings is needed.")
        if self.mem_gb is not None and not self.mem_gb > 0:
            raise ValueError(f"mem_gb={self.mem_gb!r}: a positive number is needed.")
        if self.slots > 1 and not self.pe:
            raise ValueError(
                f"{self.slots} slots need a parallel environment that stays on one host: set pe "
                "(AutoExecutor: sge_pe). `qconf -spl` lists them."
            )
        # With more, submitit takes the signal for a preemption and starts the job again for ever.
        most = max(600, self.time_limit_s // 5)
        if self.time_limit_s and self.signal_delay_s > most:
            raise ValueError(
                f"signal_delay_s={self.signal_delay_s}: at most {most} with h_rt={self.h_rt}."
            )

    @property
    def time_limit_s(self) -> int:
        """Time limit in seconds, 0 for none."""
        return read_seconds(self.h_rt)

    @property
    def held(self) -> list[str]:
        """Numbers or names of the jobs to wait for."""
        single = isinstance(self.hold_jid, int | str)
        ids = [self.hold_jid] if single else self.hold_jid
        # Array tasks as submitit names them, 12_3: Grid Engine waits for 12.
        return [re.sub(r"^(\d+)_\d+$", r"\1", str(i)) for i in ids]  # type: ignore[union-attr]

    def resources(self) -> list[str]:
        """Requests for ``-l``."""
        asked = []
        limit = self.time_limit_s
        if limit:
            asked.append(f"h_rt={limit}")
        if 0 < self.signal_delay_s < limit:
            asked.append(f"s_rt={limit - self.signal_delay_s}")
        if self.mem_gb is not None:
            share = self.mem_gb / (self.slots if self.memory_per_slot else 1)
            asked.append(f"{self.memory_resource}={math.ceil(share * 1024)}M")
        if self.gpus:
            asked.append(f"{self.gpu_resource}={self.gpus}")
        return asked

    def qsub_arguments(self, tasks: int | None = None, hold: Sequence[str] = ()) -> list[str]:
        """Arguments of ``qsub``, all but the script.

        Parameters
        ----------
        tasks
            Number of tasks of an array; None for a single job.
        hold
            Further jobs to wait for.
        """
        # The script opens its streams itself: Grid Engine's paths know commas, colons and dollars
        # of their own, and number tasks from 1. Directives in the script are not looked for.
        arguments = ["-terse", "-b", "n", "-C", "", "-S", "/bin/bash"]
        arguments += ["-o", "/dev/null", "-e", "/dev/null", "-N", _clean_name(self.job_name)]
        if tasks is not None:
            arguments += ["-t", f"1-{tasks}"]
            if self.tc is not None:
                arguments += ["-tc", str(self.tc)]
        if asked := self.resources():
            arguments += ["-l", ",".join(asked)]
        if self.slots > 1 and self.pe:
            arguments += ["-pe", self.pe, str(self.slots)]
        for flag, value in (("-q", self.queue), ("-P", self.project)):
            if value:
                arguments += [flag, value]
        if jobs := [*self.held, *hold]:
            arguments += ["-hold_jid", ",".join(jobs)]
        if self.rerunnable is not None:
            arguments += ["-r", "y" if self.rerunnable else "n"]
        if self.notify:
            arguments.append("-notify")
        if self.export_env:
            arguments.append("-V")
        return [*arguments, *self.extra]


def _clean_name(name: str) -> str:
    """A job name that Grid Engine takes."""
    # Its master chokes on names that are not ASCII, and its XML on names with & and <.
    cleaned = re.sub(r"[^A-Za-z0-9_.-]", "_", name)
    return cleaned if re.match("[A-Za-z_]", cleaned) else f"_{cleaned}"
