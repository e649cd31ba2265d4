"""A network that a :class:`Program` does, window by window or shared by the windows of a patch."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from hpc_heatmap.errors import ModelError
from hpc_heatmap.execution import Execution
from hpc_heatmap.model.capture import CaptureError, capture
from hpc_heatmap.model.onnx_graph import Levels, Normalization, window_graph
from hpc_heatmap.model.program import INPUT, Program
from hpc_heatmap.model.runtimes import Batches, check_installed, runtime
from hpc_heatmap.model.shared_windows import SharedWindows
from hpc_heatmap.model.sharing import WORTH_SHARING, Sharing, share
from hpc_heatmap.model.steps import Steps
from hpc_heatmap.model.torch import TorchNetwork

__all__ = ["ProgramNetwork", "capture_model", "has_bfloat16"]

Floats = npt.NDArray[np.float32]

#: Windows that a runtime gets at once, or a row of a patch: more are not faster.
_BATCH = 8


class ProgramNetwork:
    """A program on the CPU; batches lie channels last.

    Parameters
    ----------
    program
        The network.
    execution
        In which numbers, where windows part, and what runs the steps behind that.
    normalization
        What is done to pixels, where a runtime other than torch gets them.
    threads
        Threads of one inference; it holds for the whole process.
    """

    channels_last = True

    def __init__(
        self,
        program: Program,
        execution: Execution,
        normalization: Normalization | None = None,
        threads: int = 1,
    ) -> None:
        torch.set_num_threads(threads)
        self._dtype = getattr(torch, execution.precision)
        self._execution, self._normalization = execution, normalization
        self._threads = threads
        #: Whether `__call__` gets windows as pixels, (n, height, width, 3) uint8.
        self.takes_pixels = execution.runtime != "torch"
        if self.takes_pixels:
            check_installed(execution.runtime)
        self._shared: dict[int, SharedWindows | None] = {}
        with torch.inference_mode():
            self._steps = Steps(program, self._dtype)

    def shared(self, stride_px: int) -> SharedWindows | None:
        """What scores the windows of a patch together at a stride; None where that does not pay."""
        if stride_px not in self._shared:
            sharing, chosen, program = None, self._execution, self._steps.program
            if stride_px == chosen.stride_px:
                if chosen.cut is not None:
                    sharing = Sharing(chosen.cut, chosen.jump_px, chosen.cost)
            elif chosen.share:
                sharing = share(program, stride_px, -(-program.side_px // stride_px))
                if sharing is not None and sharing.cost > WORTH_SHARING:
                    sharing = None
            self._shared[stride_px] = None if sharing is None else self._sharing(sharing, stride_px)
        return self._shared[stride_px]

    def _sharing(self, sharing: Sharing, stride_px: int) -> SharedWindows:
        if not self.takes_pixels:
            return SharedWindows(self._steps, sharing)
        columns = -(-self._steps.program.side_px // stride_px)
        run = self._runtime(sharing.cut, columns * -(-_BATCH // columns))

        def rest(batch: torch.Tensor) -> torch.Tensor:
            rows = batch.permute(0, 2, 3, 1).contiguous()
            return torch.from_numpy(run(rows.float().numpy()))

        return SharedWindows(self._steps, sharing, rest)

    def _runtime(self, cut: str | None, size: int) -> Batches:
        """What runs the steps behind the cut, or all, so many windows at once."""
        chosen, program = self._execution, self._steps.program
        levels = {name: Levels(*given) for name, given in chosen.levels.items()}
        graph = window_graph(program, size, cut, self._normalization, levels)
        made = runtime(chosen.runtime, graph, self._threads, chosen.precision)
        return Batches(made, size)

    @cached_property
    def _alone(self) -> Batches:
        return self._runtime(None, _BATCH)

    def part(self, stride_px: int) -> None:
        """Score each window by itself at a stride from now on."""
        self._shared[stride_px] = None

    def __call__(self, batch: npt.NDArray[Any]) -> Floats:
        """Logits of a batch: normalised (n, 3, height, width), or pixels."""
        if self.takes_pixels:
            return self._alone(batch)
        with torch.inference_mode():
            return _array(self._steps.run({INPUT: self._tensor(batch)}))

    def patch_logits(
        self, patch: Floats, windows: tuple[int, int], stride_px: int, batch_size: int
    ) -> Iterator[Floats]:
        """Logits of all windows of a patch, in batches of whole rows.

        Parameters
        ----------
        patch
            (3, height, width), normalised: from the first window's first pixel to the last one's
            last.
        windows
            Rows and columns of windows.
        stride_px
            From one to the next.
        batch_size
            Windows at once, but for one row at least.
        """
        shared = self.shared(stride_px)
        if shared is None:
            raise ModelError(f"Windows at stride {stride_px} do not share work.")
        batches = shared.logits(self._tensor(patch[None]), windows, stride_px, batch_size)
        while True:
            with torch.inference_mode():
                logits = next(batches, None)
                if logits is None:
                    return
                array = _array(logits)
            yield array

    def _tensor(self, batch: Floats) -> torch.Tensor:
        tensor = torch.from_numpy(batch).to(self._dtype)
        return tensor.contiguous(memory_format=torch.channels_last)


def _array(logits: torch.Tensor) -> Floats:
    array: Floats = logits.float().numpy()
    return array


#: The last program that was captured, by the model's sha256 and the side of its windows: a run is
#: planned and written in one process.
_captured: dict[tuple[str, int], Program] = {}


def capture_model(path: Path, sha256: str, side_px: int) -> Program:
    """The program of a model file of torch.

    Raises
    ------
    CaptureError
        It cannot be written as one.
    ModelError
        It cannot be loaded.
    """
    key = sha256, side_px
    if key not in _captured:
        if path.suffix == ".onnx":
            raise CaptureError("it is an ONNX model, which ONNX Runtime runs")
        module: Any = TorchNetwork(path, 1).module
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = capture(module, side_px)
        _captured.clear()
        _captured[key] = program
    return _captured[key]


def has_bfloat16() -> bool:
    """Whether this processor computes in bfloat16 faster than in float32."""
    check = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    capability = torch.backends.cpu.get_cpu_capability()
    return bool(check is not None and check() and capability.startswith("AVX512"))
