"""All windows of a patch at once: early layers shared, each window's border ring its own.

The result of a shared step is kept in nine parts (:mod:`hpc_heatmap.model.window_parts`). A part is
an array

    (window rows or 1, window columns or 1, height, width, channels)

and each is computed from those of the step before by the step's own operator, with the window's
padding where its border is. So every number is what the window by itself would have given, to
rounding. Rings are found in :mod:`hpc_heatmap.model.sharing`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from hpc_heatmap.model.program import CONVOLUTION, Step
from hpc_heatmap.model.sharing import MAX_POOL, Axes, Sharing, kernels, reaches, rounds_up
from hpc_heatmap.model.steps import Steps
from hpc_heatmap.model.window_parts import End, Piece, Stretch, stretch, width, window_stretch

__all__ = ["SharedWindows"]


_Parts = dict[tuple[End, End], torch.Tensor]


class SharedWindows:
    """Scores the windows of a patch together.

    Parameters
    ----------
    steps
        The network.
    sharing
        Where windows part.
    rest
        What does the steps behind the cut: its result for some windows, (n, channels, height,
        width), to logits. Default: `steps`.
    """

    def __init__(
        self,
        steps: Steps,
        sharing: Sharing,
        rest: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> None:
        self._steps, self._rest = steps, rest or self._step_on
        program = steps.program
        self._cut = next(k for k, s in enumerate(program.steps) if s.name == sharing.cut)
        self._shared = program.steps[: self._cut + 1]
        self._reach = reaches(program)
        self._kernels = {step.name: kernels(step, program) for step in self._shared}
        self._last = {name: k for k, step in enumerate(self._shared) for name in step.inputs}

    def logits(
        self, patch: torch.Tensor, windows: tuple[int, int], stride_px: int, batch_size: int
    ) -> Iterator[torch.Tensor]:
        """Logits of all windows of a patch, row by row, in batches of whole rows.

        Parameters
        ----------
        patch
            (1, 3, height, width), channels last: from the first window's first pixel to the last
            one's last.
        windows
            Rows and columns of windows.
        stride_px
            From one to the next, a multiple of the sharing's jump.
        batch_size
            Windows at once, but for one row at least.
        """
        lattice = _Lattice(windows, stride_px)
        parts = self._share(patch, lattice)
        axes = self._reach[self._shared[-1].name]
        stretches = window_stretch(axes.y), window_stretch(axes.x)
        rows = max(1, batch_size // windows[1])
        for first in range(0, windows[0], rows):
            some = _Lattice((min(rows, windows[0] - first), windows[1]), stride_px, first)
            batch = some.assemble(parts, axes, stretches, 0.0)
            yield self._rest(batch)

    def _step_on(self, batch: torch.Tensor) -> torch.Tensor:
        return self._steps.run({self._shared[-1].name: batch}, self._cut + 1)

    def _share(self, patch: torch.Tensor, lattice: _Lattice) -> _Parts:
        """The parts of the cut's result."""
        values: dict[str, _Parts] = {}
        for number, step in enumerate(self._shared):
            if number == 0:
                whole = patch.permute(0, 2, 3, 1).contiguous()[None]
                values[step.name] = {(End.WHOLE, End.WHOLE): whole}
                continue
            values[step.name] = self._parts_of(step, values, lattice)
            for name in step.inputs:
                if self._last[name] == number:
                    values.pop(name, None)
        return values[self._shared[-1].name]

    def _parts_of(self, step: Step, values: dict[str, _Parts], lattice: _Lattice) -> _Parts:
        axes = self._reach[step.name]
        found: _Parts = {}
        for end_y in End:
            for end_x in End:
                if width(axes.y, end_y) and width(axes.x, end_x):
                    part = self._part_of(step, values, lattice, (end_y, end_x))
                    rows = 1 if end_y is End.WHOLE else lattice.windows[0]
                    planes = part.permute(0, 2, 3, 1).contiguous()
                    found[end_y, end_x] = planes.view(rows, -1, *planes.shape[1:])
        return found

    def _part_of(
        self, step: Step, values: dict[str, _Parts], lattice: _Lattice, ends: tuple[End, End]
    ) -> torch.Tensor:
        """One part of a step's result, (n, channels, height, width)."""
        taken = self._kernels[step.name] or (None, None)
        reach = self._reach[step.name]
        inputs: dict[str, torch.Tensor] = {}
        padding = [0, 0]
        # Where a pool looks beyond the border it finds nothing, not a zero.
        is_max = step.op == MAX_POOL
        for name in step.inputs:
            given = self._reach[name]
            stretches = tuple(
                stretch(given[axis], reach[axis], taken[axis], ends[axis]) for axis in (0, 1)
            )
            padding = [s.padding for s in stretches]
            fill = -torch.inf if is_max else 0.0
            inputs[name] = lattice.assemble(values[name], given, stretches, fill)
        if step.op == CONVOLUTION:
            return self._steps.convolve(step, inputs[step.inputs[0]], padding)
        if taken[0] is not None:
            x = inputs[step.inputs[0]]
            if is_max:
                return self._steps.max_pool(step, x, padding)
            size, stride = list(step.args[1]), [taken[0].stride, taken[1].stride]
            return torch.nn.functional.avg_pool2d(x, size, stride, padding, rounds_up(step))
        return self._steps.call(step, inputs.__getitem__, 1)


