"""napari plugin over the engine `hpc_heatmap`; needs no Qt binding to be imported.

>>> from napari_hpc_heatmap import run_slide_layers
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hpc_heatmap import __version__

__all__ = ["__version__", "heatmap_layer", "lesion_layers", "open_slide", "run_slide_layers"]

if TYPE_CHECKING:
    from napari_hpc_heatmap._heatmap_file import heatmap_layer
    from napari_hpc_heatmap._lesion_layer import lesion_layers
    from napari_hpc_heatmap._run_layers import run_slide_layers
    from napari_hpc_heatmap._slide_layer import open_slide

#: Imported on first use, so that finding the plugin costs nothing.
_HOMES = {
    "heatmap_layer": "_heatmap_file",
    "lesion_layers": "_lesion_layer",
    "open_slide": "_slide_layer",
    "run_slide_layers": "_run_layers",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'napari_hpc_heatmap' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(f"napari_hpc_heatmap.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
