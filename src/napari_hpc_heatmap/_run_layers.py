"""Layers of the slides of a run: what readers and docks add to a viewer."""

from __future__ import annotations

import logging
from typing import Any

from napari.layers import Layer

from hpc_heatmap import Run
from hpc_heatmap.errors import HpcHeatmapError
from hpc_heatmap.runs.run import RunSlide
from napari_hpc_heatmap._lesion_layer import lesion_layers
from napari_hpc_heatmap._live import Watcher, follow, lattice_of
from napari_hpc_heatmap._overlay import HeatmapLayer
from napari_hpc_heatmap._partial_heatmap import PartialHeatmap
from napari_hpc_heatmap._slide_layer import SlideLayer, open_slide
from napari_hpc_heatmap._world import World

__all__ = ["MOST_SLIDES", "run_layers", "run_slide_layers"]

#: Slides of a run that are opened at once: more layers than these nobody finds his way in.
MOST_SLIDES = 8

_logger = logging.getLogger(__name__)


def run_layers(run: Run, *, most: int = MOST_SLIDES) -> list[Layer]:
    """Layers of a run's slides; those of the first slide are visible.

    Parameters
    ----------
    run
        The run.
    most
        Slides that are opened; the rest is left to whoever asks for them one by one.
    """
    layers: list[Layer] = []
    for slide in list(run.slides.values())[:most]:
        layers += run_slide_layers(run, slide, visible=not layers)
    return layers


def run_slide_layers(run: Run, slide: RunSlide, *, visible: bool = True) -> list[Layer]:
    """Layers of one slide of a run: the slide, its heatmap and, where it is done, its lesions.

    A heatmap whose scoring goes on fills in. What cannot be opened (a slide that was moved) is
    left out, with a warning.
    """
    layers: list[Layer] = []
    world = World(slide.entry.spacing_um)
    image = _slide_of(slide, visible)
    if image is not None:
        layers.append(image)
    heatmap = _heatmap_of(run, slide, world, image, visible)
    if heatmap is not None:
        layers.append(heatmap)
    if slide.files.lesions_csv.exists() and slide.files.lesions_geojson.exists():
        try:
            found = lesion_layers(slide)
        except HpcHeatmapError as error:
            _logger.warning("%s", error)
        else:
            for layer in found:
                layer.visible = visible
                layers.append(layer)
    return layers


def _slide_of(slide: RunSlide, visible: bool) -> SlideLayer | None:
    spacing_um = slide.entry.spacing_um
    given = spacing_um[0] if spacing_um and slide.entry.spacing_source == "given" else None
    try:
        return open_slide(slide.path, spacing_um=given, name=slide.id, visible=visible)
    except HpcHeatmapError as error:
        _logger.warning("%s", error)
        return None


def _heatmap_of(
    run: Run, slide: RunSlide, world: World, image: SlideLayer | None, visible: bool
) -> HeatmapLayer | None:
    options: dict[str, Any] = {
        "name": f"{slide.id} {run.root.name}",
        "visible": visible,
        "metadata": {"hpc_heatmap_run": str(run.root), "hpc_heatmap_slide": slide.id},
    }
    if slide.files.heatmap.exists():
        return HeatmapLayer(slide.heatmap, world, **options)
    if image is None or slide.entry.problem:
        return None
    partial = PartialHeatmap(lattice_of(run, image.slide), slide.path)
    layer = HeatmapLayer(partial, world, **options)
    follow(layer, Watcher(slide.files, partial))
    return layer
