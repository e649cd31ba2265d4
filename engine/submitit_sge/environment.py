"""What a job knows about itself, and what it does with signals."""

from __future__ import annotations

import os
import signal
import types
from typing import ClassVar, NoReturn

from submitit.core import logger
from submitit.core.job_environment import JobEnvironment, SignalHandler
from submitit.core.utils import DelayedSubmission, JobPaths

__all__ = ["RESCHEDULE", "SgeJobEnvironment"]

#: Exit code at which Grid Engine puts a job back into the queue, under the same id.
RESCHEDULE = 99

_SIGNALS = (signal.SIGUSR1, signal.SIGUSR2)


class SgeJobEnvironment(JobEnvironment):
    """Environment of a running job.

    SIGUSR1 comes before the time limit (``signal_delay_s``) and, with ``notify``, before a
    suspension; SIGUSR2, with ``notify``, before a kill. All mean: save a checkpoint if the function
    has one and go back to the queue, as submitit does it elsewhere.
    """

    _env: ClassVar[dict[str, str]] = {
        "job_id": "JOB_ID",
        "array_job_id": "JOB_ID",
        "array_task_id": "SGE_TASK_ID",
        "num_nodes": "NHOSTS",
        # One task a job: nobody sets these, so that submitit's defaults hold.
        "num_tasks": "SUBMITIT_SGE_NUM_TASKS",
        "node": "SUBMITIT_SGE_NODE",
        "global_rank": "SUBMITIT_SGE_GLOBAL_RANK",
        "local_rank": "SUBMITIT_SGE_LOCAL_RANK",
    }

    @property
    def array_task_id(self) -> str | None:
        """Index in the array from 0, None outside of arrays."""
        task = os.environ.get("SGE_TASK_ID", "undefined")
        return None if task == "undefined" else str(int(task) - 1)

    @property
    def array_job_id(self) -> str | None:
        """Number of the array, None outside of arrays."""
        return None if self.array_task_id is None else self.raw_job_id

    @property
    def slots(self) -> int:
        """Slots that the job was given, so the threads that it may run."""
        return int(os.environ.get("NSLOTS", 1))

    def _handle_signals(self, paths: JobPaths, submission: DelayedSubmission) -> None:
        handler = SignalHandler(self, paths, submission)

        def checkpoint(signum: int, frame: types.FrameType | None) -> None:
            for other in _SIGNALS:  # a second one must not disturb the first one's checkpoint
                signal.signal(other, signal.SIG_IGN)
            handler.checkpoint_and_try_requeue(signum, frame)

        signal.signal(signal.SIGTERM, handler.bypass)
        signal.signal(signal.SIGCONT, handler.bypass)
        for number in _SIGNALS:
            signal.signal(number, checkpoint)

    def _requeue(self, countdown: int) -> NoReturn:
        log = logger.get_logger()
        log.info(f"Back to the queue with exit code {RESCHEDULE} ({countdown} time-outs left)")
        raise SystemExit(RESCHEDULE)
