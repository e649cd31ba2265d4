"""Layers of slides, heatmaps and whole runs: what readers and docks add to a viewer."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from napari.layers import Layer

from hpc_heatmap import Heatmap, Run, open_run
from hpc_heatmap.errors import HpcHeatmapError
from hpc_heatmap.runs.run import RunSlide
from napari_hpc_heatmap._lesion_layer import lesion_layers
from napari_hpc_heatmap._live import Watcher, follow, lattice_of
from napari_hpc_heatmap._overlay import HeatmapLayer
from napari_hpc_heatmap._partial_heatmap import PartialHeatmap
from napari_hpc_heatmap._slide_layer import SlideLayer, open_slide
from napari_hpc_heatmap._world import World

__all__ = ["MOST_SLIDES", "heatmap_layer", "run_layers", "run_slide_layers"]

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


def heatmap_layer(path: str | Path, **options: Any) -> HeatmapLayer:
    """Open a ``heatmap.h5`` as an overlay; it lies on its slide, whether that is open or not.

    Raises
    ------
    FormatError
        The file is missing or damaged.
    """
    heatmap = Heatmap(path)
    folder = Path(path).absolute().parent
    slide_id = str(heatmap.attributes.get("slide_id", folder.name))
    run_root = folder.parent.parent
    if (run_root / "run.json").is_file():
        slide = open_run(run_root).slides.get(slide_id)
        if slide is not None:
            given = {
                "name": f"{slide_id} {run_root.name}",
                "metadata": {"hpc_heatmap_run": str(run_root), "hpc_heatmap_slide": slide_id},
            }
            return HeatmapLayer(heatmap, World(slide.entry.spacing_um), **(given | options))
    return HeatmapLayer(
        heatmap, World(_spacing_of(heatmap)), **({"name": f"{slide_id} heatmap"} | options)
    )


def _spacing_of(heatmap: Heatmap) -> tuple[float, float] | None:
    """Micrometres per level-0 pixel, from what the file says of the spacing it was read at."""
    attributes = heatmap.attributes
    read_um, stride_px = attributes.get("read_spacing_um"), attributes.get("stride_px")
    if read_um is None or stride_px is None or not all(um > 0 for um in read_um):
        return None
    x_um, y_um = (um * stride_px / step for um, step in zip(read_um, heatmap.step_px, strict=True))
    return float(x_um), float(y_um)
