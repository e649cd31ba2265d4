"""Which results of a program are kept as bytes, at levels measured on the run's own windows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt
import torch

from hpc_heatmap.model.onnx_graph import Levels
from hpc_heatmap.model.program import CONVOLUTION, INPUT, Program
from hpc_heatmap.model.sharing import CONCATENATION, MAX_POOL
from hpc_heatmap.model.steps import Steps
from hpc_heatmap.model.torch import several_threads

__all__ = ["find_levels", "find_ranges"]

#: Room above the largest number that was seen.
_ROOM = 1.1
#: Windows at once.
_BATCH = 8


def find_ranges(
    program: Program, windows: npt.NDArray[np.float32]
) -> dict[str, tuple[float, float]]:
    """The smallest and the largest number of each result that convolutions may take.

    Parameters
    ----------
    program
        The network.
    windows
        Normalised windows, (n, 3, side, side).
    """
    names = {name for members in _groups(program, False) for name in members}
    ranges = dict.fromkeys(names, (0.0, 1e-12))
    with torch.inference_mode(), several_threads():
        steps = Steps(program)
        for first in range(0, len(windows), _BATCH):
            batch = torch.from_numpy(windows[first : first + _BATCH])
            values = {INPUT: batch.contiguous(memory_format=torch.channels_last)}
            steps.run(values, release=False)
            for name, (lowest, highest) in ranges.items():
                least, most = values[name].aminmax()
                ranges[name] = min(lowest, float(least)), max(highest, float(most))
    return ranges


def find_levels(
    program: Program, ranges: Mapping[str, tuple[float, float]], *, between: bool = False
) -> dict[str, Levels]:
    """Levels of what convolutions take, but for the first one.

    Parameters
    ----------
    program
        The network.
    ranges
        What :func:`find_ranges` gave.
    between
        Only of what goes from one convolution to the next. Sums, which residual networks add to
        from end to end, stay as they are: rougher numbers add up in them.
    """
    levels: dict[str, Levels] = {}
    for members in _groups(program, between):
        low = _ROOM * min(ranges[name][0] for name in members)
        high = _ROOM * max(ranges[name][1] for name in members)
        found = Levels(high / 255, 0) if low == 0 else Levels(max(-low, high) / 127, 128)
        levels |= dict.fromkeys(members, found)
    return levels


def _groups(program: Program, between: bool) -> list[tuple[str, ...]]:
    """Steps that have the same levels, since pools and concatenations pass bytes on."""
    ops = {step.name: step.op for step in program.steps}
    taken = {s.inputs[0] for s in program.steps if s.op == CONVOLUTION} - {INPUT}
    if between:
        return [(name,) for name in ops if name in taken and ops[name] == CONVOLUTION]
    groups: list[set[str]] = []
    for step in reversed(program.steps):
        passes_on = step.op in {MAX_POOL, CONCATENATION} and INPUT not in step.inputs
        if step.name in taken and (passes_on or step.op not in {MAX_POOL, CONCATENATION}):
            same = {step.name, *(step.inputs if passes_on else ())}
            taken |= same
            groups = _merged(groups, same)
    return [tuple(sorted(group)) for group in groups]


def _merged(groups: Iterable[set[str]], new: set[str]) -> list[set[str]]:
    """Groups with another one, as one where they meet."""
    apart = []
    for group in groups:
        if group & new:
            new = new | group
        else:
            apart.append(group)
    return [*apart, new]
