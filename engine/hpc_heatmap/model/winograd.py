"""Convolutions of 3 x 3 with a third of the multiplications, after Winograd.

Four by four results are computed at once from six by six numbers: these are changed by a matrix,
multiplied with the likewise changed weights, summed over channels, and changed back,

    Y = A^T [ sum_c (G g_c G^T) * (B^T d_c B) ] A        (F(4 x 4, 3 x 3))

that is 36 multiplications for a channel instead of 144. The matrices evaluate polynomials at
points of one's choice. With 0, 1, -1, 2, -2, as is usual, float32 results are four times as
far from the true ones as those of a plain sum; the points here are spread so that it is twice as
far. The large matrices of both dimensions at once (36 x 36) make one product of all the additions.
The bias is added to the products, which costs nothing there.

Source: A. Lavin, S. Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch

__all__ = ["Winograd", "pays"]

#: Side of the results, and of the numbers, of a tile.
_RESULTS, _NUMBERS = 4, 6
_POINTS = (0.0, 0.75, -0.75, 1.5, -1.5)
#: Tiles that are worked on at once: of more, less would be found in a core's cache.
_TILES_AT_ONCE = 128
#: Channels below which changing numbers costs more than multiplying less saves.
_LEAST_CHANNELS = 64
#: How many times fewer multiplications there must be: at the edges tiles stick out.
_LEAST_GAIN = 2.0


def _matrices() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """B^T (6, 6), G (6, 3) and A^T (4, 6)."""

    def powers(n: int) -> np.ndarray:
        """Each point to the powers below n; the last row is the point at infinity."""
        at_infinity = np.eye(n)[-1:]
        return np.concatenate([np.vander(_POINTS, n, increasing=True), at_infinity])

    return np.linalg.inv(powers(_NUMBERS)).T, powers(3), powers(_RESULTS).T


class Winograd:
    """A convolution of 3 x 3 with a stride of 1.

    Parameters
    ----------
    weight
        (results, channels, 3, 3), float32.
    bias
        (results,), or None.
    relu
        Whether it ends with a ReLU.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, relu: bool) -> None:
        to_numbers, to_weights, to_results = _matrices()
        changed = np.einsum("ia,ocab,jb->ijoc", to_weights, weight.double().numpy(), to_weights)
        self._weights = _tensor(changed).flatten(0, 2)[..., None, None]
        self._to_numbers = _tensor(np.kron(to_numbers, to_numbers))
        self._to_results = _tensor(np.kron(to_results, to_results))
        self._bias = None
        if bias is not None:
            # What is changed back into ones.
            ones = np.linalg.pinv(to_results) @ np.ones(_RESULTS)
            everywhere = np.outer(np.kron(ones, ones), bias.double().numpy())
            self._bias = _tensor(everywhere).flatten()
        self._relu = relu
        # Whole blocks, and what is left over.
        self._packed_for = lru_cache(maxsize=2)(self._pack)

    def __call__(self, x: torch.Tensor, padding: Sequence[int]) -> torch.Tensor:
        """Results (n, results, height, width) of a batch (n, channels, height, width).

        Both lie channels last.
        """
        rows = x.permute(0, 2, 3, 1)
        height, width = (n + 2 * p - 2 for n, p in zip(rows.shape[1:3], padding, strict=True))
        down, across = -(-height // _RESULTS), -(-width // _RESULTS)
        ends = [0, 0]
        for n, p, tiles in ((rows.shape[2], padding[1], across), (rows.shape[1], padding[0], down)):
            ends += [p, _RESULTS * tiles + 2 - n - p]
        whole = rows.new_empty(len(rows), height, width, len(self._weights) // _NUMBERS**2)
        n = _even(len(rows), _TILES_AT_ONCE // (down * across))
        m = _even(down, _TILES_AT_ONCE // across)
        for some, result in zip(rows.split(n), whole.split(n), strict=True):
            padded = torch.nn.functional.pad(some, ends)
            for first in range(0, down, m):
                top, end = _RESULTS * first, _RESULTS * min(first + m, down)
                tiles = self._tiles(padded[:, top : end + 2], min(m, down - first), across)
                self._lay(tiles, result[:, top:end])
        return whole.permute(0, 3, 1, 2)

    def _tiles(self, rows: torch.Tensor, down: int, across: int) -> torch.Tensor:
        """Results of whole tiles, (n, down, across, 4, 4, results)."""
        n, _, _, channels = rows.shape
        a, b, c, d = rows.stride()
        tiles = rows.as_strided(
            (n, down, across, _NUMBERS, _NUMBERS, channels),
            (a, _RESULTS * b, _RESULTS * c, b, c, d),
        )
        numbers = self._to_numbers @ tiles.reshape(-1, _NUMBERS**2, channels)
        results = self._to_results @ self._products(numbers)
        return results.view(n, down, across, _RESULTS, _RESULTS, -1)

    def _products(self, numbers: torch.Tensor) -> torch.Tensor:
        """Sums over channels of numbers times weights, (tiles, 36, results): 36 products.

        As a convolution of 1 x 1 in as many groups they are a fifth faster than as a batch of them.
        """
        flat = numbers.view(1, 1, len(numbers), -1).permute(0, 3, 1, 2)
        if torch.backends.mkldnn.is_available():
            products = torch.ops.mkldnn._convolution_pointwise(
                flat, self._packed_for(len(numbers)), self._bias,
                [0, 0], [1, 1], [1, 1], _NUMBERS**2, "none", [], "",
            )  # fmt: skip
        else:
            products = torch.conv2d(flat, self._weights, self._bias, groups=_NUMBERS**2)
        return products.permute(0, 2, 3, 1).reshape(len(numbers), _NUMBERS**2, -1)

    def _pack(self, tiles: int) -> torch.Tensor:
        """Weights as oneDNN wants them for so many tiles."""
        shape = [1, _NUMBERS**2 * self._weights.shape[1], 1, tiles]
        return torch._C._nn.mkldnn_reorder_conv2d_weight(
            self._weights.to_mkldnn(), [0, 0], [1, 1], [1, 1], _NUMBERS**2, shape
        )

    def _lay(self, tiles: torch.Tensor, results: torch.Tensor) -> None:
        """Lay tiles side by side into (n, height, width, results), where some stick out."""
        for i in range(_RESULTS):
            for j in range(_RESULTS):
                place = results[:, i::_RESULTS, j::_RESULTS]
                found = tiles[:, : place.shape[1], : place.shape[2], i, j]
                if self._relu:
                    torch.clamp_min(found, 0, out=place)
                else:
                    place.copy_(found)


def _even(n: int, most: int) -> int:
    """How many at once, `most` or fewer: few blocks of one size."""
    blocks = -(-n // max(1, most))
    return -(-n // blocks)


def pays(x: torch.Size, weight: torch.Size, padding: Sequence[int]) -> bool:
    """Whether a convolution, of a stride of 1 and in one group, is faster in this way.

    Parameters
    ----------
    x
        Shape of the input, (n, channels, height, width).
    weight
        Shape of the weights, (results, channels, height, width).
    padding
        Of rows and columns.
    """
    if weight[2:] != (3, 3):
        return False
    height, width = (n + 2 * p - 2 for n, p in zip(x[2:], padding, strict=True))
    tiles = -(-height // _RESULTS) * -(-width // _RESULTS)
    gain = 9 * height * width / (_NUMBERS**2 * tiles)
    return bool(min(weight[:2]) >= _LEAST_CHANNELS and gain >= _LEAST_GAIN)


def _tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, np.float32))
