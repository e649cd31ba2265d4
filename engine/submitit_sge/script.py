"""The bash script of a job."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from submitit.core.utils import JobPaths

from submitit_sge.parameters import SgeParameters

__all__ = ["CANNOT_WRITE", "make_script"]

#: Exit code of a job whose host cannot write to the folder (EX_CANTCREAT).
CANNOT_WRITE = 73

_PLACEHOLDERS = {"%j": '"$job"', "%A": '"$JOB_ID"', "%a": '"$index"', "%t": "0"}

_HEAD = """\
#!/bin/bash
# submitit counts the tasks of an array from 0, Grid Engine from 1.
job=$JOB_ID index=
if [ "${SGE_TASK_ID:-undefined}" != undefined ]; then
  index=$((SGE_TASK_ID - 1)) job=${JOB_ID}_$((SGE_TASK_ID - 1))
fi
"""


def make_script(
    command: str, folder: Path, parameters: SgeParameters, qsub: Sequence[str] = ()
) -> str:
    """Text of the script that a job runs.

    Parameters
    ----------
    command
        Command line of the worker, quoted.
    folder
        submitit's folder, with its placeholders.
    parameters
        Parameters of the submission.
    qsub
        The command of the submission, kept as a comment.
    """
    paths = JobPaths(folder)
    out, err = _quote(paths.stdout), _quote(paths.stderr)
    lines = [_HEAD]
    if qsub:
        lines.insert(1, "# Submitted with " + repr(shlex.join(qsub))[1:-1] + "\n")
    streams = f">>{out} 2>&1" if parameters.stderr_to_stdout else f">>{out} 2>>{err}"
    lines += [
        f"{{ mkdir -p -- {_quote(paths.folder)} && : >>{out}; }} || exit {CANNOT_WRITE}",
        f"exec {streams}",
        "# Until Python listens to them, these signals must not end the job.",
        "trap '' USR1 USR2",
        "export SUBMITIT_EXECUTOR=sge",
    ]
    if python_path := os.environ.get("PYTHONPATH"):
        lines.append(f"export PYTHONPATH={shlex.quote(python_path)}")
    return "\n".join([*lines, "", *parameters.setup, "", f"exec {command} </dev/null", ""])


def _quote(path: Path) -> str:
    """A path as bash wants it, with submitit's placeholders as bash's variables."""
    pieces = re.split("(%[jAat])", str(path))
    return "".join(_PLACEHOLDERS.get(p) or shlex.quote(p) for p in pieces if p)
