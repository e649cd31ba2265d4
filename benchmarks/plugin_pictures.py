"""Take the pictures of docs/napari.md and docs/napari-docks.md.

    scripts/with-screen .venv/bin/python benchmarks/plugin_pictures.py --study /study

Two real runs of the demo's classifier on the sample slide are launched in the study's folder, whose
name the pictures show. Every dock is grabbed as it lies in the window, in dark and in light.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from importlib.resources import files
from pathlib import Path
from typing import Any

import napari
import numpy as np
import numpy.typing as npt
from PIL import Image
from qtpy.QtGui import QImage

from hpc_heatmap import Run
from hpc_heatmap.formats.review_file import Verdict
from hpc_heatmap.runs.status import State
from hpc_heatmap.sample import sample_slide
from napari_hpc_heatmap._engine_command import Request
from napari_hpc_heatmap._heatmap_file import heatmap_layer
from napari_hpc_heatmap._keys import toggle_look
from napari_hpc_heatmap._side_by_side import toggle_side_by_side

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from plugin.docks_support import wait_for

ROOT = Path(__file__).parents[1]
DOCKS = {
    "heatmap": "Heatmap", "slides": "Slides and Runs", "monitor": "Monitor", "lesions": "Lesions",
}  # fmt: skip
Picture = npt.NDArray[np.uint8]


def prepare(study: Path) -> tuple[Path, Path, list[Path]]:
    """Slide, model and two finished runs in the study's folder."""
    study.mkdir(parents=True, exist_ok=True)
    slide = study / sample_slide().name
    shutil.copyfile(sample_slide(), slide)
    for name in ("model.pt2", "model.json"):
        shutil.copyfile(str(files("hpc_heatmap") / "demo_model" / name), study / name)
    roots = []
    for name, stride in (("run-fine", "24"), ("run-coarse", "96")):
        root = study / name
        if not root.exists():
            options = (("stride", stride), ("patches_per_group", "32"), ("threshold", "0.5"))
            Request((str(slide),), str(study / "model.pt2"), options).launch(str(root))
        wait_for(lambda root=root: Run(root).status().state is State.DONE, 600)
        roots.append(root)
    return slide, study / "model.pt2", roots


def pause(seconds: float) -> None:
    """Let the window live for a while."""
    ends = time.monotonic() + seconds
    wait_for(lambda: time.monotonic() > ends)


def grabbed(widget: Any) -> Picture:
    """Pixels of a widget."""
    image = widget.grab().toImage().convertToFormat(QImage.Format.Format_RGB888)
    bits = image.constBits()
    bits.setsize(image.sizeInBytes())
    rows = np.frombuffer(bits, np.uint8).reshape(image.height(), image.bytesPerLine())
    return rows[:, : 3 * image.width()].reshape(image.height(), image.width(), 3).copy()


def main() -> None:
    """Take all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--study", type=Path, default=Path("/study"))
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images")
    arguments = parser.parse_args()
    os.environ["NAPARI_HPC_HEATMAP_CONFIG"] = str(arguments.study / "config")
    os.environ["NAPARI_CONFIG"] = ""
    viewer = napari.Viewer()
    viewer.window._qt_window.resize(1300, 820)
    slide, model, roots = prepare(arguments.study)
    opened = {
        key: viewer.window.add_plugin_dock_widget("napari-hpc-heatmap", name, tabify=True)
        for key, name in DOCKS.items()
    }
    docks = {key: widget for key, (_, widget) in opened.items()}

    docks["slides"].slides.add([slide])
    docks["slides"].model.value = str(model)
    wait_for(lambda: slide in docks["slides"].slides.facts)
    docks["slides"].request.set("stride", "24")
    for root in reversed(roots):
        docks["monitor"]._state.choose(root)
    wait_for(lambda: all(root in docks["monitor"].views for root in roots))
    docks["monitor"].open_button.click()
    wait_for(lambda: f"{slide.stem} lesions" in viewer.layers)
    wait_for(lambda: len(docks["lesions"].model.lesions) > 0)
    docks["lesions"].next()
    docks["lesions"].mark(Verdict.CONFIRMED)
    docks["lesions"].next()
    wait_for(lambda: "patches in" in docks["slides"].cost.text(), 300)

    pictures: dict[str, list[Picture]] = {key: [] for key in DOCKS}
    for theme in ("dark", "light"):
        viewer.theme = theme
        for key, (dock, _) in opened.items():
            dock.raise_()
            pause(0.7)
            pictures[key].append(grabbed(dock))
        opened["heatmap"][0].raise_()
        viewer.reset_view()
        if theme == "light":
            toggle_look(viewer)
        pause(1.5)
        window = viewer.screenshot(canvas_only=False, flash=False)[..., :3]
        Image.fromarray(window).save(arguments.out / f"napari-{theme}.png", optimize=True)
    # The controls are all at the top.
    height = docks["heatmap"].sizeHint().height() + 40
    pictures["heatmap"] = [picture[:height] for picture in pictures["heatmap"]]
    for key, pair in pictures.items():
        Image.fromarray(np.concatenate(pair, axis=1)).save(
            arguments.out / f"dock-{key}.png", optimize=True
        )

    viewer.theme = "dark"
    toggle_look(viewer)
    (other,) = Run(roots[1]).slides.values()
    viewer.add_layer(heatmap_layer(other.files.heatmap))
    toggle_side_by_side(viewer)
    pause(2)
    window = viewer.screenshot(canvas_only=False, flash=False)[..., :3]
    Image.fromarray(window).save(arguments.out / "napari-side-by-side.png", optimize=True)
    viewer.close()


if __name__ == "__main__":
    main()
