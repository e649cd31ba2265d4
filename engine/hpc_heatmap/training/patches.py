"""Patches in memory: pixels, labels, and what they are."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hpc_heatmap.errors import TrainingError

__all__ = ["CLASS_NAMES", "Patches", "join", "split_by_patch"]

#: Class of label 0 and of label 1.
CLASS_NAMES = ("normal", "tumor")


@dataclass(frozen=True)
class Patches:
    """Patches of one split.

    Attributes
    ----------
    images
        uint8 (n, side, side, 3).
    labels
        int64 (n,), 1 for tumour.
    n_copies
        Byte-identical files that were left out.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    n_copies: int = 0

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def side_px(self) -> int:
        """Side of a patch, pixels."""
        return int(self.images.shape[1])

    @property
    def counts(self) -> tuple[int, int]:
        """Number of normal and of tumour patches."""
        n_tumour = int(self.labels.sum())
        return len(self) - n_tumour, n_tumour

    def select(self, index: npt.NDArray[np.integer]) -> Patches:
        """Some of the patches, in the order of the index."""
        return Patches(self.images[index], self.labels[index])

    def sha256(self) -> str:
        """Identity of pixels and labels in their order."""
        digest = hashlib.sha256(np.ascontiguousarray(self.images).data)
        digest.update(np.ascontiguousarray(self.labels).data)
        return digest.hexdigest()

    def colour_statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of red, green and blue on a scale of 0 to 1, three digits."""
        values = np.arange(256) / 255
        means, deviations = [], []
        for channel in range(3):
            counts = np.zeros(256, np.int64)
            for image in self.images:
                counts += np.bincount(image[..., channel].ravel(), minlength=256)
            share = counts / counts.sum()
            mean = float(share @ values)
            means.append(round(mean, 3))
            deviations.append(round(float(np.sqrt(share @ (values - mean) ** 2)), 3))
        return tuple(means), tuple(deviations)


def join(parts: Sequence[Patches]) -> Patches:
    """All patches as one.

    Raises
    ------
    TrainingError
        There are none, or they are of different sizes.
    """
    parts = [part for part in parts if len(part)]
    if not parts:
        raise TrainingError(
            "There are no patches to train on: give --patches, or --slides with --outlines."
        )
    sides = sorted({part.side_px for part in parts})
    if len(sides) > 1:
        raise TrainingError(
            f"The patches are of different sizes, {' and '.join(map(str, sides))} px: give patches "
            "of one size; --patch is the side of those that are cut from slides."
        )
    return Patches(
        np.concatenate([part.images for part in parts]),
        np.concatenate([part.labels for part in parts]),
        sum(part.n_copies for part in parts),
    )


def split_by_patch(patches: Patches, fraction: float, seed: int) -> tuple[Patches, Patches]:
    """Hold out a share of each class, at random.

    Patches of one slide may come to both sides, so what is measured on those held out flatters.
    """
    random = np.random.default_rng(seed)
    held = np.zeros(len(patches), bool)
    for label in (0, 1):
        members = random.permutation(np.flatnonzero(patches.labels == label))
        held[members[: max(2, round(fraction * len(members)))]] = True
    return patches.select(np.flatnonzero(~held)), patches.select(np.flatnonzero(held))
