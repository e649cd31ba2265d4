"""Submission."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from submitit.core import core, plugins
from submitit.core.utils import DelayedSubmission, FailedSubmissionError, JobPaths

from submitit_sge.job import SgeJob
from submitit_sge.parameters import SgeParameters
from submitit_sge.script import make_script

__all__ = ["SgeExecutor"]

_DEFAULT_MAX_TASKS = 75_000  # Grid Engine's own
_NO_LIMIT_MIN = 10 * 366 * 24 * 60  # what submitit is told of a job without a time limit


class SgeExecutor(core.PicklingExecutor):
    """Submits functions to Grid Engine.

    An array is one job ``-t 1-N``. One that is larger than the cluster's ``max_aj_tasks`` becomes
    several; with `tc` each waits for the one before, so that the limit holds for all together.

    Parameters
    ----------
    folder
        Where pickles and logs go, on a file system that the hosts share.
    max_num_timeout
        How often a function with a checkpoint may run into its time limit.
    max_pickle_size_gb
        Largest size of all pickles of a submission.
    python
        Shell command for Python; default: this interpreter.

    Raises
    ------
    RuntimeError
        Grid Engine is not on PATH, or this package is not installed, so that jobs could not find
        their environment.
    """

    job_class = SgeJob

    def __init__(
        self,
        folder: str | Path,
        max_num_timeout: int = 3,
        max_pickle_size_gb: float = 1.0,
        python: str | None = None,
    ) -> None:
        super().__init__(folder, max_num_timeout, max_pickle_size_gb)
        self.python = shlex.quote(sys.executable) if python is None else python
        if self.affinity() < 0:
            raise RuntimeError("qsub and qconf are not on PATH: is this a Grid Engine host?")
        if self.name() not in plugins.get_job_environments():
            raise RuntimeError("submitit does not find submitit_sge's entry points: install it.")

    @classmethod
    def affinity(cls) -> int:
        """2 on a host with Grid Engine, -1 elsewhere."""
        # Other schedulers have a qsub too, none has this qconf.
        return 2 if shutil.which("qsub") and shutil.which("qconf") else -1

    @classmethod
    def _equivalence_dict(cls) -> core.EquivalenceDict:
        return {
            "name": "job_name",
            "timeout_min": "h_rt",
            "mem_gb": "mem_gb",
            "nodes": "nodes",
            "cpus_per_task": "slots",
            "gpus_per_node": "gpus",
            "tasks_per_node": "tasks_per_node",
        }

    @classmethod
    def _valid_parameters(cls) -> set[str]:
        return {f.name for f in fields(SgeParameters)} | {"array_parallelism"}

    def _convert_parameters(self, params: dict[str, Any]) -> dict[str, Any]:
        params = dict(params)
        if (minutes := params.pop("timeout_min", None)) is not None:
            params.setdefault("h_rt", round(60 * minutes))
        if "array_parallelism" in params:
            params["tc"] = params.pop("array_parallelism")
        return super()._convert_parameters(params)

    def _internal_update_parameters(self, **kwargs: Any) -> None:
        """Set parameters: those of `SgeParameters`, or submitit's shared names.

        Raises
        ------
        ValueError
            There is no such parameter, or not with this value.
        """
        kwargs = self._convert_parameters(kwargs)
        valid = {f.name: f.default for f in fields(SgeParameters)}
        if unknown := sorted(set(kwargs) - set(valid)):
            known = "\n  - ".join(f"{k} (default: {v!r})" for k, v in sorted(valid.items()))
            raise ValueError(f"Unavailable parameters: {unknown}. Valid are:\n  - {known}")
        SgeParameters(**{**self.parameters, **kwargs})
        self.parameters.update(kwargs)

    def _internal_process_submissions(
        self, delayed_submissions: list[DelayedSubmission]
    ) -> list[core.Job[Any]]:
        parameters = self._read_parameters()
        array = len(delayed_submissions) > 1
        size = read_max_tasks() if array else 1
        jobs: list[core.Job[Any]] = []
        pickles: list[Path] = []
        scripts: list[Path] = []
        try:
            self._dump(delayed_submissions, parameters, pickles)
            hold: list[str] = []
            for start in range(0, len(pickles), size):
                chunk = pickles[start : start + size]
                tasks = len(chunk) if array else None
                scripts.append(self._folder / f".submission_file_{uuid.uuid4().hex}.sh")
                number = self._qsub(scripts[-1], parameters, tasks, hold)
                hold = [number] if parameters.tc is not None else []
                ids = [f"{number}_{i}" for i in range(len(chunk))] if array else [number]
                new: list[core.Job[Any]] = [SgeJob(self.folder, job_id) for job_id in ids]
                jobs += new
                new[0].paths.move_temporary_file(scripts[-1], "submission_file")
                for job, pickle in zip(new, chunk, strict=True):
                    job.paths.move_temporary_file(pickle, "submitted_pickle")
        except BaseException:
            SgeJob.cancel_all(jobs, check=False)
            for path in [*pickles, *scripts, *(job.paths.submitted_pickle for job in jobs)]:
                path.unlink(missing_ok=True)
            raise
        return jobs

    def _read_parameters(self) -> SgeParameters:
        return SgeParameters(**self.parameters)

    def _dump(
        self,
        submissions: Sequence[DelayedSubmission],
        parameters: SgeParameters,
        pickles: list[Path],
    ) -> None:
        """Write the pickles and append their paths to `pickles`, also of those half written."""
        self._folder.mkdir(parents=True, exist_ok=True)
        minutes = -(-parameters.time_limit_s // 60) or _NO_LIMIT_MIN
        for number, submission in enumerate(submissions):
            submission.set_timeout(minutes, self.max_num_timeout)
            pickles.append(self._folder / f"{uuid.uuid4().hex}.pkl")
            submission.dump(pickles[-1])
            size = len(submissions) * pickles[-1].stat().st_size / 1024**3
            if number == 0 and size > self.max_pickle_size_gb:
                raise RuntimeError(
                    f"About {size:.2f} GB would be pickled for {len(submissions)} jobs: pass paths "
                    f"instead of data, or raise max_pickle_size_gb ({self.max_pickle_size_gb})."
                )

    def _qsub(
        self, script: Path, parameters: SgeParameters, tasks: int | None, hold: Sequence[str]
    ) -> str:
        """Write the script, submit it as a job or an array, and return its number."""
        command = ["qsub", *parameters.qsub_arguments(tasks, hold), str(script)]
        text = make_script(self._submitit_command_str, self.folder, parameters, command)
        script.write_text(text, encoding="utf-8", errors="surrogateescape")
        self._throttle()
        self._last_job_submitted = time.time()
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        if done.returncode:
            said = " ".join((done.stderr + done.stdout).replace("Exiting.", "").split())
            raise FailedSubmissionError(f"qsub refused the job: {said}")
        return self._get_job_id_from_submission_command(done.stdout)

    @property
    def _folder(self) -> Path:
        """Where files wait for their job's number."""
        return JobPaths.get_first_id_independent_folder(self.folder)

    @property
    def _submitit_command_str(self) -> str:
        return f"{self.python} -u -m submitit.core._submit {shlex.quote(str(self.folder))}"

    def _num_tasks(self) -> int:
        return 1

    def _make_submission_file_text(self, command: str, uid: str) -> str:
        return make_script(command, self.folder, self._read_parameters())

    def _make_submission_command(self, submission_file_path: Path) -> list[str]:
        arguments = self._read_parameters().qsub_arguments()
        return ["qsub", *arguments, str(submission_file_path)]

    @staticmethod
    def _get_job_id_from_submission_command(string: bytes | str) -> str:
        """Job number in the output of ``qsub -terse``: ``12`` or ``12.1-50:1``."""
        text = string if isinstance(string, str) else string.decode(errors="replace")
        # Last, because a site's submission script may say something first.
        found = re.findall(r"^(\d+)(?:\.\d+-\d+:\d+)?\s*$", text, flags=re.MULTILINE)
        if not found:
            raise FailedSubmissionError(f"qsub gave no job number but {text!r}.")
        return str(found[-1])


def read_max_tasks() -> int:
    """Most tasks that an array may have here (``max_aj_tasks``)."""
    try:
        said = subprocess.run(["qconf", "-sconf"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return _DEFAULT_MAX_TASKS
    found = re.search(r"^max_aj_tasks\s+(\d+)\s*$", said.stdout, flags=re.MULTILINE)
    if found is None:
        return _DEFAULT_MAX_TASKS
    return int(found[1]) or sys.maxsize  # 0 is no limit
