"""A network whose program torch does, window by window or shared by the windows of a patch."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import torch

from hpc_heatmap.errors import ModelError
from hpc_heatmap.execution import Execution
from hpc_heatmap.model.program import INPUT, Program
from hpc_heatmap.model.shared_windows import SharedWindows
from hpc_heatmap.model.sharing import sharing_at
from hpc_heatmap.model.steps import Steps

__all__ = ["ProgramNetwork", "has_bfloat16"]

Floats = npt.NDArray[np.float32]

#: Windows that torch does at once: more of them only move more memory.
_AT_ONCE = 8


class ProgramNetwork:
    """A program on the CPU; batches lie channels last.

    Parameters
    ----------
    program
        The network.
    execution
        In which numbers, and where windows part.
    threads
        Threads of one inference; it holds for the whole process.
    rest_of
        Gives what does the steps behind a cut at a stride, (n, height, width, channels) float32 to
        logits. Default: torch does them.
    """

    channels_last = True

    def __init__(
        self,
        program: Program,
        execution: Execution,
        threads: int = 1,
        rest_of: Callable[[str, int], Callable[[Floats], Floats]] | None = None,
    ) -> None:
        torch.set_num_threads(threads)
        self._dtype = getattr(torch, execution.precision)
        self._execution, self._rest_of = execution, rest_of
        self._shared: dict[int, SharedWindows | None] = {}
        with torch.inference_mode():
            self._steps = Steps(program, self._dtype, execution.winograd)

    def shared(self, stride_px: int) -> SharedWindows | None:
        """What scores the windows of a patch together at a stride; None where that does not pay."""
        if stride_px not in self._shared:
            found, made = sharing_at(self._steps.program, self._execution, stride_px), None
            if found is not None:
                rest = None if self._rest_of is None else _rest(self._rest_of(found.cut, stride_px))
                made = SharedWindows(self._steps, found, rest)
            self._shared[stride_px] = made
        return self._shared[stride_px]

    def part(self, stride_px: int) -> None:
        """Score each window by itself at a stride from now on."""
        self._shared[stride_px] = None

    def __call__(self, batch: Floats) -> Floats:
        """Logits of a normalised batch (n, 3, height, width)."""
        with torch.inference_mode():
            parts = self._tensor(batch).split(_AT_ONCE)
            return np.concatenate([_array(self._steps.run({INPUT: part})) for part in parts])

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


def _rest(run: Callable[[Floats], Floats]) -> Callable[[torch.Tensor], torch.Tensor]:
    """What takes arrays for what takes tensors, channels last in memory."""

    def rest(batch: torch.Tensor) -> torch.Tensor:
        rows = batch.permute(0, 2, 3, 1).contiguous()
        return torch.from_numpy(run(rows.float().numpy()))

    return rest


def _array(logits: torch.Tensor) -> Floats:
    array: Floats = logits.float().numpy()
    return array


def has_bfloat16() -> bool:
    """Whether this processor computes in bfloat16 faster than in float32."""
    check = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    capability = torch.backends.cpu.get_cpu_capability()
    return bool(check is not None and check() and capability.startswith("AVX512"))
