"""The one door to OpenVINO, which is an optional extra."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import numpy.typing as npt

# OpenVINO reports each import of itself over the network, unless its telemetry cannot be imported.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

import openvino  # noqa: E402

__all__ = ["OpenVino"]


class OpenVino:
    """A graph of ours that OpenVINO runs (:class:`hpc_heatmap.model.runtimes.Runtime`).

    Parameters
    ----------
    graph
        ONNX file.
    threads
        Threads of one inference.
    precision
        In which numbers it computes: float32 or bfloat16.
    """

    def __init__(self, graph: bytes, threads: int, precision: str) -> None:
        core = openvino.Core()
        options = {
            "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[precision],
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            # Processes are kept to their cores by the scheduler that started them.
            "ENABLE_CPU_PINNING": False,
        }
        self._model = core.compile_model(core.read_model(graph), "CPU", options)

    def __call__(self, batch: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Logits of a batch of the graph's size."""
        return np.array(self._model(batch)[0], np.float32)
