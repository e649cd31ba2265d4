"""The folder of a training: every path in it, its request, and the state to go on from."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hpc_heatmap.errors import FormatError, RunConflictError, brief
from hpc_heatmap.formats.atomic import read_json, write_json, writing

__all__ = ["TrainingFolder"]

KIND = "hpc-heatmap training"


@dataclass(frozen=True)
class TrainingFolder:
    """Files of one training."""

    root: Path

    @property
    def request(self) -> Path:
        """Settings, sources and identity of the patches; exists from the beginning on."""
        return self.root / "training.json"

    @property
    def checkpoint(self) -> Path:
        """State of an unfinished training."""
        return self.root / "checkpoint.pt"

    @property
    def log(self) -> Path:
        """One line an epoch."""
        return self.root / "training_log.csv"

    @property
    def curves(self) -> Path:
        """The log as a picture."""
        return self.root / "learning_curves.png"

    @property
    def descriptor(self) -> Path:
        """The model's descriptor."""
        return self.root / "model.json"

    @property
    def card(self) -> Path:
        """What the model is, what was measured and what it is not for."""
        return self.root / "MODEL_CARD.md"

    @property
    def model(self) -> Path:
        """The model; written last, so a training that has it is done."""
        return self.root / "model.pt2"

    @property
    def unchecked(self) -> Path:
        """The model before it is measured."""
        return self.root / ".unchecked-model.pt2"

    def check(self) -> None:
        """Refuse a folder that holds anything but a training, before any work.

        Raises
        ------
        RunConflictError
            It does.
        """
        if self.root.exists() and not self.root.is_dir():
            raise RunConflictError(f"{self.root} is a file: give a directory with --out.")
        if self.root.is_dir() and not self.request.is_file() and any(self.root.iterdir()):
            raise RunConflictError(
                f"{self.root} holds something else than a training: give a new directory with "
                "--out."
            )

    def claim(self, request: dict[str, Any]) -> None:
        """Write the request, or refuse a folder of another one.

        Raises
        ------
        RunConflictError
            The folder is of another training.
        """
        request = {"format": KIND, "format_version": 1, **request}
        if not self.request.is_file():
            write_json(self.request, request)
            return
        before = read_json(self.request)
        if not isinstance(before, dict) or before.get("format") != KIND:
            raise RunConflictError(f"{self.request} is not the file of a training.")
        different = _differences(before, request)
        if different:
            raise RunConflictError(
                f"{self.root} holds another training ({'; '.join(different[:3])}): give the same "
                "request to go on with it, or a new directory with --out."
            )

    def save_state(self, state: dict[str, Any]) -> None:
        """Keep a trainer's state."""
        with writing(self.checkpoint) as partial:
            torch.save(state, partial)

    def read_state(self) -> dict[str, Any] | None:
        """A trainer's state; None where there is none yet. No code in it is executed.

        Raises
        ------
        FormatError
            The file is damaged.
        """
        if not self.checkpoint.is_file():
            return None
        try:
            state: dict[str, Any] = torch.load(self.checkpoint, weights_only=True)
        except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
            raise FormatError(
                f"{self.checkpoint} cannot be read ({brief(error)}): delete it to train from the "
                "beginning."
            ) from error
        return state


def _differences(before: dict[str, Any], asked: dict[str, Any], prefix: str = "") -> list[str]:
    """What two requests differ in, in words; provenance aside."""
    found = []
    for key in [*before, *(key for key in asked if key not in before)]:
        mine, theirs = before.get(key), asked.get(key)
        if key == "provenance" or mine == theirs:
            continue
        if isinstance(mine, dict) and isinstance(theirs, dict):
            found += _differences(mine, theirs)
        else:
            name = key.replace("_", "-")
            found.append(f"{name} is {_said(mine)}, asked {_said(theirs)}")
    return found


def _said(value: Any) -> str:
    return "not given" if value in (None, []) else str(value)
