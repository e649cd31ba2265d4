"""A network whose program a runtime does; torch is loaded only where windows share their layers."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hpc_heatmap.execution import Execution
from hpc_heatmap.model.onnx_graph import Levels, Normalization, window_graph
from hpc_heatmap.model.program import Program
from hpc_heatmap.model.runtimes import Batches, check_installed, runtime
from hpc_heatmap.model.sharing import sharing_at

if TYPE_CHECKING:
    from hpc_heatmap.model.program_network import ProgramNetwork
    from hpc_heatmap.model.shared_windows import SharedWindows

__all__ = ["RuntimeNetwork"]

Floats = npt.NDArray[np.float32]

#: Windows that a runtime gets at once, or a row of a patch: more are not faster.
_BATCH = 8


class RuntimeNetwork:
    """A program that a runtime other than torch does.

    Parameters
    ----------
    program
        The network.
    execution
        Which runtime, in which numbers, and where windows part.
    normalization
        What is done to pixels.
    threads
        Threads of one inference.

    Raises
    ------
    ModelError
        The runtime is not installed.
    """

    #: Windows are given as pixels, (n, height, width, 3) uint8.
    takes_pixels = True
    channels_last = True

    def __init__(
        self, program: Program, execution: Execution, normalization: Normalization, threads: int = 1
    ) -> None:
        check_installed(execution.runtime)
        self._program, self._execution = program, execution
        self._normalization, self._threads = normalization, threads

    def __call__(self, batch: npt.NDArray[np.uint8]) -> Floats:
        """Logits of a batch of pixels."""
        return self._alone(batch)

    def shared(self, stride_px: int) -> SharedWindows | None:
        """What scores the windows of a patch together at a stride; None where that does not pay."""
        if sharing_at(self._program, self._execution, stride_px) is None:
            return None
        return self._torch.shared(stride_px)

    def part(self, stride_px: int) -> None:
        """Score each window by itself at a stride from now on."""
        self._torch.part(stride_px)

    def patch_logits(self, *asked: Any) -> Iterator[Floats]:
        """See :meth:`~hpc_heatmap.model.program_network.ProgramNetwork.patch_logits`."""
        return self._torch.patch_logits(*asked)

    @cached_property
    def _torch(self) -> ProgramNetwork:
        """What does the layers that windows share."""
        from hpc_heatmap.model.program_network import ProgramNetwork

        return ProgramNetwork(self._program, self._execution, self._threads, self._rest_of)

    def _rest_of(self, cut: str, stride_px: int) -> Batches:
        columns = -(-self._program.side_px // stride_px)
        return self._batches(cut, columns * -(-_BATCH // columns))

    @cached_property
    def _alone(self) -> Batches:
        return self._batches(None, _BATCH)

    def _batches(self, cut: str | None, size: int) -> Batches:
        """What does the steps behind the cut, or all, for so many windows at once."""
        chosen = self._execution
        levels = {name: Levels(*given) for name, given in chosen.levels.items()}
        graph = window_graph(self._program, size, cut, self._normalization, levels)
        return Batches(runtime(chosen.runtime, graph, self._threads, chosen.precision), size)
