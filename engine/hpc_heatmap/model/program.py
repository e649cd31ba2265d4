"""A network as a list of steps: what its graph calls, with batch norms folded into convolutions.

A program is made from a model once, when a run is planned (:mod:`hpc_heatmap.model.capture`), and
kept in the run as ``program.npz``: numbers and names of operators, no code. Tasks load it in a
tenth of the time of the model. Its scores differ from the model's in their last digits, so it is
used by all tasks of a run or by none.

Arguments of a step are plain values as in JSON; three dictionaries stand for what is known later:
``{"step": name}`` is the result of another step, ``{"weight": name}`` an array of the program,
``{"windows": k}`` the number of windows in the batch, times k.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from hpc_heatmap.errors import ModelError, brief

__all__ = [
    "CONVOLUTION",
    "INPUT",
    "CaptureError",
    "Program",
    "Step",
    "references",
    "weight_names",
]

#: The step whose result is the batch of windows.
INPUT = "input"
#: Our own operator: a convolution (input, weight, bias, stride, padding, dilation, groups) with or
#: without a ReLU on its result.
CONVOLUTION = "convolution"
VERSION = 1


class CaptureError(Exception):
    """A network cannot be written as a program; says why."""


@dataclass(frozen=True)
class Step:
    """One call.

    Attributes
    ----------
    name
        What its result is called.
    op
        `CONVOLUTION`, ``getitem``, or an operator of torch such as ``aten.relu.default``.
    args
        Arguments in order.
    relu
        Whether a convolution ends with a ReLU.
    numbers
        Numbers in its result for one window; 0 for what is no array.
    """

    name: str
    op: str
    args: tuple[Any, ...] = ()
    relu: bool = False
    numbers: int = 0

    @property
    def inputs(self) -> list[str]:
        """Names of the steps whose results it takes."""
        return list(references(self.args, "step"))


def references(tree: Any, kind: str) -> Iterator[Any]:
    """What the arguments of a step refer to: kind is ``step``, ``weight`` or ``windows``."""
    if isinstance(tree, dict):
        if kind in tree:
            yield tree[kind]
    elif isinstance(tree, list | tuple):
        for item in tree:
            yield from references(item, kind)


@dataclass(frozen=True)
class Program:
    """Steps in an order in which they can be done; the last one gives the logits.

    Attributes
    ----------
    steps
        The first is the input.
    weights
        Float32 arrays by name.
    side_px
        Side of the windows that it was made for.
    """

    steps: tuple[Step, ...]
    weights: Mapping[str, npt.NDArray[Any]]
    side_px: int

    def save(self, file: BinaryIO | Path) -> None:
        """Write the program as ``.npz``."""
        steps = [asdict(step) for step in self.steps]
        said = {"version": VERSION, "side_px": self.side_px, "steps": steps}
        header = np.frombuffer(json.dumps(said).encode(), np.uint8)
        arrays: dict[str, Any] = {f"w.{name}": array for name, array in self.weights.items()}
        np.savez(file, header=header, **arrays)

    @classmethod
    def load(cls, path: Path) -> Program:
        """Read a program.

        Raises
        ------
        ModelError
            It is missing, damaged, or of another version.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                said = json.loads(file["header"].tobytes())
                weights = {n[2:]: file[n] for n in file.files if n.startswith("w.")}
            if said["version"] != VERSION:
                raise ValueError(f"version {said['version']}")
            steps = tuple(Step(**{**s, "args": tuple(s["args"])}) for s in said["steps"])
            return cls(steps, weights, said["side_px"])
        except Exception as error:
            raise ModelError(f"{path} is no program of a network ({brief(error)}).") from error


def weight_names(steps: Iterable[Step]) -> set[str]:
    """Names of the weights that steps use."""
    return {name for step in steps for name in references(step.args, "weight")}
