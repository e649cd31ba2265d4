"""Which results neighbouring windows share, and which a window's own border spoils.

Windows of a patch overlap, so their early layers compute the same numbers again and again: a
convolution's result at a place depends on the pixels around it alone, wherever the window begins.
It does not near the border of a window, where the padding comes in. For each step of a program
this module finds out how wide that ring is, on each side, and what it costs to compute a step once
for the whole patch and its ring for each window; :mod:`hpc_heatmap.model.shared_windows` does it.

On each axis a window begins at `k * step` pixels of the patch, and a step with `jump` pixels
between its results has them at the same places for all windows if `jump` divides `step`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from hpc_heatmap.execution import Execution
from hpc_heatmap.model.program import CONVOLUTION, Program, Step, references

__all__ = [
    "CONCATENATION",
    "MAX_POOL",
    "MEAN_POOL",
    "WORTH_SHARING",
    "Axes",
    "Kernel",
    "Reach",
    "Sharing",
    "kernels",
    "leaves_nothing",
    "reaches",
    "rounds_up",
    "share",
    "sharing_at",
    "window_operations",
]

_POINTWISE = {
    "aten.relu.default", "aten.batch_norm.default", "aten.sigmoid.default", "aten.tanh.default",
    "aten.silu.default", "aten.elu.default", "aten.leaky_relu.default", "aten.hardtanh.default",
    "aten.hardswish.default", "aten.hardsigmoid.default", "aten.gelu.default",
    "aten.softplus.default", "aten.mish.default", "aten.clamp.default", "aten.clamp_min.default",
    "aten.relu6.default",
    "aten.add.Tensor", "aten.sub.Tensor", "aten.mul.Tensor", "aten.div.Tensor",
    "aten.maximum.default", "aten.minimum.default",
}  # fmt: skip
CONCATENATION = "aten.cat.default"
MAX_POOL, MEAN_POOL = "aten.max_pool2d.default", "aten.avg_pool2d.default"

#: Work by the memory that is touched, in operations of a convolution each number: measured.
_TOUCH = 20.0
#: Operations that a convolution on few pixels takes for one on many.
_SMALL = 1.3
#: Operations that it takes to put together the input of a number in a ring.
_GATHER = 100.0
#: Operations that the calls of a step take, whatever they do.
_CALLS = 1.5e7
#: Estimated work, as a share of that of windows alone, up to which windows share.
WORTH_SHARING = 0.8
#: Memory for the rings of a patch, bytes.
_MOST_BYTES = 2**30


class Kernel(NamedTuple):
    """What a convolution or pool takes on one axis: size with dilation, stride, padding.

    And its dilation: from one number that it takes to the next.
    """

    size: int
    stride: int
    padding: int
    dilation: int = 1

    @classmethod
    def dilated(cls, taps: int, stride: int, padding: int, dilation: int) -> Kernel:
        """A kernel that takes so many numbers."""
        return cls(dilation * (taps - 1) + 1, stride, padding, dilation)

    def results(self, n: int, ceil: bool = False) -> int:
        """How many results `n` numbers give; with `ceil` the last may look beyond the padding."""
        room = n + 2 * self.padding - self.size
        count = room // self.stride + 1
        if ceil and room % self.stride and count * self.stride < n + self.padding:
            count += 1
        return count


class Reach(NamedTuple):
    """One axis of a step's result in a window.

    Attributes
    ----------
    n
        Results in a window.
    jump
        Pixels from one to the next.
    low, high
        Results at either end that the window's border spoils; between them lies at least one
        that it does not.
    """

    n: int
    jump: int
    low: int
    high: int

    @property
    def ring(self) -> int:
        """Results that the border spoils."""
        return self.low + self.high

    def ahead(self, kernel: Kernel, ceil: bool) -> Reach | None:
        """The same after a convolution or pool; None where its border spoils everything."""
        size, stride, padding, _ = kernel
        room = self.n + 2 * padding - size
        n = kernel.results(self.n, ceil)
        low = -(-(self.low + padding) // stride)
        first_spoilt = (self.n - self.high + padding - size) // stride + 1
        high = n - first_spoilt
        if room < 0 or n - low - high < 1:
            return None
        # What the ring is made of must not reach the ring on the other side.
        low_needs = (low - 1) * stride - padding + size
        high_needs = first_spoilt * stride - padding
        if (low and low_needs > self.n - self.high) or (high and high_needs < self.low):
            return None
        return Reach(n, self.jump * stride, low, high)


class Axes(NamedTuple):
    """The two axes of a step's result: rows, columns."""

    y: Reach
    x: Reach


