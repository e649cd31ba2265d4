"""What runs a program's ONNX graph, behind one seam: ONNX Runtime, and OpenVINO where it is there.

A runtime is chosen by a trial when a run is planned (:mod:`hpc_heatmap.model.choosing`); every task
of the run uses that one, since another gives other bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from hpc_heatmap.errors import ModelError

__all__ = ["RUNTIMES", "Batches", "Runtime", "check_installed", "installed", "runtime"]

#: How they are called, by the modules that they are.
RUNTIMES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}


class Runtime(Protocol):
    """A graph that is ready to run."""

    def __call__(self, batch: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Logits of a batch of the graph's size; the caller's own."""


def installed() -> list[str]:
    """Modules of the runtimes that are there."""
    return [name for name in RUNTIMES if find_spec(name)]


def check_installed(name: str) -> None:
    """Tell whether a runtime is there.

    Raises
    ------
    ModelError
        It is not.
    """
    if name not in installed():
        raise ModelError(
            f"The run was planned with {RUNTIMES[name]}, which is not installed on this node: "
            f"install it there (pip install {name}), or plan another run where it is missing."
        )


def runtime(name: str, graph: bytes, threads: int, precision: str = "float32") -> Runtime:
    """Make a graph ready.

    Parameters
    ----------
    name
        One of `installed`.
    graph
        ONNX file.
    threads
        Threads of one inference.
    precision
        In which numbers OpenVINO computes: float32 or bfloat16. ONNX Runtime has float32 alone.
    """
    if name == "onnxruntime":
        from hpc_heatmap.model.onnx import OnnxRuntime

        return OnnxRuntime(graph, threads)
    from hpc_heatmap.model.openvino import OpenVino

    return OpenVino(graph, threads, precision)


class Batches:
    """A runtime for any number of windows: batches of its graph's size, the last one filled up.

    So a window's score does not depend on how many others come with it.

    Parameters
    ----------
    run
        What runs the graph.
    size
        Windows that the graph takes.
    """

    def __init__(self, run: Runtime, size: int) -> None:
        self._run, self._size = run, size

    def __call__(self, windows: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Logits (n, outputs) of n windows."""
        return np.concatenate(list(self._batches(windows)))

    def _batches(self, windows: npt.NDArray[Any]) -> Iterator[npt.NDArray[np.float32]]:
        for first in range(0, len(windows), self._size):
            batch = windows[first : first + self._size]
            n = len(batch)
            if n < self._size:
                batch = np.concatenate(
                    [batch, np.zeros((self._size - n, *batch.shape[1:]), batch.dtype)]
                )
            yield self._run(batch)[:n]
