"""Programs of model files: captured once, and kept in the user's cache.

Capturing runs the network twice, operator by operator: seconds, for each plan of a run.
"""

from __future__ import annotations

import contextlib
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hpc_heatmap.errors import ModelError
from hpc_heatmap.model.program import VERSION, CaptureError, Program
from hpc_heatmap.model.user_cache import cached_file, keep

__all__ = ["capture_model", "kept_program"]

#: The last program that was captured, by the model's sha256 and the side of its windows: a run is
#: planned and written in one process.
_captured: dict[tuple[str, int], Program] = {}


def kept_program(sha256: str, side_px: int) -> Program | None:
    """The program of a model that was captured before, by the same torch; None where there is none.

    Parameters
    ----------
    sha256
        The model file's.
    side_px
        Side of the windows.
    """
    key = sha256, side_px
    if key not in _captured:
        with contextlib.suppress(ModelError):
            program = Program.load(_file_of(*key))
            _captured.clear()
            _captured[key] = program
    return _captured.get(key)


def capture_model(path: Path, sha256: str, side_px: int, module: Any = None) -> Program:
    """The program of a model file of torch.

    Parameters
    ----------
    path
        The model file.
    sha256, side_px
        See :func:`kept_program`.
    module
        What torch has loaded from the file, where it has.

    Raises
    ------
    CaptureError
        It cannot be written as one.
    ModelError
        It cannot be loaded.
    """
    kept = kept_program(sha256, side_px)
    if kept is not None:
        return kept
    if path.suffix == ".onnx":
        raise CaptureError("it is an ONNX model, which ONNX Runtime runs")
    from hpc_heatmap.model.capture import capture
    from hpc_heatmap.model.torch import TorchNetwork

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = capture(TorchNetwork(path, 1).module if module is None else module, side_px)
    _captured.clear()
    _captured[sha256, side_px] = program

    def write(partial: Path) -> None:
        with partial.open("wb") as opened:
            program.save(opened)

    keep(_file_of(sha256, side_px), write)
    return program


def _file_of(sha256: str, side_px: int) -> Path:
    return cached_file("programs", f"{VERSION} {version('torch')} {sha256} {side_px}", ".npz")
