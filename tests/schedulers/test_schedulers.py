"""The schedulers of this machine against their contract."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from runs.support import wait_until, workers_of
from schedulers.contract import ProcessSchedulerContract, SchedulerContract, function_classifier

from hpc_heatmap import Run
from hpc_heatmap.schedulers.in_process import InProcessScheduler
from hpc_heatmap.schedulers.local import LocalScheduler


class TestInProcessScheduler(SchedulerContract):
    def make(self, run: Run, session: str = "session") -> InProcessScheduler:
        return InProcessScheduler(function_classifier())


class TestLocalScheduler(ProcessSchedulerContract):
    def make(self, run: Run, session: str = "session") -> LocalScheduler:
        return LocalScheduler(run.paths.jobs, session)

    def test_slots_are_bounded(self, run: Run) -> None:
        assert LocalScheduler(run.paths.jobs, "session", 3).slots == 3
        assert self.make(run).slots == len(os.sched_getaffinity(0))

    def test_ctrl_c_is_the_masters_alone(self, run: Run) -> None:
        job = self.start_waiting(run, self.make(run))
        try:
            # Controller and worker; on a busy machine one of them may be late.
            wait_until(lambda: len(workers_of(run.root)) == 2, 60)
            before = workers_of(run.root)
            for process in before:
                process.send_signal(signal.SIGINT)
            time.sleep(0.5)
            assert workers_of(run.root) == before and len(before) == 2
        finally:
            job.cancel()

    def test_other_programs_that_look_at_jobs_live_on(self, run: Run, tmp_path: Path) -> None:
        log = run.paths.jobs / "session" / "1_0_log.out"
        other = tmp_path / "other" / "jobs" / "session"
        wait = "import sys; sys.stdin.read()"
        bystanders = [
            subprocess.Popen([sys.executable, "-c", wait, *arguments], stdin=subprocess.PIPE)
            for arguments in (
                ["tail", str(log)],
                ["submitit.core._submit", str(other)],
            )
        ]
        try:
            self.make(run).adopt()
            assert [b.poll() for b in bystanders] == [None, None]
        finally:
            for bystander in bystanders:
                bystander.communicate()
