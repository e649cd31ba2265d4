"""How long the window of napari answers nothing while the docks work.

    scripts/with-screen .venv/bin/python benchmarks/docks.py

Launches a real run of a small slide from the dock, watches it finish with its overlay, looks at its
lesions; then at a study of 200 slides with 100,000 lesions; then closes with a file that never
answers. Prints the distance of two beats of a 20 ms timer beyond those 20 ms, median and worst. The
same window without any work comes first: what else runs on the machine counts in all of them.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from plugin.docks_support import (
    NAMES,
    Heartbeat,
    darkness_model,
    make_run,
    open_dock,
    wait_for,
)
from runs.support import make_slide

from hpc_heatmap.formats.review_file import Verdict
from hpc_heatmap.runs.status import State

BEAT_MS = 20


def measured(name: str, act: Callable[[], Any]) -> None:
    """Print how the event loop fared while something was done."""
    heartbeat = Heartbeat(BEAT_MS)
    began = time.monotonic()
    act()
    taken_s = time.monotonic() - began
    median_ms, worst_ms = heartbeat.stop()
    print(
        f"{name:34} {taken_s:6.1f} s   median {max(0, median_ms - BEAT_MS):5.1f} ms   "
        f"worst {worst_ms - BEAT_MS:6.0f} ms   over 100 ms: "
        f"{sum(gap - BEAT_MS > 100 for gap in heartbeat.gaps_ms)} of {len(heartbeat.gaps_ms)}"
    )


def pause(seconds: float) -> None:
    """Let the window live for a while."""
    ends = time.monotonic() + seconds
    wait_for(lambda: time.monotonic() > ends, seconds + 60)


def launch(docks: dict[str, Any], folder: Path) -> Path:
    """Choose slide, model and settings, see the cost, launch."""
    slide, root = make_slide(folder / "a.tif"), folder / "RUN"
    slides = docks["Slides and Runs"]
    slides.slides.add([slide])
    slides.model.value = str(darkness_model(folder))
    wait_for(lambda: slide in slides.slides.facts)
    for name, value in (("stride", "8"), ("patches_per_group", "4"), ("threshold", "0.5")):
        slides.request.set(name, value)
    slides.out.value = str(root)
    wait_for(lambda: "patches in" in slides.cost.text(), 300)
    slides.launch_button.click()
    wait_for(lambda: docks["Monitor"].chosen == root, 300)
    return root


def watch(viewer: Any, docks: dict[str, Any], root: Path) -> None:
    """Open the run while it goes, until it is done."""
    monitor = docks["Monitor"]
    wait_for(lambda: root in monitor.views)
    monitor.open_button.click()
    wait_for(lambda: monitor.views[root].state is State.DONE, 300)


def review(docks: dict[str, Any]) -> None:
    """Look at the first lesion and reject it."""
    lesions = docks["Lesions"]
    wait_for(lambda: len(lesions.model.lesions) > 0)
    lesions.chooser.show_button.click()
    lesions.next()
    lesions.mark(Verdict.REJECTED)
    pause(2)


def study(docks: dict[str, Any], root: Path) -> None:
    """Sort, step and mark in a large table."""
    lesions = docks["Lesions"]
    lesions._state.choose(root)
    wait_for(lambda: len(lesions.model.lesions) == 100_000, 300)
    wait_for(lambda: root in docks["Monitor"].views)
    for column in (2, 1):
        lesions.table.sortByColumn(column, lesions.table.horizontalHeader().sortIndicatorOrder())
        pause(0.5)
    for _ in range(10):
        lesions.next()
        lesions.mark(Verdict.CONFIRMED)
        pause(0.1)


def close_hung(viewer: Any, docks: dict[str, Any], folder: Path) -> None:
    """Close the window while a read hangs."""
    dead = make_run(folder / "DEAD", 2, 5)
    summary = dead.slide("slide_001").summary
    summary.unlink()
    os.mkfifo(summary)
    docks["Lesions"]._state.choose(dead.root)
    pause(2)
    began = time.monotonic()
    viewer.close()
    print(f"closing with a file that never answers: {time.monotonic() - began:.2f} s")


def main() -> None:
    """Do it all in one window."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["NAPARI_HPC_HEATMAP_CONFIG"] = str(folder / "config")
        viewer = napari.Viewer()
        docks = {dock: open_dock(viewer, dock) for dock in NAMES}
        measured("nothing to do", lambda: pause(5))
        roots: list[Path] = []
        measured("slides, settings, cost, launch", lambda: roots.append(launch(docks, folder)))
        measured("watch with the overlay", lambda: watch(viewer, docks, roots[0]))
        measured("lesions, jump, reject", lambda: review(docks))
        root = make_run(folder / "STUDY", 200, 100_000).root
        measured("200 slides, 100,000 lesions", lambda: study(docks, root))
        close_hung(viewer, docks, folder)
        sys.stdout.flush()
        # The thread that hangs is a daemon; so is this exit's patience.
        os._exit(0)


if __name__ == "__main__":
    main()
