"""Processor time of stain normalization per 448 x 448 patch: python benchmarks/stain.py PICTURE.

PICTURE is a tissue picture; patches are cut from it (repeated where it is smaller).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from hpc_heatmap.settings import StainMethod
from hpc_heatmap.stain.fits import fit_stain
from hpc_heatmap.stain.transfer import StainTable, change_stain

SIDE_PX, PATCHES = 448, 9


def milliseconds(work: Callable[[np.ndarray], object], patches: list[np.ndarray]) -> float:
    """Median over the patches."""
    took = []
    for patch in patches:
        started = time.process_time()
        work(patch)
        took.append(1000 * (time.process_time() - started))
    return float(np.median(took))


def main(picture: Path) -> None:
    """Print one line a method."""
    with Image.open(picture) as opened:
        pixels = np.asarray(opened.convert("RGB"))
    repeats = (2 * SIDE_PX // pixels.shape[0] + 1, 2 * SIDE_PX // pixels.shape[1] + 1, 1)
    whole = np.tile(pixels, repeats)
    corners = np.random.default_rng(0).integers(0, SIDE_PX, (PATCHES, 2))
    patches = [whole[y : y + SIDE_PX, x : x + SIDE_PX].copy() for y, x in corners]
    print("method     fit of a patch   arithmetic   table   (ms of processor time)")
    for method in list(StainMethod)[1:]:
        source, target = fit_stain(patches[0], method), fit_stain(pixels[::2], method)
        table = StainTable(source, target)
        for patch in patches:
            table(patch)
        fit = milliseconds(lambda patch, m=method: fit_stain(patch, m), patches)
        slow = milliseconds(lambda patch, s=source, t=target: change_stain(patch, s, t), patches)
        fast = milliseconds(table, patches)
        print(f"{method.value:<10} {fit:14.1f} {slow:12.1f} {fast:7.1f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
