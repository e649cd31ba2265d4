"""The one door to ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from hpc_heatmap.errors import ModelError, brief

__all__ = ["OnnxNetwork", "OnnxRuntime"]


def _session(
    file: bytes, threads: int, options: onnxruntime.SessionOptions | None = None
) -> onnxruntime.InferenceSession:
    """A file made ready, on the CPU and with threads of its own."""
    options = options or onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


class OnnxRuntime:
    """A graph of ours that ONNX Runtime runs (:class:`hpc_heatmap.model.runtimes.Runtime`)."""

    def __init__(self, graph: bytes, threads: int) -> None:
        self._session = _session(graph, threads)
        self._input = self._session.get_inputs()[0].name

    def __call__(self, batch: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Logits of a batch of the graph's size."""
        logits: npt.NDArray[np.float32] = self._session.run(None, {self._input: batch})[0]
        return logits


class OnnxNetwork:
    """A network that ONNX Runtime runs on the CPU.

    Parameters
    ----------
    path
        ``.onnx`` file with one input (n, 3, height, width) of float32.
    threads
        Threads of one inference.

    Raises
    ------
    ModelError
        The file cannot be loaded.
    """

    def __init__(self, path: Path, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        try:
            # From memory and nowhere else: a run keeps its own copy, of this file alone.
            options.add_session_config_entry(
                "session.model_external_initializers_file_folder_path", str(path / "nowhere")
            )
            self._session = _session(path.read_bytes(), threads, options)
        except Exception as error:
            if "external data" in str(error).lower():
                raise ModelError(
                    f"{path} keeps its weights in another file: save it in one, with "
                    "torch.onnx.export(..., external_data=False) or onnx.save(onnx.load(FILE), "
                    "NEW_FILE)."
                ) from error
            raise ModelError(
                f"{path} cannot be loaded by ONNX Runtime ({brief(error)})."
            ) from error
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or inputs[0].type != "tensor(float)":
            raise ModelError(f"{path} must have one input of float32, not {len(inputs)}.")
        self._input = inputs[0].name

    def __call__(self, batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Logits of a normalised batch (n, 3, height, width)."""
        logits: npt.NDArray[np.float32] = self._session.run(None, {self._input: batch})[0]
        return logits
