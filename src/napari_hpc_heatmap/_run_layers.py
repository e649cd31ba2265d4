"""Layers of the slides of a run: what readers and docks add to a viewer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

from napari.layers import Layer

from hpc_heatmap import Heatmap, Run
from hpc_heatmap.errors import HpcHeatmapError
from hpc_heatmap.formats.lesion_files import Lesion
from hpc_heatmap.runs.run import RunSlide
from napari_hpc_heatmap._lesion_layer import layers_of_lesions, lesions_of
from napari_hpc_heatmap._live import Watcher, follow, lattice_of
from napari_hpc_heatmap._overlay import HeatmapLayer
from napari_hpc_heatmap._partial_heatmap import PartialHeatmap
from napari_hpc_heatmap._slide_layer import SlideLayer, open_pyramid
from napari_hpc_heatmap._slide_pyramid import SlidePyramid
from napari_hpc_heatmap._world import World

__all__ = ["MOST_SLIDES", "make_layers", "read_contents", "run_layers", "run_slide_layers"]

#: Slides of a run that are opened at once: more layers than these nobody finds his way in.
MOST_SLIDES = 8

_logger = logging.getLogger(__name__)
T = TypeVar("T")


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
    return list(make_layers(run, slide, read_contents(run, slide), visible=visible))


class SlideContents(NamedTuple):
    """What is read of a slide of a run before its layers are made; None where it is not there."""

    image: SlidePyramid | None
    scores: Heatmap | PartialHeatmap | None
    lesions: list[Lesion] | None


def read_contents(run: Run, slide: RunSlide) -> SlideContents:
    """Open the files of a slide of a run. Any thread may do it, and wait for a disk.

    What cannot be opened is left out, with a warning.
    """
    image = _or_warn(lambda: _open_slide(slide))
    scores: Heatmap | PartialHeatmap | None = None
    if slide.files.heatmap.exists():
        scores = _or_warn(lambda: slide.heatmap)
    elif image is not None and not slide.entry.problem:
        scores = PartialHeatmap(lattice_of(run, image.slide), slide.path)
    there = slide.files.lesions_csv.exists() and slide.files.lesions_geojson.exists()
    lesions = _or_warn(lambda: lesions_of(slide)) if there else None
    return SlideContents(image, scores, lesions)


def make_layers(
    run: Run, slide: RunSlide, contents: SlideContents, *, visible: bool = True
) -> Iterator[Layer]:
    """Make the layers of a slide one by one, in the thread of the window where there is one."""
    if contents.image is not None:
        yield SlideLayer(contents.image, name=slide.id, visible=visible)
    world, scores = World(slide.entry.spacing_um), contents.scores
    if scores is not None:
        layer = HeatmapLayer(
            scores,
            world,
            name=f"{slide.id} {run.root.name}",
            visible=visible,
            metadata={"hpc_heatmap_run": str(run.root), "hpc_heatmap_slide": slide.id},
        )
        if isinstance(scores, PartialHeatmap):
            follow(layer, Watcher(slide.files, scores))
        yield layer
    if contents.lesions is not None:
        for part in layers_of_lesions(slide, contents.lesions):
            part.visible = visible
            yield part


def _open_slide(slide: RunSlide) -> SlidePyramid:
    spacing_um = slide.entry.spacing_um
    given = spacing_um[0] if spacing_um and slide.entry.spacing_source == "given" else None
    return open_pyramid(slide.path, spacing_um=given)


def _or_warn(read: Callable[[], T]) -> T | None:
    try:
        return read()
    except HpcHeatmapError as error:
        _logger.warning("%s", error)
        return None
