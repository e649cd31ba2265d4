"""Sample data: the demo's slide, and a run on it that fills in before one's eyes the first time."""

from __future__ import annotations

import contextlib
from importlib.resources import as_file, files
from pathlib import Path

import platformdirs
from napari.layers import Layer

from hpc_heatmap import Run, RunSettings, open_run, start_run
from hpc_heatmap.errors import RunConflictError
from hpc_heatmap.runs.status import State
from hpc_heatmap.sample import sample_slide
from napari_hpc_heatmap._keys import bind_keys
from napari_hpc_heatmap._run_layers import run_layers
from napari_hpc_heatmap._slide_layer import open_slide

__all__ = ["open_sample_run", "open_sample_slide", "sample_run"]

#: Coarser than the demo, so that two cores need well under a minute.
SETTINGS = RunSettings(stride=48, patches_per_group=32, threshold=0.5)


def open_sample_slide() -> list[Layer]:
    """Layers of the sample slide; it is fetched once."""
    bind_keys()
    return [open_slide(sample_slide())]


def open_sample_run() -> list[Layer]:
    """Layers of the sample run. The first time it is launched, and the heatmap fills in."""
    bind_keys()
    return run_layers(sample_run())


def sample_run(root: Path | None = None) -> Run:
    """The sample run, launched where it is not done.

    Parameters
    ----------
    root
        Where it is; by default in the user's cache directory.
    """
    folder = platformdirs.user_cache_path("hpc-heatmap", appauthor=False)
    root = root or folder / "sample-run"
    if (root / "run.json").exists():
        run = open_run(root)
    else:
        with as_file(files("hpc_heatmap") / "demo_model") as model:
            run = start_run([sample_slide()], model / "model.pt2", root, settings=SETTINGS)
    if run.status().state not in (State.DONE, State.RUNNING):
        # Another napari may have launched it just now.
        with contextlib.suppress(RunConflictError):
            run.launch()
    return run
