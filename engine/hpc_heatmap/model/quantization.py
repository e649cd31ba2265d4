"""Which results of a program are kept as bytes, at levels measured on the run's own windows."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch

from hpc_heatmap.model.onnx_graph import Levels
from hpc_heatmap.model.program import CONVOLUTION, INPUT, Program
from hpc_heatmap.model.sharing import CONCATENATION, MAX_POOL
from hpc_heatmap.model.steps import Steps

__all__ = ["find_levels"]

#: Room above the largest number that was seen.
_ROOM = 1.1
#: Windows at once.
_BATCH = 8


def find_levels(
    program: Program, windows: npt.NDArray[np.float32], *, between: bool = False
) -> dict[str, Levels]:
    """Levels of what convolutions take, but for the first one.

    Parameters
    ----------
    program
        The network.
    windows
        Normalised windows, (n, 3, side, side).
    between
        Only of what goes from one convolution to the next. Sums, which residual networks add to
        from end to end, stay as they are: rougher numbers add up in them.
    """
    groups = _groups(program, between)
    lowest: dict[tuple[str, ...], float] = {}
    highest: dict[tuple[str, ...], float] = {}
    with torch.inference_mode():
        steps = Steps(program)
        for first in range(0, len(windows), _BATCH):
            values = {INPUT: torch.from_numpy(windows[first : first + _BATCH])}
            steps.run(values, release=False)
            for members in groups:
                least = min(float(values[name].min()) for name in members)
                most = max(float(values[name].max()) for name in members)
                lowest[members] = min(least, lowest.get(members, 0.0))
                highest[members] = max(most, highest.get(members, 1e-12))
    levels: dict[str, Levels] = {}
    for members in groups:
        low, high = _ROOM * lowest[members], _ROOM * highest[members]
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
