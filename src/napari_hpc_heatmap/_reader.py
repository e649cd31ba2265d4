"""Open slides, heatmaps and run directories in napari."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from napari.layers import Layer

from hpc_heatmap.slide import vendor_of
from napari_hpc_heatmap._keys import bind_keys
from napari_hpc_heatmap._slide_layer import open_slide

__all__ = ["get_reader"]

Reader = Callable[[str], list[Any]]


def get_reader(path: str | Sequence[str]) -> Reader | None:
    """Reader of a slide, a ``heatmap.h5`` a run directory or a sample; None for anything else."""
    if not isinstance(path, str):
        return None
    if path.startswith("hpc-heatmap-sample://"):
        return _read_sample
    place = Path(path)
    if place.is_dir():
        return _read_run if (place / "run.json").is_file() else None
    if not place.is_file():
        return None
    if place.name == "heatmap.h5":
        return _read_heatmap
    return _read_slide if vendor_of(place) is not None else None


# What only some of the readers need is loaded by them: a slide is to be seen at once.


def _read_slide(path: str) -> list[Layer]:
    bind_keys()
    return [open_slide(path)]


def _read_heatmap(path: str) -> list[Layer]:
    from napari_hpc_heatmap._heatmap_file import heatmap_layer

    bind_keys()
    return [heatmap_layer(path)]


def _read_sample(name: str) -> list[Any]:
    from napari_hpc_heatmap._samples import read_sample

    return read_sample(name)


def _read_run(path: str) -> list[Layer]:
    from hpc_heatmap import open_run
    from napari_hpc_heatmap._run_layers import MOST_SLIDES, run_layers

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
