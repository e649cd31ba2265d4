"""Open slides, heatmaps and run directories in napari."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from napari.layers import Layer

from hpc_heatmap import open_run
from hpc_heatmap.slide import vendor_of
from napari_hpc_heatmap._keys import bind_keys
from napari_hpc_heatmap._run_layers import MOST_SLIDES, heatmap_layer, run_layers
from napari_hpc_heatmap._slide_layer import open_slide

__all__ = ["get_reader"]

Reader = Callable[[str], list[Layer]]


def get_reader(path: str | Sequence[str]) -> Reader | None:
    """Reader of a slide, a ``heatmap.h5`` or a run directory; None for anything else."""
    if not isinstance(path, str):
        return None
    place = Path(path)
    if place.is_dir():
        return _read_run if (place / "run.json").is_file() else None
    if not place.is_file():
        return None
    if place.name == "heatmap.h5":
        return _read_heatmap
    return _read_slide if vendor_of(place) is not None else None


def _read_slide(path: str) -> list[Layer]:
    bind_keys()
    return [open_slide(path)]


def _read_heatmap(path: str) -> list[Layer]:
    bind_keys()
    return [heatmap_layer(path)]


def _read_run(path: str) -> list[Layer]:
    bind_keys()
    run = open_run(path)
    layers = run_layers(run)
    if len(run.slides) > MOST_SLIDES:
        from napari.utils.notifications import show_info

        show_info(
            f"{run.root.name} has {len(run.slides)} slides; the first {MOST_SLIDES} are opened. "
            "Open the others from the dock Slides & Runs."
        )
    return layers
