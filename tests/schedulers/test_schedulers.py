"""The schedulers against their contract."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
from runs.support import workers_of
from schedulers.contract import ProcessSchedulerContract, SchedulerContract, function_classifier

from hpc_heatmap import Run
from hpc_heatmap.schedulers.in_process import InProcessScheduler
from hpc_heatmap.schedulers.local import LocalScheduler


class TestInProcessScheduler(SchedulerContract):
    def make(self, run: Run, slots: int | None = None) -> InProcessScheduler:
        return InProcessScheduler(function_classifier())


class TestLocalScheduler(ProcessSchedulerContract):
    def make(self, run: Run, slots: int | None = None) -> LocalScheduler:
        return LocalScheduler(run.paths.jobs, "session", slots)

    def processes_of(self, run: Run) -> list[psutil.Process]:
        return workers_of(run.root)

    def test_ctrl_c_is_the_masters_alone(self, run: Run) -> None:
        job = self.start_waiting(run, self.make(run))
        try:
            before = self.processes_of(run)
            for process in before:
                process.send_signal(signal.SIGINT)
            time.sleep(0.5)
            assert self.processes_of(run) == before and len(before) == 2
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
            self.make(run).stop_orphans()
            assert [b.poll() for b in bystanders] == [None, None]
        finally:
            for bystander in bystanders:
                bystander.communicate()
