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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import torch

from hpc_heatmap.errors import ModelError, brief

__all__ = ["CONVOLUTION", "INPUT", "Program", "Step", "Steps", "references"]

#: The step whose result is the batch of windows.
INPUT = "input"
#: Our own operator: a convolution (input, weight, bias, stride, padding, dilation, groups) with or
#: without a ReLU on its result.
CONVOLUTION = "convolution"
VERSION = 1

#: Results no wider than this are convolved by torch's own kernel: oneDNN's on reordered weights is
#: half as fast on them.
_NARROW_PX = 3


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


@dataclass
class Steps:
    """A program ready to be done by torch on the CPU.

    Parameters
    ----------
    program
        What to do.
    dtype
        In which numbers: float32, or bfloat16 where the processor has it.
    """

    program: Program
    dtype: torch.dtype = torch.float32
    _weights: dict[str, torch.Tensor] = field(init=False, repr=False)
    _packed: dict[str, torch.Tensor] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._weights = {
            name: torch.from_numpy(np.ascontiguousarray(array)).to(self.dtype)
            if array.dtype == np.float32
            else torch.from_numpy(np.ascontiguousarray(array))
            for name, array in self.program.weights.items()
        }
        self._packed = {}
        for step in self.program.steps:
            if step.op == CONVOLUTION:
                self._pack(step)

    def _pack(self, step: Step) -> None:
        """Lay the weights of a convolution as its kernel wants them, once."""
        _, weight, _, stride, padding, dilation, groups = step.args
        tensor = self._weights[weight["weight"]]
        self._weights[weight["weight"]] = tensor.contiguous(memory_format=torch.channels_last)
        if torch.backends.mkldnn.is_available():
            side = self.program.side_px // 8
            example = [8, tensor.shape[1] * groups, max(side, 16), max(side, 16)]
            self._packed[step.name] = torch._C._nn.mkldnn_reorder_conv2d_weight(
                tensor.to_mkldnn(), padding, stride, dilation, groups, example
            )

    def run(
        self,
        values: dict[str, torch.Tensor],
        start: int = 1,
        release: bool = True,
    ) -> torch.Tensor:
        """Do the steps from `start` on; gives the result of the last.

        Parameters
        ----------
        values
            Results of earlier steps that these need; they are forgotten after their last use.
        start
            Index of the first step to do.
        release
            Whether results are forgotten after their last use.
        """
        steps = self.program.steps
        windows = next(iter(values.values())).shape[0]
        last = {name: k for k, step in enumerate(steps) for name in step.inputs}
        for number in range(start, len(steps)):
            step = steps[number]
            values[step.name] = self.call(step, values.__getitem__, windows)
            if release:
                for name in step.inputs:
                    if last[name] == number:
                        values.pop(name, None)
        return values[steps[-1].name]

    def call(
        self, step: Step, value_of: Callable[[str], torch.Tensor], windows: int
    ) -> torch.Tensor:
        """Do one step."""
        if step.op == CONVOLUTION:
            return self.convolve(step, value_of(step.args[0]["step"]), step.args[4])
        args = self._resolve(step.args, value_of, windows)
        return args[0][args[1]] if step.op == "getitem" else _operator(step.op)(*args)

    def convolve(self, step: Step, x: torch.Tensor, padding: Sequence[int]) -> torch.Tensor:
        """A convolution with a padding of one's own."""
        _, weight, bias, stride, _, dilation, groups = step.args
        offset = None if bias is None else self._weights[bias["weight"]]
        packed = self._packed.get(step.name)
        if packed is None or min(x.shape[2:]) <= _NARROW_PX + packed.shape[3] - 1:
            kernel = self._weights[weight["weight"]]
            result = torch.conv2d(x, kernel, offset, stride, padding, dilation, groups)
            return torch.relu_(result) if step.relu else result
        fused = "relu" if step.relu else "none"
        return torch.ops.mkldnn._convolution_pointwise(
            x, packed, offset, list(padding), stride, dilation, groups, fused, [], ""
        )

    def _resolve(self, tree: Any, value_of: Callable[[str], torch.Tensor], windows: int) -> Any:
        if isinstance(tree, dict):
            if "step" in tree:
                return value_of(tree["step"])
            if "weight" in tree:
                return self._weights[tree["weight"]]
            if "windows" in tree:
                return tree["windows"] * windows
            return getattr(torch, tree["torch"])
        if isinstance(tree, list | tuple):
            return [self._resolve(item, value_of, windows) for item in tree]
        return tree


def _operator(name: str) -> Any:
    """An operator of torch by its name; of `aten` alone."""
    room, function, overload = name.split(".")
    if room != "aten":
        raise ModelError(f"A program may not call {name}.")
    return getattr(getattr(torch.ops.aten, function), overload)


def weight_names(steps: Iterable[Step]) -> set[str]:
    """Names of the weights that steps use."""
    return {name for step in steps for name in references(step.args, "weight")}
