"""The docks as a user has them: opened from the manifest, in a real window."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication

from hpc_heatmap.formats.lesion_files import Lesion, write_lesions_csv, write_lesions_geojson
from hpc_heatmap.formats.paths import RunPaths
from hpc_heatmap.formats.run_file import ModelEntry, RunFile, SlideEntry, write_run_file
from hpc_heatmap.formats.slide_summary import SlideSummary, write_summary
from hpc_heatmap.settings import RunSettings

NAMES = ("Slides and Runs", "Monitor", "Lesions")


def open_dock(viewer: Any, name: str) -> Any:
    """The widget of a dock, opened as from the Plugins menu."""
    _, widget = viewer.window.add_plugin_dock_widget("napari-hpc-heatmap", name, tabify=True)
    return widget


def wait_for(condition: Callable[[], Any], timeout_s: float = 120) -> Any:
    """Let the window live until something holds, and give it."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not hold in time"
        QApplication.processEvents()
        time.sleep(0.005)
    return found


class Heartbeat:
    """Measures for how long the event loop answers nothing, in ms.

    Of each gap it keeps the processor time of the window's thread too: work of the window, whatever
    else the machine does meanwhile.
    """

    def __init__(self, every_ms: int = 20) -> None:
        self._every_ms = every_ms
        self._last = time.perf_counter()
        self._worked = time.thread_time()
        self.gaps_ms: list[float] = []
        self.worked_ms: list[float] = []
        self._timer = QTimer()
        self._timer.setInterval(every_ms)
        self._timer.timeout.connect(self._beat)
        self._timer.start()

    def _beat(self) -> None:
        now, worked = time.perf_counter(), time.thread_time()
        self.gaps_ms.append(1000 * (now - self._last))
        self.worked_ms.append(1000 * (worked - self._worked))
        self._last, self._worked = now, worked

    def stop(self) -> tuple[float, float]:
        """Median and largest distance of two beats, ms."""
        self._timer.stop()
        return float(np.median(self.gaps_ms)), max(self.gaps_ms)


def make_run(root: Path, n_slides: int, n_lesions: int) -> RunPaths:
    """A run directory of the size of a study: done, with the files that the docks read."""
    paths = RunPaths(root)
    ids = [f"slide_{number:03d}" for number in range(n_slides)]
    size = 100_000
    write_run_file(
        paths.run_file,
        RunFile(
            settings=RunSettings(),
            stride_px=16,
            model=ModelEntry(window_px=224),
            slides=tuple(
                SlideEntry(
                    id=name,
                    path=str(root / f"{name}.tif"),
                    width_px=size,
                    height_px=size,
                    spacing_um=(0.25, 0.25),
                    spacing_source="slide",
                )
                for name in ids
            ),
        ),
    )
    rng = np.random.default_rng(0)
    for number, name in enumerate(ids):
        files = paths.slide(name)
        n = n_lesions if number == 0 else 3
        scores = np.sort(rng.random(n))[::-1]
        places = rng.uniform(0, size, (n, 2))
        lesions = [
            Lesion(index + 1, score, score, x, y, 9, 4e4, ((square(x, y),),))
            for index, (score, (x, y)) in enumerate(
                zip(scores.tolist(), places.tolist(), strict=True)
            )
        ]
        files.root.mkdir(parents=True)
        write_summary(files.summary, SlideSummary(n_groups=2, n_patches=64, n_windows=12_544))
        write_lesions_csv(files.lesions_csv, lesions, (0.25, 0.25))
        write_lesions_geojson(files.lesions_geojson, lesions[:10], (0.25, 0.25))
        for file in (files.grid_picture, files.lookup, files.heatmap, files.overview):
            file.touch()
        files.scores.mkdir()
        for group in range(2):
            files.group_scores(group).touch()
    return paths


def square(x_px: float, y_px: float, side_px: float = 200.0) -> np.ndarray:
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], float)
    return corners * side_px / 2 + (x_px, y_px)


def darkness_model(folder: Path) -> Path:
    """A real ONNX model of windows of 32 px: its score is high where they are dark."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = np.full((3, 1), -20 / 3, np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["x"], ["mean"]),
            helper.make_node("Flatten", ["mean"], ["flat"]),
            helper.make_node("Gemm", ["flat", "weights", "bias"], ["y"]),
        ],
        "darkness",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 32, 32])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1])],
        [
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(np.array([9.0], np.float32), "bias"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path = folder / "darkness.onnx"
    onnx.save(model, path)
    path.with_suffix(".json").write_text(
        '{"name": "darkness", "num_classes": 1, "class_names": ["tumor"],'
        ' "patch_size_pixels": 32, "transform": [{"name": "ToTensor"}]}'
    )
    return path
