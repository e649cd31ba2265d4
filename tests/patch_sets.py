"""Patches for tests whose class is their brightness, and slides with a dark tumour."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image
from slides import landmark_slide

from hpc_heatmap.training.patches import Patches

#: Mean colours of the classes; noise makes the difference hard to see in one pixel.
COLOURS = {"normal": (200, 150, 200), "tumor": (150, 100, 170)}


def patch_set(n: int, side_px: int = 40, seed: int = 0) -> Patches:
    """Patches of both classes in memory, `n` of each."""
    random = np.random.default_rng(seed)
    means = np.array([COLOURS["normal"], COLOURS["tumor"]] * n)[:, None, None]
    noise = random.normal(0, 40, (2 * n, side_px, side_px, 3))
    images = np.clip(means + noise, 0, 255).astype(np.uint8)
    return Patches(images, np.array([0, 1] * n, np.int64))


def write_patches(folder: Path, n: int, side_px: int = 40, seed: int = 0) -> Path:
    """The same as files normal/NNN.png and tumor/NNN.png."""
    patches = patch_set(n, side_px, seed)
    for number, (image, label) in enumerate(zip(patches.images, patches.labels, strict=True)):
        path = folder / ("tumor" if label else "normal") / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return folder


def dark_slide(folder: Path, name: str, *, annotated: bool, centre: tuple[int, int]) -> Path:
    """A slide of 900 x 800 px of pink tissue on glass with a dark disc of 130 px radius, outlined
    in ``outlines`` where it is annotated.
    """
    path = folder / "slides" / f"{name}.tif"
    path.parent.mkdir(parents=True, exist_ok=True)
    landmark_slide(
        path, 900, 800, centre, 130, spacing_um=0.5, downsamples=(1, 4), glass_px=(96, 96, 96, 96)
    )
    if annotated:
        angles = np.linspace(0, 2 * np.pi, 60, endpoint=False)
        ring = np.array(centre) + 130 * np.stack([np.cos(angles), np.sin(angles)], 1)
        outlines = folder / "outlines" / f"{name}.json"
        outlines.parent.mkdir(exist_ok=True)
        vertices = ring.tolist()
        outlines.write_text(json.dumps({"positive": [{"name": "1", "vertices": vertices}]}))
    return path
