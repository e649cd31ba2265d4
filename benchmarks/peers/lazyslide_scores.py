"""LazySlide's way from a slide to scores: SLIDE MODEL STRIDE; prints the number of windows.

Runs in LazySlide's own environment.
"""

from __future__ import annotations

import os
import sys

import lazyslide as zs
import torch
from torchvision.transforms import v2
from wsidata import open_wsi

WINDOW_PX = 224


def main() -> None:
    """Find tissue, tile it, and run the model over the tiles."""
    slide, model, stride_px = sys.argv[1], torch.jit.load(sys.argv[2]), int(sys.argv[3])
    wsi = open_wsi(slide, store=None)
    zs.pp.find_tissues(wsi)
    zs.pp.tile_tissues(wsi, WINDOW_PX, stride_px=stride_px, mpp=wsi.properties.mpp)
    transform = v2.Compose(
        [
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    logits = zs.tl.feature_extraction(
        wsi,
        model=model,
        transform=transform,
        num_workers=int(os.environ["PEER_WORKERS"]),
        return_features=True,
        pbar=False,
        device="cpu",
    )
    scores = torch.softmax(torch.as_tensor(logits), 1)[:, 1]
    print(len(scores))


if __name__ == "__main__":
    main()
