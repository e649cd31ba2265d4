"""The one door to torch: TorchScript and torch.export files."""

from __future__ import annotations

import io
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
from hpc_heatmap.processes import idle_cores

__all__ = ["TorchNetwork", "several_threads", "traced_copy"]

#: More threads gain little on the few windows of a plan.
_MOST_THREADS = 4
#: Windows of a batch on which a traced copy must give the very bits of its model.
_BATCHES = (1, 2, 5)
#: Operators with a form that tracing follows where sizes depend on the number of windows.
_TRACEABLE = {
    torch.ops.aten.sym_size.int: torch.Tensor.size,
    torch.ops.aten.reshape.default: torch.reshape,
    torch.ops.aten.view.default: torch.Tensor.view,
}


class TorchNetwork:
    """A network that torch runs on the CPU in float32.

    Parameters
    ----------
    path
        ``.pt`` (TorchScript) or ``.pt2`` (torch.export).
    threads
        Threads of one inference; it holds for the whole process.
    channels_last
        Whether batches lie in memory pixel by pixel, not plane by plane: convolutions are faster,
        and scores differ in their last digits.
    traced
        A file by :func:`traced_copy`, which loads faster; it need not exist.

    Raises
    ------
    ModelError
        The file cannot be loaded.
    """

    def __init__(
        self,
        path: Path,
        threads: int,
        *,
        channels_last: bool = False,
        traced: Path | None = None,
    ) -> None:
        torch.set_num_threads(threads)
        self.channels_last = channels_last
        self._optimize = True
        if traced is not None and traced.is_file():
            try:
                with _silence():
                    self._module = _load_script(traced)
                # As it was checked; nothing is compiled on the first batches of a task either.
                self._optimize = False
                return
            except Exception:
                # The model itself is there, and gives the same bits.
                pass
        try:
            with _silence():
                self._module = _load_exported(path) if path.suffix == ".pt2" else _load_script(path)
        except pickle.UnpicklingError as error:
            raise UnsafeModelError(f"{path} holds a pickled Python object. {CONVERT}") from error
        except Exception as error:
            # torch names the warnings that we have silenced.
            reason = brief(error).partition(". Please check the warnings above")[0]
            raise ModelError(f"{path} cannot be loaded by torch ({reason}).") from error

    @property
    def module(self) -> Any:
        """What torch has loaded."""
        return self._module

    def __call__(self, batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Logits of a normalised batch (n, 3, height, width)."""
        tensor = torch.from_numpy(batch)
        if self.channels_last:
            tensor = tensor.contiguous(memory_format=torch.channels_last)
        with torch.inference_mode(), torch.jit.optimized_execution(self._optimize):
            output = _first(self._module(tensor))
        logits: npt.NDArray[np.float32] = output.float().numpy()
        return logits


@contextmanager
def several_threads() -> Iterator[None]:
    """Let torch use some of the cores that are idle: threads that share a core wait in vain."""
    before = torch.get_num_threads()
    torch.set_num_threads(min(idle_cores(), _MOST_THREADS))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _first(output: Any) -> Any:
    """The logits of a network that may give more."""
    return output[0] if isinstance(output, tuple | list) else output


def _load_script(file: Path | io.BytesIO) -> Any:
    source = str(file) if isinstance(file, Path) else file
    return torch.jit.load(source, map_location="cpu").eval()


def _load_exported(path: Path) -> Any:
    with _no_pickled_code():
        return torch.export.load(str(path)).module()


def traced_copy(path: Path, side_px: int, *, channels_last: bool) -> bytes | None:
    """A model of torch.export as TorchScript, which loads in a tenth of the time.

    torch.export.load brings torch's compiler along: some seconds, for each task of a run. The copy
    calls the same operators; it is given only where it gives the same bits.

    Parameters
    ----------
    path
        ``.pt2`` file.
    side_px
        Side of the windows that the network takes.
    channels_last
        How batches lie in memory.

    Returns
    -------
    bytes | None
        The file; None for a model that tracing cannot follow.
    """
    layout = torch.channels_last if channels_last else torch.contiguous_format
    generator = torch.Generator().manual_seed(0)
    batches = [
        torch.randn(n, 3, side_px, side_px, generator=generator).contiguous(memory_format=layout)
        for n in _BATCHES
    ]
    try:
        with _silence(), torch.inference_mode(), torch.jit.optimized_execution(False):
            module = _load_exported(path)
            expected = [_first(module(batch)) for batch in batches]
            # Checks of the arguments, and sizes that tracing would take for constants.
            module._forward_pre_hooks.clear()
            for node in module.graph.nodes:
                node.target = _TRACEABLE.get(node.target, node.target)
            module.recompile()
            file = io.BytesIO()
            torch.jit.save(torch.jit.trace(module, batches[1], check_trace=False), file)
            copy = _load_script(io.BytesIO(file.getvalue()))
            same = all(
                torch.equal(_first(copy(batch)), logits)
                for batch, logits in zip(batches, expected, strict=True)
            )
    except Exception:
        return None
    return file.getvalue() if same else None


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
