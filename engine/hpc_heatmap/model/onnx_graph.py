"""A program as an ONNX graph, which ONNX Runtime and OpenVINO run: window by window.

Sizes are fixed, so that a runtime can lay out its work once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from hpc_heatmap.model.program import CONVOLUTION, Program, Step
from hpc_heatmap.model.sharing import (
    CONCATENATION,
    MAX_POOL,
    MEAN_POOL,
    kernels,
    leaves_nothing,
    reaches,
    rounds_up,
)

__all__ = ["GraphError", "Levels", "Normalization", "window_graph"]

#: Factor and offset of each colour, (3, 1, 1) each.
Normalization = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]


class Levels(NamedTuple):
    """How a step's result is kept as bytes: number = scale * (byte - zero)."""

    scale: float
    zero: int


_OPSET, _IR_VERSION = 17, 9
_ADAPTIVE_MEAN = "aten._adaptive_avg_pool2d.default"
_SAME = {
    "aten.relu.default": "Relu",
    "aten.sigmoid.default": "Sigmoid",
    "aten.tanh.default": "Tanh",
    "aten.hardswish.default": "HardSwish",
    "aten.add.Tensor": "Add",
    "aten.sub.Tensor": "Sub",
    "aten.mul.Tensor": "Mul",
    "aten.div.Tensor": "Div",
    "aten.maximum.default": "Max",
    "aten.minimum.default": "Min",
    "aten.mm.default": "MatMul",
}


class GraphError(Exception):
    """A program calls what cannot be written in ONNX; says what."""


