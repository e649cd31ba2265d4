"""napari plugin over the engine `hpc_heatmap`; needs no Qt binding to be imported."""

from hpc_heatmap import __version__

__all__ = ["__version__"]
