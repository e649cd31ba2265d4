"""WSInfer's table of windows: ``minx,miny,width,height,prob_CLASS``, level-0 pixels.

QuPath's WSInfer extension and WSInfer's own converters read it. Each score is a row: the window
that it was made from. At a stride below the window's side the windows overlap.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hpc_heatmap.formats.atomic import writing
from hpc_heatmap.formats.heatmap import BLOCK, Heatmap

__all__ = ["write_wsinfer_csv"]


def write_wsinfer_csv(
    path: Path,
    heatmap: Heatmap,
    lesion_class: str,
    other_class: str | None = None,
    *,
    other_first: bool = True,
    offset_px: tuple[float, float] = (0.0, 0.0),
) -> None:
    """Write the scores of a slide, block by block; memory does not depend on its size.

    Parameters
    ----------
    path
        Where to.
    heatmap
        The scores.
    lesion_class
        Name of the class whose probability the scores are.
    other_class
        The other class of a model that has two: its probability is 1 - score.
    other_first
        Whether the other class is the model's first.
    offset_px
        Subtracted from the positions, (x, y).
    """
    attributes = heatmap.attributes
    step = np.array(heatmap.step_px)
    size = int(attributes["window_px"]) * step / int(attributes["stride_px"])
    corner = np.array(heatmap.origin_px) + 0.5 - size / 2 - np.array(offset_px)
    width, height = np.rint(size).astype(int).tolist()
    names = [f"prob_{lesion_class}"]
    if other_class is not None:
        names.insert(0 if other_first else 1, f"prob_{other_class}")
    dataset = heatmap.dataset()
    with writing(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        file.write(",".join(["minx", "miny", "width", "height", *names]) + "\n")
        for top in range(0, dataset.shape[0], BLOCK):
            for left in range(0, dataset.shape[1], BLOCK):
                scores = dataset[top : top + BLOCK, left : left + BLOCK]
                rows, columns = np.nonzero(~np.isnan(scores))
                x = np.rint(corner[0] + (left + columns) * step[0]).astype(int)
                y = np.rint(corner[1] + (top + rows) * step[1]).astype(int)
                p = scores[rows, columns].astype(np.float64)
                found: Sequence[np.ndarray] = (p,)
                if other_class is not None:
                    found = (1 - p, p) if other_first else (p, 1 - p)
                values = zip(x.tolist(), y.tolist(), *(v.tolist() for v in found), strict=True)
                file.writelines(
                    f"{x},{y},{width},{height},{','.join(f'{p:.6f}' for p in ps)}\n"
                    for x, y, *ps in values
                )
