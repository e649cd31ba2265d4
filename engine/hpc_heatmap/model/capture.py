"""From a network that torch has loaded to a :class:`Program`: what it calls, and nothing else.

The network is run twice on noise, with different numbers of windows, and every operator that it
calls is written down. What differs between the two is the number of windows; a network that does
anything else with it is not captured.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import torch
from torch.fx.experimental.proxy_tensor import make_fx

from hpc_heatmap.model.program import (
    CONVOLUTION,
    INPUT,
    CaptureError,
    Program,
    Step,
    weight_names,
)

__all__ = ["capture"]

#: Numbers of windows of the two runs.
_WINDOWS = (3, 5)
#: Operators that give more than one result, of which only the first is used, by a plainer one.
_FIRST_OF = {
    "aten.max_pool2d_with_indices.default": "aten.max_pool2d.default",
    "aten.native_batch_norm.default": "aten.batch_norm.default",
    "aten._native_batch_norm_legit_no_training.default": "aten.batch_norm.default",
    "aten.cudnn_batch_norm.default": "aten.batch_norm.default",
}
#: Steps that change nothing when a network is used.
_NOTHING = {
    "aten.detach.default",
    "aten.alias.default",
    "aten.lift_fresh_copy.default",
    "aten.clone.default",
}
#: Operators that turn weights round, which is done now.
_TURNS = {"aten.t.default", "aten.transpose.int", "aten.permute.default"}
#: Operators that want their input to lie plane by plane, by those that do not.
_ANY_LAYOUT = {
    "aten.view.default": "aten.reshape.default",
    "aten._unsafe_view.default": "aten.reshape.default",
}
_CONVOLUTIONS = {"aten._convolution.default", "aten.convolution.default"}


def capture(module: Any, side_px: int) -> Program:
    """Write down what a network does with windows of a size.

    Parameters
    ----------
    module
        Batch (n, 3, side, side) to logits; a module of torch.export, TorchScript or torch.nn.
    side_px
        Side of the windows.

    Raises
    ------
    CaptureError
        It cannot be written down: it does not do the same for every number of windows, or it
        uses what a program does not hold.
    """
    graphs = [_traced(module, side_px, n) for n in _WINDOWS]
    weights: dict[str, torch.Tensor] = {}
    lists = [_steps(graph, weights) for graph in graphs]
    if not _alike(*lists):
        raise CaptureError("it does not do the same for every number of windows")
    steps = [_merged(a, b) for a, b in zip(*lists, strict=True)]
    steps = _fused(_folded(_plainer(steps), weights))
    used = weight_names(steps)
    arrays = {name: w.detach().numpy() for name, w in weights.items() if name in used}
    return Program(tuple(steps), arrays, side_px)


def _traced(module: Any, side_px: int, windows: int) -> torch.fx.GraphModule:
    generator = torch.Generator().manual_seed(windows)
    batch = torch.randn(windows, 3, side_px, side_px, generator=generator)
    try:
        with torch.no_grad(), torch.jit.optimized_execution(False):
            traced = make_fx(lambda x: _first(module(x)))(batch)
    except Exception as error:
        raise CaptureError(f"torch cannot trace it ({type(error).__name__})") from error
    traced.graph.eliminate_dead_code()
    return traced


def _first(output: Any) -> Any:
    return output[0] if isinstance(output, tuple | list) else output


def _steps(traced: torch.fx.GraphModule, weights: dict[str, torch.Tensor]) -> list[Step]:
    """The nodes of a graph as steps; what depends on weights alone is computed now."""
    steps, names, constants = [], {}, {}
    for node in traced.graph.nodes:
        if node.op == "placeholder":
            names[node] = INPUT
            steps.append(Step(INPUT, INPUT, numbers=_numbers(node)))
        elif node.op == "get_attr":
            constants[node] = _attribute(traced, node.target)
        elif node.op == "call_function":
            op = "getitem" if "getitem" in str(node.target) else str(node.target)
            if op in _TURNS and node.args[0] in constants:
                constants[node] = node.target(constants[node.args[0]], *node.args[1:])
                continue
            options = {k for k, v in node.kwargs.items() if v is not None}
            if options - ({"memory_format"} if op == "aten.clone.default" else set()):
                raise CaptureError(f"{op} has options that a program does not hold")
            names[node] = f"s{len(steps)}"
            encode = _Encoder(names, constants, weights)
            args = [encode(a) for a in node.args]
            steps.append(Step(names[node], op, tuple(args), numbers=_numbers(node)))
        elif node.op == "output":
            result = node.args[0]
            if names.get(result) != steps[-1].name:
                raise CaptureError("its result is not what it computes last")
    return steps


def _numbers(node: torch.fx.Node) -> int:
    """Numbers in a node's result for one window."""
    value = node.meta.get("val")
    is_batch = isinstance(value, torch.Tensor) and value.ndim > 0
    return value.numel() // value.shape[0] if is_batch else 0


