"""Sample data: the demo's slide, and a run on it that fills in before one's eyes the first time.

napari takes layers from readers alone. So a sample is a name, ``hpc-heatmap-sample://slide``, which
the reader takes; the slide is fetched and the run planned in a thread, and opened when it is there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import napari
import platformdirs
from napari.utils.notifications import show_error, show_info

from hpc_heatmap.sample import sample_slide
from napari_hpc_heatmap._engine_command import CommandError, Request, run_command
from napari_hpc_heatmap._main_thread import in_main_thread

__all__ = ["SAMPLES", "read_sample", "sample_run"]

#: Coarser than the demo, so that two cores need well under a minute.
_OPTIONS = {"stride": "48", "patches_per_group": "32", "threshold": "0.5"}


def sample_run(root: Path | None = None) -> Path:
    """Directory of the sample run, which is launched where it is not done.

    Parameters
    ----------
    root
        Where it is; by default in the user's cache directory.

    Raises
    ------
    HpcHeatmapError
        There is no place for the slide, or the engine refuses.
    """
    # In the thread that calls this, since it takes long to load.
    from hpc_heatmap import open_run
    from hpc_heatmap.runs.status import State

    root = root or platformdirs.user_cache_path("hpc-heatmap", appauthor=False) / "sample-run"
    slide = sample_slide()
    try:
        if not (root / "run.json").exists():
            with as_file(files("hpc_heatmap") / "demo_model") as model:
                request = Request((str(slide),), str(model / "model.pt2"), tuple(_OPTIONS.items()))
                request.launch(str(root))
        elif open_run(root).status().state not in (State.DONE, State.RUNNING):
            run_command(["resume", str(root), "--detach", "--quiet"])
    except CommandError:
        # Another napari may have launched it just now.
        if not (root / "run.json").exists():
            raise
    return root


#: What is opened, by the names in the manifest.
SAMPLES: dict[str, Callable[[], Path]] = {
    "hpc-heatmap-sample://slide": sample_slide,
    "hpc-heatmap-sample://run": sample_run,
}


def read_sample(name: str) -> list[Any]:
    """Open a sample in the current viewer as soon as it is there.

    Parameters
    ----------
    name
        One of `SAMPLES`.

    Returns
    -------
    list
        What napari takes for "no layers yet".
    """
    viewer = napari.current_viewer()
    found: list[Path | Exception] = []

    def show() -> None:
        (sample,) = found
        if isinstance(sample, Exception):
            show_error(str(sample))
        elif viewer is not None:
            from napari_hpc_heatmap._reader import get_reader

            # napari may still be in the command that asked, and takes no second one meanwhile.
            reader = get_reader(str(sample))
            for layer in reader(str(sample)) if reader is not None else ():
                viewer.add_layer(layer)

    def prepare(announce: Callable[[], None]) -> None:
        try:
            found.append(SAMPLES[name]())
        except Exception as error:
            found.append(error)
        announce()

    from_thread = in_main_thread(show)
    if from_thread is None:
        prepare(show)
    else:
        show_info("The sample is made ready; the first time this takes some seconds.")
        threading.Thread(
            target=prepare, args=(from_thread,), name="hpc-heatmap-sample", daemon=True
        ).start()
    return [(None,)]