@dataclass(frozen=True)
class _Lattice:
    """Windows of a patch, or some rows of them.

    Attributes
    ----------
    windows
        Rows and columns of windows.
    stride_px
        From one to the next.
    first_row
        Number of the first row in the patch.
    """

    windows: tuple[int, int]
    stride_px: int
    first_row: int = 0

    def assemble(
        self, parts: _Parts, given: Axes, stretches: tuple[Stretch, ...], fill: float
    ) -> torch.Tensor:
        """An input from the parts that it is made of, (n, channels, height, width)."""
        pairs = [(y, x) for y in stretches[0].pieces for x in stretches[1].pieces]
        if len(pairs) == 1 and not any(s.own for s in stretches):
            (part,) = (parts[y.end, x.end] for y, x in pairs)
            return part[0].permute(0, 3, 1, 2)
        views = [self._view(parts[y.end, x.end], given, y, x, stretches) for y, x in pairs]
        shape = [*views[0].shape[:2], 0, 0, views[0].shape[4]]
        for axis, taken in enumerate(stretches):
            shape[2 + axis] = taken.length if taken.own else views[0].shape[2 + axis]
        whole = views[0].new_empty(shape)
        _fill_around(whole, stretches, fill)
        for (y, x), view in zip(pairs, views, strict=True):
            height, width = view.shape[2:4]
            whole[:, :, y.target : y.target + height, x.target : x.target + width] = view
        return whole.view(-1, *whole.shape[2:]).permute(0, 3, 1, 2)

    def _view(
        self, part: torch.Tensor, given: Axes, y: Piece, x: Piece, stretches: tuple[Stretch, ...]
    ) -> torch.Tensor:
        """A piece of a part for each window, without copying it."""
        size, stride = list(part.shape), list(part.stride())
        offset = part.storage_offset()
        for axis, piece in enumerate((y, x)):
            if not stretches[axis].own:
                continue
            first = self.first_row if axis == 0 else 0
            if piece.end is End.WHOLE:
                step = self.stride_px // given[axis].jump
                stride[axis] = step * part.stride(2 + axis)
            offset += first * stride[axis] + piece.start * part.stride(2 + axis)
            size[axis], size[2 + axis] = self.windows[axis], piece.length
        return torch.as_strided(part, size, stride, offset)


def _fill_around(whole: torch.Tensor, stretches: tuple[Stretch, ...], fill: float) -> None:
    """Fill the padding of windows that is laid into them; pieces follow each other on an axis."""
    for axis, taken in enumerate(stretches, 2):
        if taken.own:
            first, last = taken.pieces[0], taken.pieces[-1]
            end = last.target + last.length
            whole.narrow(axis, 0, first.target).fill_(fill)
            whole.narrow(axis, end, taken.length - end).fill_(fill)
