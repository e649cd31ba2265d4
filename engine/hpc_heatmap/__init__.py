"""Tumour heatmaps of whole-slide images, exactly, on a laptop or a cluster.

>>> import hpc_heatmap
>>> run = hpc_heatmap.open_run("RUN")  # doctest: +SKIP
>>> run.slides["CMU-1-Small-Region"].heatmap.at(1200, 800)  # doctest: +SKIP
0.93
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "average_runs",
    "FunctionClassifier",
    "Heatmap",
    "LaunchSettings",
    "Run",
    "RunSettings",
    "Slide",
    "__version__",
    "open_heatmap",
    "open_run",
    "start_run",
]

if TYPE_CHECKING:
    from hpc_heatmap.formats.heatmap import Heatmap
    from hpc_heatmap.formats.heatmap import Heatmap as open_heatmap  # noqa: N813
    from hpc_heatmap.model import FunctionClassifier
    from hpc_heatmap.runs.averaging import average_runs
    from hpc_heatmap.runs.run import Run, open_run, start_run
    from hpc_heatmap.settings import LaunchSettings, RunSettings
    from hpc_heatmap.slide import Slide

#: Imported on first use, so that `import hpc_heatmap` costs nothing.
_HOMES = {
    "FunctionClassifier": ("hpc_heatmap.model", "FunctionClassifier"),
    "Heatmap": ("hpc_heatmap.formats.heatmap", "Heatmap"),
    "LaunchSettings": ("hpc_heatmap.settings", "LaunchSettings"),
    "Run": ("hpc_heatmap.runs.run", "Run"),
    "RunSettings": ("hpc_heatmap.settings", "RunSettings"),
    "Slide": ("hpc_heatmap.slide", "Slide"),
    "average_runs": ("hpc_heatmap.runs.averaging", "average_runs"),
    "open_heatmap": ("hpc_heatmap.formats.heatmap", "Heatmap"),
    "open_run": ("hpc_heatmap.runs.run", "open_run"),
    "start_run": ("hpc_heatmap.runs.run", "start_run"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'hpc_heatmap' has no attribute '{name}'")
    from importlib import import_module

    module, attribute = _HOMES[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)
