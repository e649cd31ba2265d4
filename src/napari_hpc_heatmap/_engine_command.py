"""The engine's commands as processes of their own.

Models are loaded and runs are planned outside of napari: the window does not wait for it, and a run
belongs to no window.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpc_heatmap.errors import HpcHeatmapError

__all__ = ["CommandError", "Request", "run_command"]

#: Processes may outlive what started them: Popen warns of a child that is forgotten.
_started: list[subprocess.Popen[str]] = []


class CommandError(HpcHeatmapError):
    """What a command of the engine said when it could not do what was asked."""


@dataclass(frozen=True)
class Request:
    """What a user asks for in the dock Slides and Runs.

    Attributes
    ----------
    slides
        Files and folders.
    model
        The model file.
    options
        Settings by their names; what is not there has its default.
    """

    slides: tuple[str, ...]
    model: str
    options: tuple[tuple[str, str], ...] = ()

    @property
    def problem(self) -> str:
        """What is still to be given, empty where nothing is."""
        if not self.slides:
            return "Add slides first."
        return "" if self.model else "Choose a model file."

    def arguments(self) -> list[str]:
        """Arguments that `run` and `plan` share."""
        named = [f"--{name.replace('_', '-')}={value}" for name, value in self.options]
        return [*self.slides, f"--model={self.model}", *named]

    def launch(self, out: str) -> None:
        """Plan the run and give it to a master that outlives this process.

        Raises
        ------
        CommandError
            The engine refuses, in one sentence.
        """
        run_command(["run", *self.arguments(), f"--out={out}", "--detach", "--quiet"])

    def cost(self) -> Mapping[str, Any]:
        """What the run would cost, as `plan --json` says.

        Raises
        ------
        CommandError
            The engine refuses, in one sentence.
        """
        answer = run_command(["plan", *self.arguments(), "--json", "--seconds=20", "--no-choices"])
        found: Mapping[str, Any] = json.loads(answer)
        return found


def run_command(arguments: Sequence[str]) -> str:
    """Run `hpc-heatmap` to its end; gives what it printed.

    Raises
    ------
    CommandError
        It ended with an error; the message is its own.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "hpc_heatmap", *arguments],
        cwd=Path.home(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Ctrl-C in napari's terminal is not meant for it.
        start_new_session=True,
    )
    _started.append(process)
    out, errors = process.communicate()
    _started.remove(process)
    if process.returncode != 0:
        lines = [line for line in errors.splitlines() if line.strip()] or [
            f"hpc-heatmap {arguments[0]} ended with {process.returncode}."
        ]
        said = [line for line in lines if line.startswith("hpc-heatmap: ")] or lines[-1:]
        raise CommandError(" ".join(line.removeprefix("hpc-heatmap: ") for line in said))
    return out