def kernels(step: Step, program: Program) -> tuple[Kernel, Kernel] | None:
    """What a step takes on the two axes; None for one that looks at no neighbours."""
    args = step.args
    if step.op == CONVOLUTION:
        size = program.weights[args[1]["weight"]].shape[2:]
        stride, padding, dilation = args[3:6]
    elif step.op in {MAX_POOL, MEAN_POOL}:
        size = args[1]
        stride = args[2] if len(args) > 2 and args[2] else size
        padding = args[3] if len(args) > 3 else 0
        dilation = args[4] if step.op == MAX_POOL and len(args) > 4 else 1
    else:
        return None
    y, x = ([_of(value, axis) for value in (size, stride, padding, dilation)] for axis in (0, 1))
    return Kernel.dilated(*y), Kernel.dilated(*x)


def _of(value: Any, axis: int) -> int:
    """The value for an axis, where one may be given for both."""
    return int(value if isinstance(value, int) else value[axis % len(value)])


def rounds_up(step: Step) -> bool:
    """Whether a pool takes what is left over at the end."""
    place = {MAX_POOL: 5, MEAN_POOL: 4}.get(step.op)
    return bool(place and len(step.args) > place and step.args[place])


def reaches(program: Program) -> dict[str, Axes]:
    """The steps whose results windows can share, from the input on, with their rings."""
    whole = Reach(program.side_px, 1, 0, 0)
    known = {program.steps[0].name: Axes(whole, whole)}
    for step in program.steps[1:]:
        inputs = [known[name] for name in step.inputs if name in known]
        if inputs and len(inputs) == len(step.inputs):
            found = _reach_of(step, program, inputs)
            if found is not None:
                known[step.name] = found
    return known


def _reach_of(step: Step, program: Program, inputs: list[Axes]) -> Axes | None:
    """The reach of a step from those of its inputs; None where it is not known."""
    both = kernels(step, program)
    if both is not None:
        if step.op == MEAN_POOL and not _plain_mean(step, both, inputs[0]):
            return None
        y, x = (a.ahead(k, rounds_up(step)) for a, k in zip(inputs[0], both, strict=True))
    elif _is_pointwise(step, program) and len({(a.y[:2], a.x[:2]) for a in inputs}) == 1:
        y, x = _widest([a.y for a in inputs]), _widest([a.x for a in inputs])
    else:
        return None
    return Axes(y, x) if y and x else None


def _is_pointwise(step: Step, program: Program) -> bool:
    """Whether a step does the same at each place, with what is there."""
    if step.op == CONCATENATION:
        return step.args[1:] in {(1,), (-3,)}
    if step.op not in _POINTWISE or len(step.inputs) != len({*step.inputs}):
        return False
    # An array may hold a number for each channel, not one for each place.
    shapes = [program.weights[name].shape for name in references(step.args, "weight")]
    if step.op == "aten.batch_norm.default":
        return len(step.inputs) == 1
    return all(
        (len(shape) < 4 and max(shape, default=1) == 1) or shape[2:] == (1, 1) for shape in shapes
    )


def _plain_mean(step: Step, both: tuple[Kernel, Kernel], given: Axes) -> bool:
    """Whether a mean pool divides by the same number everywhere."""
    args = step.args
    counts_padding = len(args) <= 5 or args[5]
    if not counts_padding and any(k.padding for k in both):
        return False
    if len(args) > 6 and args[6] is not None:
        return False
    return not rounds_up(step) or leaves_nothing(both, given)


def leaves_nothing(both: tuple[Kernel, Kernel], given: Axes) -> bool:
    """Whether kernels take all of what they are given, so that rounding up changes nothing."""
    return all(
        (axis.n + 2 * k.padding - k.size) % k.stride == 0
        for axis, k in zip((given.y, given.x), both, strict=True)
    )


