"""The samples of *File > Open Sample*, opened as the menu does."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import napari
import numpy as np
import pytest
from napari._app_model import get_app_model

from hpc_heatmap import Run
from hpc_heatmap.runs.status import State

pytestmark = pytest.mark.gui


def test_both_samples_open_from_the_menu_and_the_run_fills_in(
    make_napari_viewer: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from plugin.docks_support import Heartbeat, wait_for

    # The slide that is fetched once stays where it is; the run is a new one.
    root = tmp_path / "sample-run"
    from napari_hpc_heatmap import _samples

    run_of = _samples.sample_run
    monkeypatch.setitem(_samples.SAMPLES, "hpc-heatmap-sample://run", lambda: run_of(root))
    viewer: napari.Viewer = make_napari_viewer(show=True)
    commands = get_app_model().commands

    heartbeat = Heartbeat()
    began = time.monotonic()
    commands.execute_command("napari-hpc-heatmap.slide").result()
    wait_for(lambda: len(viewer.layers) == 1, 20)
    slide = viewer.layers[0]
    assert slide.rgb and slide.multiscale and {str(unit) for unit in slide.units} == {"micrometer"}
    viewer.layers.clear()

    commands.execute_command("napari-hpc-heatmap.run").result()
    wait_for(lambda: len(viewer.layers) >= 2)
    heatmap = viewer.layers[1]
    assert viewer.layers[0].name == slide.name
    wait_for(lambda: Run(root).status().state is State.DONE, 240)
    wait_for(lambda: np.isfinite(np.asarray(heatmap.data[0])).any(), 30)
    median_ms, worst_ms = heartbeat.stop()
    print(
        f"{time.monotonic() - began:.0f} s; event loop: median {median_ms:.0f} ms,"
        f" worst {worst_ms:.0f} ms, {max(heartbeat.worked_ms):.0f} ms of work"
    )
    # Nothing is fetched or planned in the window's thread: that takes seconds.
    assert median_ms < 100
    assert max(heartbeat.worked_ms) < 800

    # The second time it is there at once, with its lesions.
    viewer.layers.clear()
    commands.execute_command("napari-hpc-heatmap.run").result()
    wait_for(lambda: len(viewer.layers) == 4)