def _attribute(traced: Any, path: str) -> torch.Tensor:
    for name in path.split("."):
        traced = getattr(traced, name)
    return traced


class _Encoder:
    """Arguments of a node as plain values."""

    def __init__(self, names: dict[Any, str], constants: dict[Any, Any], weights: dict[str, Any]):
        self._names, self._constants, self._weights = names, constants, weights

    def __call__(self, value: Any) -> Any:
        if isinstance(value, torch.fx.Node):
            if value in self._constants:
                return {"weight": self._weight(self._constants[value])}
            return {"step": self._names[value]}
        if isinstance(value, list | tuple):
            return [self(item) for item in value]
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, torch.dtype):
            return {"torch": str(value).removeprefix("torch.")}
        raise CaptureError(f"it uses a {type(value).__name__}")

    def _weight(self, tensor: torch.Tensor) -> str:
        for name, known in self._weights.items():
            if known is tensor or (
                known.data_ptr() == tensor.data_ptr()
                and known.shape == tensor.shape
                and known.stride() == tensor.stride()
            ):
                return name
        name = f"w{len(self._weights)}"
        self._weights[name] = tensor
        return name


def _alike(a: list[Step], b: list[Step]) -> bool:
    return [(s.name, s.op) for s in a] == [(s.name, s.op) for s in b]


def _merged(a: Step, b: Step) -> Step:
    return replace(a, args=tuple(_merge(x, y) for x, y in zip(a.args, b.args, strict=True)))


