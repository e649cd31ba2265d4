"""Open heatmaps and run directories in napari: multiscale overlays, read lazily."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import hpc_heatmap
from hpc_heatmap.runs.status import State

__all__ = ["get_reader", "heatmap_layer"]

LayerData = tuple[Any, dict[str, Any], str]

#: Blue to red, transparent where the score is low, so that the tissue stays visible.
_COLORMAP = {
    "name": "lesion probability",
    "colors": [[0.19, 0.21, 0.58, 0.0], [1.0, 0.88, 0.56, 0.35], [0.74, 0.0, 0.15, 0.8]],
    "controls": [0.0, 0.5, 1.0],
}


def get_reader(path: str | Sequence[str]) -> Callable[[str], list[LayerData]] | None:
    """Reader of a ``heatmap.h5`` or a run directory (npe2 `readers`); None for anything else."""
    if not isinstance(path, str):
        return None
    place = Path(path)
    if place.is_dir() and (place / "run.json").is_file():
        return _read_run
    if place.name == "heatmap.h5":
        return _read_heatmap
    return None


def _read_run(path: str) -> list[LayerData]:
    run = hpc_heatmap.open_run(path)
    states = run.status().slides
    return [
        heatmap_layer(slide.heatmap, name)
        for name, slide in run.slides.items()
        if states[name].state is State.DONE
    ]


def _read_heatmap(path: str) -> list[LayerData]:
    return [heatmap_layer(hpc_heatmap.open_heatmap(path), Path(path).parent.name)]


def heatmap_layer(heatmap: hpc_heatmap.Heatmap, name: str) -> LayerData:
    """A multiscale image layer, placed in level-0 pixels of its slide.

    napari places coarser levels by the ratio of their sizes, which is within half a sample of a
    level of where they lie: below one pixel of the screen. The finest level is exact.
    """
    from napari.utils.colormaps import Colormap

    options = {
        "name": f"{name} heatmap",
        "multiscale": True,
        "scale": (heatmap.step_px[1], heatmap.step_px[0]),
        "translate": (heatmap.origin_px[1], heatmap.origin_px[0]),
        "units": ("pixel", "pixel"),
        "contrast_limits": (0.0, 1.0),
        "colormap": Colormap(**_COLORMAP),
        "blending": "translucent",
        "interpolation2d": "nearest",
        "metadata": {"hpc_heatmap": heatmap},
    }
    return heatmap.levels, options, "image"
