"""The one door to torch: TorchScript and torch.export files."""

from __future__ import annotations

import logging
import os
import pickle
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from hpc_heatmap.errors import ModelError, UnsafeModelError, brief
from hpc_heatmap.model.archive import CONVERT

__all__ = ["TorchNetwork"]


class TorchNetwork:
    """A network that torch runs on the CPU in float32.

    Parameters
    ----------
    path
        ``.pt`` (TorchScript) or ``.pt2`` (torch.export).
    threads
        Threads of one inference; it holds for the whole process.

    Raises
    ------
    ModelError
        The file cannot be loaded.
    """

    def __init__(self, path: Path, threads: int) -> None:
        torch.set_num_threads(threads)
        try:
            with _silence():
                self._module = _load_exported(path) if path.suffix == ".pt2" else _load_script(path)
        except pickle.UnpicklingError as error:
            raise UnsafeModelError(f"{path} holds a pickled Python object. {CONVERT}") from error
        except Exception as error:
            # torch names the warnings that we have silenced.
            reason = brief(error).partition(". Please check the warnings above")[0]
            raise ModelError(f"{path} cannot be loaded by torch ({reason}).") from error

    def __call__(self, batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Logits of a normalised batch (n, 3, height, width)."""
        with torch.inference_mode():
            output = self._module(torch.from_numpy(batch))
        if isinstance(output, tuple | list):
            output = output[0]
        logits: npt.NDArray[np.float32] = output.float().numpy()
        return logits


def _load_script(path: Path) -> Any:
    return torch.jit.load(str(path), map_location="cpu").eval()


def _load_exported(path: Path) -> Any:
    with _no_pickled_code():
        return torch.export.load(str(path)).module()


@contextmanager
def _silence() -> Iterator[None]:
    """Keep to ourselves what torch logs: tracebacks of errors that we put in one sentence."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextmanager
def _no_pickled_code() -> Iterator[None]:
    """torch.export.load falls back to unpickling weights and constants; this forbids it."""
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