def _merge(a: Any, b: Any) -> Any:
    """An argument of both runs: the same, or a multiple of the number of windows."""
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return [_merge(x, y) for x, y in zip(a, b, strict=True)]
    if a == b:
        return a
    one, other = _WINDOWS
    if isinstance(a, int) and isinstance(b, int) and a % one == 0 and a // one * other == b:
        return {"windows": a // one}
    raise CaptureError("it does not do the same for every number of windows")


def _plainer(steps: list[Step]) -> list[Step]:
    """Operators by their plain forms, without what changes nothing."""
    found: list[Step] = []
    stands_for: dict[str, str] = {}
    several = {s.name: s for s in steps if s.op in _FIRST_OF}
    for step in steps:
        op = _ANY_LAYOUT.get(step.op, step.op).replace("_.", ".")
        step = replace(step, op=op, args=_renamed(step.args, stands_for))
        if step.op == "getitem" and step.args[0].get("step") in several:
            if step.args[1] != 0:
                raise CaptureError("it uses where a pool found its maximum")
            name = stands_for[step.name] = step.args[0]["step"]
            place = next(k for k, other in enumerate(found) if other.name == name)
            found[place] = replace(found[place], numbers=step.numbers)
            continue
        if step.op in _NOTHING:
            stands_for[step.name] = step.args[0]["step"]
            continue
        if step.op in _CONVOLUTIONS:
            step = _plain_convolution(step)
        elif step.op in _FIRST_OF:
            step = _plain_form(step)
        found.append(step)
    return found


def _renamed(tree: Any, names: dict[str, str]) -> Any:
    if isinstance(tree, dict):
        return {"step": names.get(tree["step"], tree["step"])} if "step" in tree else tree
    if isinstance(tree, tuple):
        return tuple(_renamed(item, names) for item in tree)
    return [_renamed(item, names) for item in tree] if isinstance(tree, list) else tree


def _plain_convolution(step: Step) -> Step:
    x, weight, bias, stride, padding, dilation, transposed, _, groups = step.args[:9]
    if transposed or len(stride) != 2:
        return step
    args = (x, weight, bias, stride, padding, dilation, groups)
    return replace(step, op=CONVOLUTION, args=args)


def _plain_form(step: Step) -> Step:
    args, op = step.args, _FIRST_OF[step.op]
    if op == "aten.batch_norm.default":
        legit = step.op.startswith("aten._native")
        x, weight, bias, mean, var = args[:5]
        if not legit and len(args) > 5 and args[5]:
            raise CaptureError("a batch norm uses the statistics of its batch")
        eps = args[-1]
        args = (x, weight, bias, mean, var, False, 0.0, eps, False)
    return replace(step, op=op, args=args)


def _folded(steps: list[Step], weights: dict[str, torch.Tensor]) -> list[Step]:
    """Batch norms that follow a convolution alone become part of its weights."""
    users = Counter(name for step in steps for name in step.inputs)
    found: list[Step] = []
    place: dict[str, int] = {}
    stands_for: dict[str, str] = {}
    for step in steps:
        step = replace(step, args=_renamed(step.args, stands_for))
        before = place.get(step.inputs[0]) if step.inputs else None
        if step.op == "aten.batch_norm.default" and before is not None:
            convolution = found[before]
            if convolution.op == CONVOLUTION and users[convolution.name] == 1:
                found[before] = _fold(convolution, step, weights)
                stands_for[step.name] = convolution.name
                users[convolution.name] = users[step.name]
                continue
        place[step.name] = len(found)
        found.append(step)
    return found


def _fold(convolution: Step, norm: Step, weights: dict[str, torch.Tensor]) -> Step:
    def of(reference: Any, otherwise: float, like: torch.Tensor) -> torch.Tensor:
        given = None if reference is None else weights[reference["weight"]]
        return torch.full_like(like, otherwise) if given is None else given.double()

    x, weight, bias, *rest = convolution.args
    _, gamma, beta, mean_at, var_at, *_ = norm.args
    mean = weights[mean_at["weight"]].double()
    var = weights[var_at["weight"]].double()
    factor = of(gamma, 1, mean) / torch.sqrt(var + norm.args[7])
    kernel = weights[weight["weight"]].double() * factor[:, None, None, None]
    offset = (of(bias, 0, mean) - mean) * factor + of(beta, 0, mean)
    names = f"{convolution.name}.weight", f"{convolution.name}.bias"
    weights[names[0]], weights[names[1]] = kernel.float(), offset.float()
    return replace(convolution, args=(x, {"weight": names[0]}, {"weight": names[1]}, *rest))


def _fused(steps: list[Step]) -> list[Step]:
    """A ReLU that follows a convolution alone becomes part of it."""
    users = Counter(name for step in steps for name in step.inputs)
    found: list[Step] = []
    place: dict[str, int] = {}
    stands_for: dict[str, str] = {}
    for step in steps:
        step = replace(step, args=_renamed(step.args, stands_for))
        if step.op == "aten.relu.default":
            before = place.get(step.inputs[0])
            if (
                before is not None
                and found[before].op == CONVOLUTION
                and not found[before].relu
                and users[found[before].name] == 1
            ):
                found[before] = replace(found[before], relu=True)
                stands_for[step.name] = found[before].name
                users[found[before].name] = users[step.name]
                continue
        place[step.name] = len(found)
        found.append(step)
    return found
