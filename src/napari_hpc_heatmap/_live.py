"""Heatmaps that fill in while their run goes: a thread looks at the run's files, napari draws."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from pathlib import Path

from hpc_heatmap import Heatmap, Run, Slide
from hpc_heatmap.errors import HpcHeatmapError
from hpc_heatmap.formats.paths import SlidePaths
from hpc_heatmap.formats.score_file import read_scores
from hpc_heatmap.geometry import Geometry
from napari_hpc_heatmap._main_thread import in_main_thread
from napari_hpc_heatmap._overlay import HeatmapLayer
from napari_hpc_heatmap._partial_heatmap import PartialHeatmap

__all__ = ["POLL_S", "Watcher", "follow", "lattice_of"]

POLL_S = 1.0

_logger = logging.getLogger(__name__)


def lattice_of(run: Run, slide: Slide) -> Geometry:
    """Lattice on which a run scores a slide."""
    model = run.file.model
    view = slide.view(model.requested_spacing_um)
    return Geometry(view.width_px, view.height_px, model.window_px, run.file.stride_px, *view.scale)


class Watcher:
    """Brings new scores of a slide into a partial heatmap, then opens the finished one.

    Parameters
    ----------
    files
        The slide's files in the run.
    partial
        What is filled.
    """

    def __init__(self, files: SlidePaths, partial: PartialHeatmap) -> None:
        self._files = files
        self._partial = partial
        self._seen: set[str] = set()
        self.finished: Heatmap | None = None

    def look(self) -> bool:
        """Look once; tells whether there is more than before."""
        if self._files.heatmap.exists():
            self.finished = Heatmap(self._files.heatmap)
            return True
        try:
            names = {entry.name for entry in os.scandir(self._files.scores)}
        except FileNotFoundError:
            return False
        new = sorted(n for n in names - self._seen if n.endswith(".h5") and n[:-3].isdigit())
        added = False
        for name in new:
            try:
                self._partial.add(read_scores(Path(self._files.scores) / name))
            except HpcHeatmapError as error:
                # The run says so too; `resume` scores the group again under the same name.
                _logger.warning("%s", error)
                continue
            self._seen.add(name)
            added = True
        return added


def follow(layer: HeatmapLayer, watcher: Watcher) -> None:
    """Keep an overlay up to date until its slide is done or the layer is gone.

    One daemon thread looks at the files, one look at a time; a disk that hangs stops this thread
    alone, neither napari nor its closing. Without a window the layer shows what one look gives.
    """
    reference = weakref.ref(layer)

    def show() -> None:
        if (alive := reference()) is None:
            return
        if watcher.finished is None:
            alive.reload()
        else:
            alive.show_scores(watcher.finished)

    announce = in_main_thread(show)
    if announce is None:
        if watcher.look():
            show()
        return
    pause = threading.Event()

    def work() -> None:
        while reference() is not None and watcher.finished is None:
            try:
                if watcher.look():
                    announce()
            except (HpcHeatmapError, OSError) as error:
                _logger.warning("the scores cannot be looked at: %s", error)
            pause.wait(POLL_S)

    threading.Thread(target=work, name="hpc-heatmap-live", daemon=True).start()
