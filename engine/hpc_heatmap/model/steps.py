"""A program done by torch on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from hpc_heatmap.errors import ModelError
from hpc_heatmap.model.program import CONVOLUTION, Program, Step

__all__ = ["Steps"]

#: Results no wider than this are convolved by torch's own kernel: oneDNN's on reordered weights is
#: half as fast on them.
_NARROW_PX = 3


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
