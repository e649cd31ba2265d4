"""Stain normalization of patches before training, each by its own estimate."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hpc_heatmap.errors import StainError
from hpc_heatmap.stain.fits import StainFit, fit_stain
from hpc_heatmap.stain.transfer import change_stain
from hpc_heatmap.training.patches import Patches
from hpc_heatmap.training.sources import Progress

__all__ = ["restain"]


def restain(patches: Patches, target: StainFit, on_progress: Progress) -> tuple[Patches, int]:
    """Change patches to a target's stain; gives the number of those that keep their colours.

    A patch keeps them where it has too little tissue, or no two stains.
    """
    images = np.empty_like(patches.images)
    n_raw = 0
    for number, image in enumerate(patches.images):
        try:
            images[number] = change_stain(image, fit_stain(image, target.method), target)
        except StainError:
            images[number] = image
            n_raw += 1
        on_progress("Normalising stains", number + 1, len(patches))
    return replace(patches, images=images), n_raw