class _Graph:
    """A graph that grows node by node. Values go by their names.

    Parameters
    ----------
    program
        Whose weights it uses.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self._nodes: list[onnx.NodeProto] = []
        self._arrays: dict[str, onnx.TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []

    def input(self, shape: Sequence[int], kind: int) -> str:
        """Add the graph's one input."""
        self._inputs.append(helper.make_tensor_value_info("given", kind, list(shape)))
        return "given"

    def call(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Add a node; gives the name of its result."""
        name = f"v{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def array(self, values: npt.ArrayLike, dtype: npt.DTypeLike = np.float32) -> str:
        """Add a constant."""
        return self._keep(f"c{len(self._arrays)}", np.asarray(values, dtype))

    def weight(self, name: str) -> str:
        """A weight of the program."""
        return self._keep(f"w.{name}", self.program.weights[name])

    def _keep(self, name: str, values: npt.NDArray[Any]) -> str:
        if name not in self._arrays:
            self._arrays[name] = numpy_helper.from_array(np.asarray(values, order="C"), name)
        return name

    def file(self, result: str) -> bytes:
        """The graph as an ONNX file with one result."""
        output = helper.make_tensor_value_info(result, TensorProto.FLOAT, None)
        arrays = list(self._arrays.values())
        graph = helper.make_graph(self._nodes, "program", self._inputs, [output], arrays)
        opset = [helper.make_opsetid("", _OPSET)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=_IR_VERSION)
        return bytes(model.SerializeToString())


def window_graph(
    program: Program,
    batch: int,
    cut: str | None = None,
    normalization: Normalization | None = None,
    levels: Mapping[str, Levels] | None = None,
) -> bytes:
    """Windows to logits, as an ONNX file whose input lies channels last.

    Parameters
    ----------
    program
        The network.
    batch
        Windows at once.
    cut
        The step whose result is given, (batch, height, width, channels) float32. Default: the
        windows' pixels are given, (batch, side, side, 3) uint8.
    normalization
        What is done to pixels.
    levels
        Steps whose results are kept as bytes. A convolution of such a result has weights of 8 bits.

    Raises
    ------
    GraphError
        It cannot be written.
    """
    graph, steps, side = _Graph(program), program.steps, program.side_px
    if cut is None:
        first = 0
        pixels = graph.input((batch, side, side, 3), TensorProto.UINT8)
        given = graph.call("Cast", pixels, to=TensorProto.FLOAT)
        for op, each in zip(("Mul", "Add"), normalization or (), strict=False):
            given = graph.call(op, given, graph.array(each.ravel()))
    else:
        first = next(k for k, step in enumerate(steps) if step.name == cut)
        y, x = reaches(program)[cut]
        channels = steps[first].numbers // (y.n * x.n)
        given = graph.input((batch, y.n, x.n, channels), TensorProto.FLOAT)
    values = _Values(graph, levels or {})
    values.put(steps[first].name, graph.call("Transpose", given, perm=[0, 3, 1, 2]))
    for step in steps[first + 1 :]:
        values.do(step)
    return graph.file(values.number(steps[-1].name))


class _Values:
    """Results of steps: as numbers, or as bytes where they have levels."""

    def __init__(self, graph: _Graph, levels: Mapping[str, Levels]) -> None:
        self._graph, self._levels = graph, levels
        self._numbers: dict[str, str] = {}
        self._bytes: dict[str, str] = {}

    def put(self, name: str, value: str) -> None:
        """Keep a step's result, given as numbers."""
        if name in self._levels:
            self._bytes[name] = self._graph.call("QuantizeLinear", value, *self._constants(name))
        else:
            self._numbers[name] = value

    def number(self, name: str) -> str:
        """A step's result as numbers."""
        if name not in self._numbers:
            given = self._bytes[name], *self._constants(name)
            self._numbers[name] = self._graph.call("DequantizeLinear", *given)
        return self._numbers[name]

    def _constants(self, name: str) -> tuple[str, str]:
        scale, zero = self._levels[name]
        return self._graph.array(scale), self._graph.array(zero, np.uint8)

    def do(self, step: Step) -> None:
        """Add a step."""
        is_byte = step.name in self._levels
        if is_byte and step.op in {MAX_POOL, CONCATENATION}:
            # All that they take has the same levels.
            self._bytes[step.name] = _call(self._graph, step, self._bytes.__getitem__)
        elif step.op == CONVOLUTION and step.inputs[0] in self._levels:
            self.put(step.name, self._convolve(step))
        else:
            self.put(step.name, _call(self._graph, step, self.number))

    def _convolve(self, step: Step) -> str:
        graph, (x, weight, bias, *_) = self._graph, step.args
        kernel = graph.program.weights[weight["weight"]]
        scale = np.maximum(np.abs(kernel).max(axis=(1, 2, 3)), 1e-12) / 127
        rounded = np.rint(kernel / scale[:, None, None, None])
        arrays = [
            graph.call(
                "DequantizeLinear", graph.array(rounded, np.int8), graph.array(scale),
                graph.array(np.zeros(len(scale)), np.int8), axis=0,
            )
        ]  # fmt: skip
        if bias is not None:
            unit = scale * self._levels[x["step"]].scale
            whole = np.rint(graph.program.weights[bias["weight"]].astype(float) / unit)
            arrays.append(
                graph.call(
                    "DequantizeLinear", graph.array(whole, np.int32), graph.array(unit),
                    graph.array(np.zeros(len(unit)), np.int32), axis=0,
                )
            )  # fmt: skip
        result = graph.call("Conv", self.number(x["step"]), *arrays, **_convolution(step, graph))
        levels = self._levels.get(step.name)
        # Where bytes begin at zero they do what a ReLU does.
        cut_off = levels is not None and levels.zero == 0
        return graph.call("Relu", result) if step.relu and not cut_off else result


def _call(graph: _Graph, step: Step, value_of: Callable[[str], str]) -> str:
    """Add what a step does; `value_of` names the results of steps before it."""
    if step.op in {CONVOLUTION, MAX_POOL, MEAN_POOL}:
        return _slide(graph, step, value_of(step.inputs[0]))
    if step.op == _ADAPTIVE_MEAN:
        return _adaptive_mean(graph, step, value_of(step.inputs[0]))
    operands = [_operand(graph, tree, value_of) for tree in step.args]
    if step.op in _SAME and len(operands) == len([o for o in operands if isinstance(o, str)]):
        return graph.call(_SAME[step.op], *operands)
    written = _WRITTEN.get(step.op)
    if written is None:
        raise GraphError(f"{step.op} is not written in ONNX")
    return written(graph, *operands)


def _operand(graph: _Graph, tree: Any, value_of: Callable[[str], str]) -> Any:
    """An argument: arrays by their names, all else as it is."""
    if isinstance(tree, dict):
        if "step" in tree:
            return value_of(tree["step"])
        return graph.weight(tree["weight"]) if "weight" in tree else tree
    if isinstance(tree, list | tuple):
        return [_operand(graph, item, value_of) for item in tree]
    return tree


def _convolution(step: Step, graph: _Graph) -> dict[str, Any]:
    """Attributes of a convolution."""
    return _window(step, graph) | {"dilations": _pair(step.args[5]), "group": step.args[6]}


def _window(step: Step, graph: _Graph) -> dict[str, Any]:
    both = kernels(step, graph.program)
    assert both is not None
    pads = [kernel.padding for kernel in both]
    return {"strides": [kernel.stride for kernel in both], "pads": [*pads, *pads]}


def _slide(graph: _Graph, step: Step, x: str) -> str:
    """A convolution or a pool."""
    if step.op == CONVOLUTION:
        arrays = [graph.weight(w["weight"]) for w in step.args[1:3] if w is not None]
        result = graph.call("Conv", x, *arrays, **_convolution(step, graph))
        return graph.call("Relu", result) if step.relu else result
    options = _window(step, graph)
    ceil = _rounds_up(step, graph)
    if ceil and any(options["pads"]):
        raise GraphError("a padded pool that rounds its size up is not written in ONNX")
    options |= {"kernel_shape": _pair(step.args[1]), "ceil_mode": int(ceil)}
    if step.op == MAX_POOL:
        dilation = step.args[4] if len(step.args) > 4 else 1
        return graph.call("MaxPool", x, dilations=_pair(dilation), **options)
    if ceil or (len(step.args) > 6 and step.args[6] is not None):
        raise GraphError("a mean pool that divides by another number is not written in ONNX")
    counts = len(step.args) <= 5 or step.args[5]
    return graph.call("AveragePool", x, count_include_pad=int(counts), **options)


def _adaptive_mean(graph: _Graph, step: Step, x: str) -> str:
    """A mean over the parts of a grid, where these are of one size."""
    rows, columns = _pair(step.args[1])
    given = next(other for other in graph.program.steps if other.name == step.inputs[0])
    # What a window becomes is square, as it is itself.
    side = math.isqrt(given.numbers * rows * columns // step.numbers)
    if side % rows or side % columns:
        raise GraphError("a mean over parts of unequal size is not written in ONNX")
    size = [side // rows, side // columns]
    return graph.call("AveragePool", x, kernel_shape=size, strides=size)


def _rounds_up(step: Step, graph: _Graph) -> bool:
    """Whether a pool takes what is left over at the end, where something is."""
    if not rounds_up(step):
        return False
    both, given = kernels(step, graph.program), reaches(graph.program).get(step.inputs[0])
    return both is None or given is None or not leaves_nothing(both, given)


def _pair(value: Any) -> list[int]:
    return [value, value] if isinstance(value, int) else [value[0], value[-1]]


def _constants(op: str) -> Callable[..., str]:
    """An operator of ONNX whose operands may be numbers."""

    def write(graph: _Graph, *operands: Any) -> str:
        names = [o if isinstance(o, str) else graph.array(o) for o in operands]
        return graph.call(op, *names)

    return write


def _batch_norm(graph: _Graph, x: str, *operands: Any) -> str:
    scale, bias, mean, var, _, _, epsilon, _ = operands
    if None in (scale, bias, mean, var):
        raise GraphError("a batch norm without weights is not written in ONNX")
    return graph.call("BatchNormalization", x, scale, bias, mean, var, epsilon=epsilon)


def _clip(graph: _Graph, x: str, low: float | None = None, high: float | None = None) -> str:
    return graph.call("Clip", x, *("" if v is None else graph.array(v) for v in (low, high)))


def _elu(graph: _Graph, x: str, alpha: float = 1.0, *others: float) -> str:
    if any(factor != 1 for factor in others):
        raise GraphError("a scaled ELU is not written in ONNX")
    return graph.call("Elu", x, alpha=float(alpha))


def _gelu(graph: _Graph, x: str, *others: Any) -> str:
    if others not in {(), ("none",)}:
        raise GraphError("an approximate GELU is not written in ONNX")
    error = graph.call("Erf", graph.call("Mul", x, graph.array(math.sqrt(0.5))))
    half = graph.call("Mul", x, graph.array(0.5))
    return graph.call("Mul", half, graph.call("Add", error, graph.array(1.0)))


def _mean(graph: _Graph, x: str, axes: Sequence[int] | None, keep: bool = False) -> str:
    if axes is None:
        raise GraphError("a mean over windows is not written in ONNX")
    if keep and {*axes} <= {2, 3, -1, -2} and len(axes) == 2:
        return graph.call("GlobalAveragePool", x)
    return graph.call("ReduceMean", x, axes=list(axes), keepdims=int(keep))


def _reshape(graph: _Graph, x: str, shape: Sequence[Any]) -> str:
    sizes = [-1 if isinstance(size, dict) else size for size in shape]
    if sizes.count(-1) > 1:
        raise GraphError("a reshape of two unknown sizes is not written in ONNX")
    return graph.call("Reshape", x, graph.array(sizes, np.int64))


_WRITTEN: dict[str, Callable[..., str]] = {
    **{op: _constants(name) for op, name in _SAME.items() if name in {"Add", "Sub", "Mul", "Div"}},
    "aten.addmm.default": lambda g, bias, x, matrix: g.call("Gemm", x, matrix, bias),
    "aten.batch_norm.default": _batch_norm,
    "aten.cat.default": lambda g, values, axis=0: g.call("Concat", *values, axis=axis),
    "aten.clamp.default": _clip,
    "aten.clamp_min.default": _clip,
    "aten.elu.default": _elu,
    "aten.gelu.default": _gelu,
    "aten.hardsigmoid.default": lambda g, x: g.call("HardSigmoid", x, alpha=1 / 6, beta=0.5),
    "aten.hardtanh.default": lambda g, x, low=-1.0, high=1.0: _clip(g, x, low, high),
    "aten.leaky_relu.default": lambda g, x, alpha=0.01: g.call("LeakyRelu", x, alpha=float(alpha)),
    "aten.mean.dim": _mean,
    "aten.relu6.default": lambda g, x: _clip(g, x, 0.0, 6.0),
    "aten.reshape.default": _reshape,
    "aten.silu.default": lambda g, x: g.call("Mul", x, g.call("Sigmoid", x)),
    "aten._softmax.default": lambda g, x, axis, _: g.call("Softmax", x, axis=axis),
}
