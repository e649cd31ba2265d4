"""Model files for tests: one tiny network, saved in every format, with its descriptor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

NORMALIZE = {"mean": [0.6, 0.5, 0.4], "std": [0.2, 0.25, 0.3]}


class Tiny(torch.nn.Module):
    """Convolution, ReLU, mean over the window, linear: any window of 5 px or more."""

    def __init__(self, outputs: int = 2, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.conv = torch.nn.Conv2d(3, 4, 5, stride=3)
        self.linear = torch.nn.Linear(4, outputs)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        features = torch.relu(self.conv(batch)).mean(dim=(2, 3))
        return self.linear(features)


def save_script(path: Path, network: torch.nn.Module) -> Path:
    torch.jit.script(network.eval()).save(str(path))
    return path


def save_exported(
    path: Path, network: torch.nn.Module, side_px: int = 32, *, batch: int | None = None
) -> Path:
    """Save with torch.export; with `batch` for batches of that size alone."""
    example = torch.rand(batch or 2, 3, side_px, side_px)
    shapes = None if batch else ({0: torch.export.Dim("batch")},)
    program = torch.export.export(network.eval(), (example,), dynamic_shapes=shapes)
    torch.export.save(program, str(path))
    return path


def save_onnx(
    path: Path, network: Tiny, side_px: int | None = None, *, batch: int | None = None
) -> Path:
    """Save as ONNX; with `batch` or `side_px` for that size alone."""
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    outputs = len(weights["linear.bias"])
    nodes = [
        helper.make_node(
            "Conv", ["x", "conv.weight", "conv.bias"], ["c"], kernel_shape=[5, 5], strides=[3, 3]
        ),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"], axis=1),
        helper.make_node("Gemm", ["f", "linear.weight", "linear.bias"], ["y"], transB=1),
    ]
    n, side = batch or "n", side_px or "side"
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [n, 3, side, side])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [n, outputs])],
        [numpy_helper.from_array(np.array(value), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))
    return path


def descriptor(**changes: Any) -> dict[str, Any]:
    """Values of a descriptor for `Tiny`; a change to None takes the key away."""
    values: dict[str, Any] = {
        "spec_version": "1.0",
        "architecture": "tiny",
        "num_classes": 2,
        "class_names": ["normal", "tumor"],
        "patch_size_pixels": 32,
        "spacing_um_px": 0.5,
        "transform": [{"name": "ToTensor"}, {"name": "Normalize", "arguments": NORMALIZE}],
        "lesion_class": "tumor",
    }
    values.update(changes)
    return {name: value for name, value in values.items() if value is not None}


def write_descriptor(path: Path, **changes: Any) -> Path:
    path.write_text(json.dumps(descriptor(**changes)), "utf-8")
    return path


def tiny_model(folder: Path, *, network: torch.nn.Module | None = None, **changes: Any) -> Path:
    """Write model.pt and model.json; gives the model's path."""
    folder.mkdir(parents=True, exist_ok=True)
    write_descriptor(folder / "model.json", **changes)
    return save_script(folder / "model.pt", network or Tiny())


class Nan(torch.nn.Module):
    """Gives NaN for every window."""

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return batch.mean(dim=(2, 3))[:, :2] * float("nan")
