"""A ``heatmap.h5`` as an overlay, in the frame of its slide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hpc_heatmap import Heatmap
from napari_hpc_heatmap._overlay import HeatmapLayer
from napari_hpc_heatmap._world import World

__all__ = ["heatmap_layer"]


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
        from hpc_heatmap import open_run  # Much to load that a heatmap by itself does not need.

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
