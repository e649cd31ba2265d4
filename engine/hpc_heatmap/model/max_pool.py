"""Max pools of batches that lie channels last: along rows, then along columns.

Torch's own also notes where each maximum lies, eight bytes for each number of four. To fill fresh
memory with them takes longer than to find the maxima.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch

from hpc_heatmap.model.sharing import Kernel

__all__ = ["max_pool"]

#: Bytes that are worked on at once: they stay in a core's cache.
_CACHED_BYTES = 2**20


def max_pool(x: torch.Tensor, kernels: Sequence[Kernel], ceil: bool = False) -> torch.Tensor:
    """Maxima, the same as torch's to the bit.

    Parameters
    ----------
    x
        (n, channels, height, width), channels last.
    kernels
        For rows and for columns.
    ceil
        Whether the last result may look beyond the padding.
    """
    rows = x.permute(0, 2, 3, 1)
    shape = [k.results(n, ceil) for k, n in zip(kernels, rows.shape[1:3], strict=True)]
    whole = rows.new_empty(len(rows), *shape, rows.shape[3])
    n = max(1, _CACHED_BYTES // max(1, rows[0].nbytes))
    for some, result in zip(rows.split(n), whole.split(n), strict=True):
        for axis in (1, 2):
            some = _along(axis, some, kernels[axis - 1], shape[axis - 1])
        result.copy_(some)
    return whole.permute(0, 3, 1, 2)


def _along(axis: int, rows: torch.Tensor, kernel: Kernel, n: int) -> torch.Tensor:
    """Maxima along an axis, `n` of them."""
    full: list[torch.Tensor] = []
    others: list[tuple[int, int, torch.Tensor]] = []
    for offset in range(-kernel.padding, kernel.size - kernel.padding, kernel.dilation):
        # Results that find a number there: of those at the ends it lies in the padding.
        first = max(0, -(offset // kernel.stride))
        stop = min(n, (rows.shape[axis] - 1 - offset) // kernel.stride + 1)
        if first < stop:
            start, end = (result * kernel.stride + offset for result in (first, stop - 1))
            taken = _part(rows, axis, start, end + 1, kernel.stride)
            if stop - first == n:
                full.append(taken)
            else:
                others.append((first, stop, taken))
    if len(full) > 1:
        maxima = reduce(torch.maximum, full)
    elif full:
        maxima = full[0].clone()
    else:
        shape = [*rows.shape[:axis], n, *rows.shape[axis + 1 :]]
        maxima = rows.new_full(shape, -torch.inf)
    for first, stop, taken in others:
        found = _part(maxima, axis, first, stop)
        torch.maximum(found, taken, out=found)
    return maxima


def _part(rows: torch.Tensor, axis: int, start: int, stop: int, step: int = 1) -> torch.Tensor:
    return rows[(slice(None),) * axis + (slice(start, stop, step),)]