def _widest(axes: list[Reach]) -> Reach | None:
    low, high = max(a.low for a in axes), max(a.high for a in axes)
    n, jump, *_ = axes[0]
    return Reach(n, jump, low, high) if n - low - high >= 1 else None


@dataclass(frozen=True)
class Sharing:
    """Where to cut a program: before, windows share; after, each is on its own.

    Attributes
    ----------
    cut
        Name of the last shared step.
    jump_px
        Windows must begin at multiples of it.
    cost
        Estimated work of a patch of windows, as a share of that of each window on its own.
    """

    cut: str
    jump_px: int
    cost: float


def share(program: Program, stride_px: int, windows: int) -> Sharing | None:
    """The cut that costs least, for patches with windows at a stride.

    Parameters
    ----------
    program
        The network.
    stride_px
        From one window to the next, on both axes.
    windows
        Windows on an axis of a patch.

    Returns
    -------
    Sharing | None
        None where no step can be shared at this stride.
    """
    known = reaches(program)
    alone = [_operations(step, program) for step in program.steps]
    last = {name: k for k, step in enumerate(program.steps) for name in step.inputs}
    best: Sharing | None = None
    shared, needed_until = 0.0, 0
    for number, step in enumerate(program.steps):
        axes = known.get(step.name)
        if axes is None or stride_px % axes.y.jump or stride_px % axes.x.jump:
            break
        patch = _PatchSize(axes, stride_px, windows)
        places = axes.y.n * axes.x.n
        if 4 * step.numbers / places * patch.corners > _MOST_BYTES:
            break
        each = alone[number] / places
        shared += patch.whole * each + _CALLS
        shared += patch.rings * (_SMALL * each + _GATHER * step.numbers / places)
        # Nothing before this step may be needed after it.
        if number > 0 and needed_until <= number:
            rest = sum(alone[number + 1 :]) + _TOUCH * step.numbers
            cost = (shared + windows**2 * rest) / (windows**2 * sum(alone))
            if best is None or cost < best.cost:
                best = Sharing(step.name, max(axes.y.jump, axes.x.jump), cost)
        needed_until = max(needed_until, last.get(step.name, 0))
    return best


def sharing_at(program: Program, execution: Execution, stride_px: int) -> Sharing | None:
    """Where windows part at a stride, as it was chosen; None where they do not share.

    Parameters
    ----------
    program
        The network.
    execution
        What was chosen, for one stride. At others the estimate decides.
    stride_px
        From one window to the next.
    """
    if stride_px == execution.stride_px:
        cut = execution.cut
        return None if cut is None else Sharing(cut, execution.jump_px, execution.cost)
    if not execution.share:
        return None
    found = share(program, stride_px, -(-program.side_px // stride_px))
    return None if found is None or found.cost > WORTH_SHARING else found


class _PatchSize:
    """Places of a step's result in a patch of windows: shared ones, and each window's own."""

    def __init__(self, axes: Axes, stride_px: int, windows: int) -> None:
        y, x = axes
        rows, columns = (a.n + (windows - 1) * stride_px // a.jump for a in axes)
        self.corners = windows**2 * y.ring * x.ring
        self.rings = windows * (y.ring * columns + x.ring * rows) + self.corners
        self.whole = rows * columns


def window_operations(program: Program) -> float:
    """Estimated work of one window, in operations of a convolution."""
    return sum(_operations(step, program) for step in program.steps)


def _operations(step: Step, program: Program) -> float:
    """Estimated work of a step in one window."""
    each = 2 * _TOUCH
    if step.op == CONVOLUTION:
        _, channels, *size = program.weights[step.args[1]["weight"]].shape
        each = _TOUCH + 2.0 * channels * size[0] * size[1]
    elif step.op in {"aten.addmm.default", "aten.mm.default"}:
        matrix = step.args[-1]
        each = 2.0 * program.weights[matrix["weight"]].shape[0] if "weight" in matrix else each
    elif (both := kernels(step, program)) is not None:
        each = _TOUCH + _TOUCH / 2 * both[0].size * both[1].size
    return each * step.numbers
