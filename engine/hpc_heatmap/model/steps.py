"""A program done by torch on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from hpc_heatmap.errors import ModelError
from hpc_heatmap.model.max_pool import max_pool
from hpc_heatmap.model.program import CONVOLUTION, Program, Step
from hpc_heatmap.model.sharing import MAX_POOL, kernels, rounds_up
from hpc_heatmap.model.winograd import Winograd, pays

__all__ = ["Steps"]


@dataclass
class Steps:
    """A program ready to be done by torch on the CPU.

    Parameters
    ----------
    program
        What to do.
    dtype
        In which numbers: float32, or bfloat16 where the processor has it.
    winograd
        Whether convolutions of 3 x 3 are done with fewer multiplications where that pays.
    """

    program: Program
    dtype: torch.dtype = torch.float32
    winograd: bool = False
    _weights: dict[str, torch.Tensor] = field(init=False, repr=False)
    _packed: dict[tuple[str, tuple[int, ...]], torch.Tensor] = field(init=False, repr=False)

    _changed: dict[str, Winograd] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._weights = {
            name: self._laid(torch.from_numpy(np.ascontiguousarray(array)))
            for name, array in self.program.weights.items()
        }
        self._packed, self._changed = {}, {}

    def _laid(self, array: torch.Tensor) -> torch.Tensor:
        if array.dtype == torch.float32:
            array = array.to(self.dtype)
        return array.contiguous(memory_format=torch.channels_last) if array.ndim == 4 else array

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
        if step.op == MAX_POOL:
            return self.max_pool(step, value_of(step.args[0]["step"]))
        args = self._resolve(step.args, value_of, windows)
        return args[0][args[1]] if step.op == "getitem" else _operator(step.op)(*args)

    def convolve(self, step: Step, x: torch.Tensor, padding: Sequence[int]) -> torch.Tensor:
        """A convolution with a padding of one's own."""
        _, weight, bias, stride, _, dilation, groups = step.args
        kernel = self._weights[weight["weight"]]
        offset = None if bias is None else self._weights[bias["weight"]]
        plain = (*stride, *dilation, groups) == (1, 1, 1, 1, 1)
        if self.winograd and plain and pays(x.shape, kernel.shape, padding):
            return self._winograd(step, kernel, offset)(x, padding)
        if not torch.backends.mkldnn.is_available():
            result = torch.conv2d(x, kernel, offset, stride, padding, dilation, groups)
            return torch.relu_(result) if step.relu else result
        fused = "relu" if step.relu else "none"
        packed = self._packed_for(step, x.shape, padding)
        return torch.ops.mkldnn._convolution_pointwise(
            x, packed, offset, list(padding), stride, dilation, groups, fused, [], ""
        )

    def _winograd(self, step: Step, kernel: torch.Tensor, offset: torch.Tensor | None) -> Winograd:
        if step.name not in self._changed:
            self._changed[step.name] = Winograd(kernel, offset, step.relu)
        return self._changed[step.name]

    def _packed_for(self, step: Step, shape: torch.Size, padding: Sequence[int]) -> torch.Tensor:
        """Weights of a convolution, laid as its kernel wants them for an input's shape.

        Laid for another shape, they may be laid anew with each call, which can take ten times as
        long as the convolution.
        """
        key = step.name, shape[1:]
        if key not in self._packed:
            _, weight, _, stride, _, dilation, groups = step.args
            self._packed[key] = torch._C._nn.mkldnn_reorder_conv2d_weight(
                self._weights[weight["weight"]].to_mkldnn(),
                list(padding), stride, dilation, groups, list(shape),
            )  # fmt: skip
        return self._packed[key]

    def max_pool(
        self, step: Step, x: torch.Tensor, padding: Sequence[int] | None = None
    ) -> torch.Tensor:
        """A max pool, with a padding of one's own where one is given."""
        given = kernels(step, self.program)
        assert given is not None
        own = padding or [kernel.padding for kernel in given]
        taken = [kernel._replace(padding=p) for kernel, p in zip(given, own, strict=True)]
        return max_pool(x, taken, rounds_up(step))

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
