"""The slide viewer against napari-wsi, on the same slide in the same run.

    python benchmarks/napari_wsi.py [--work FOLDER] [--rounds 5] [--json FILE]

A JPEG TIFF of 40,960 px and its heatmap at stride 16 (2,560 x 2,560 scores) are drawn once into the
work folder, and napari-wsi gets an environment of its own there, with the same napari. Each round
opens both viewers one after the other in processes of their own, on a virtual screen with
rendering in software where there is no other, with a canvas of the same size, and takes the same
views. napari-wsi has no heatmaps: there the same scores are added as an ordinary napari layer. The
first picture is the slide's; the heatmap is opened when it is there, and timed by itself.

A time begins with the change of the view and ends with the first frame that shows what the last
one shows: in vispy's own draw event, with OpenGL waited for. The last frame is the one after which
none came for a fifth of a second and no layer still waits for tiles. To know what a frame shows it
is read back, with the clocks stopped: in software that takes longer than all that a reader does.

The medians of all rounds and views are compared; memory is the process's resident one at the end.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

SIDE_PX, SPACING_UM, STEP_PX = 40_960, 0.25, 16
VERSION = "1.3.0"
ROOT = Path(__file__).parents[1]
#: A view is settled when no frame has come for so long.
QUIET_S = 0.2
#: How many times better each figure is to be; of a heatmap's opening nothing was asked.
GOALS = {"first": 2.5, "heatmap": None, "pan": 2.0, "zoom": 2.0, "jump": 2.0, "memory": 1 / 0.7}
PLUGINS = {"ours": "napari-hpc-heatmap", "wsi": "napari-wsi"}


# What is looked at


def draw_slide(path: Path) -> None:
    """Write a slide whose middle is stained tissue and whose corners are glass.

    The tissue repeats itself every 1,024 px, so each of its tiles is encoded once; readers decode
    every one of them.
    """
    import numpy as np
    import tifffile

    sys.path.insert(0, str(ROOT / "tests"))
    from slides import GLASS_RGB, _encoded, _stained_texture

    tile_px = 256

    def tiles(downsample: int, side_px: int) -> Iterator[bytes]:
        texture = _stained_texture(downsample)
        texture = np.tile(texture, (-(-tile_px // len(texture)),) * 2 + (1,))
        encoded: dict[tuple[int, int] | None, bytes] = {}
        for top in range(0, side_px, tile_px):
            for left in range(0, side_px, tile_px):
                y, x = ((n + tile_px / 2) * downsample - SIDE_PX / 2 for n in (top, left))
                place = top % len(texture), left % len(texture)
                key = place if math.hypot(x, y) < 0.47 * SIDE_PX else None
                if key not in encoded:
                    tile = np.full((tile_px, tile_px, 3), GLASS_RGB, np.uint8)
                    if key is not None:
                        tile = texture[place[0] :, place[1] :][:tile_px, :tile_px]
                    encoded[key] = _encoded("jpeg", 80, "420", np.ascontiguousarray(tile))
                yield encoded[key]

    drawing = path.with_name("drawing.tiff")
    with tifffile.TiffWriter(drawing) as writer:
        for downsample in (1, 4, 16, 64):
            side_px = SIDE_PX // downsample
            writer.write(
                tiles(downsample, side_px), shape=(side_px, side_px, 3), dtype=np.uint8,
                tile=(tile_px, tile_px), photometric="ycbcr", compression="jpeg",
                subsampling=(2, 2), subfiletype=int(downsample > 1), metadata=None,
                resolution=(1e4 / (SPACING_UM * downsample),) * 2, resolutionunit="CENTIMETER",
            )  # fmt: skip
    os.replace(drawing, path)


def draw_heatmap(path: Path, slide: Path) -> None:
    """Write scores of the whole slide in the engine's own format."""
    import numpy as np

    from hpc_heatmap.formats.heatmap import write_heatmap
    from hpc_heatmap.geometry import Geometry

    geometry = Geometry(SIDE_PX, SIDE_PX, 224, STEP_PX)

    def block(row: int, column: int, n: int, m: int) -> Any:
        y, x = (row + np.arange(n))[:, None], column + np.arange(m)
        scores = (0.5 + 0.5 * np.sin(x / 90) * np.cos(y / 70)).astype(np.float32)
        half = geometry.shape[0] / 2
        scores[np.hypot(y - half, x - half) > 0.94 * half] = np.nan
        return scores

    about = {
        "slide_id": "slide", "slide_path": str(slide), "window_px": 224,
        "read_spacing_um": (SPACING_UM, SPACING_UM),
    }  # fmt: skip
    write_heatmap(path, geometry, block, about)


def make_environment(folder: Path) -> Path:
    """Make napari-wsi's environment, with this one's napari and Qt; gives its Python."""
    import importlib.metadata as installed

    python = folder / "bin" / "python"
    if not (folder / ".done").exists():
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        same = ["napari", "numpy", "PyQt6", "pyqt6-qt6", "vispy", "psutil", "h5py"]
        same += ["openslide-python", "openslide-bin"]
        wanted = [f"{name}=={installed.version(name)}" for name in same]
        command = [str(python), "-m", "pip", "install", "-q", *wanted]
        subprocess.run([*command, f"napari-wsi[openslide]=={VERSION}"], check=True)
        (folder / ".done").touch()
    return python


# One viewer in a process of its own


class Frame(NamedTuple):
    """What was drawn, and the clocks then, s."""

    at_s: float
    worked_s: float
    picture: bytes


class Clock:
    """Time and processor time of all threads, but for what passes while it is stopped."""

    def __init__(self) -> None:
        self._left_out = (0.0, 0.0)

    def read(self) -> tuple[float, float]:
        """Both, s."""
        return time.perf_counter() - self._left_out[0], time.process_time() - self._left_out[1]

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Leave out what is done inside."""
        before = self.read()
        yield
        now = time.perf_counter(), time.process_time()
        self._left_out = now[0] - before[0], now[1] - before[1]


def look(reader: str, work: Path, pictures: Path | None) -> dict[str, Any]:
    """Open the slide with its heatmap and take the views; times in s, memory in bytes."""
    os.environ["NAPARI_CONFIG"] = ""
    import napari
    import numpy as np
    import psutil
    from qtpy.QtWidgets import QApplication
    from vispy import gloo

    viewer = napari.Viewer()
    window = viewer.window._qt_viewer
    window.dockLayerControls.setVisible(False)
    window.dockLayerList.setVisible(False)
    viewer.window._qt_window.resize(1280, 900)
    for _ in range(20):
        QApplication.processEvents()
        time.sleep(0.02)
    viewer.screenshot(flash=False)

    frames: list[Frame] = []
    clock = Clock()

    def frame_drawn(event: Any) -> None:
        gloo.finish()
        frames.append(Frame(*clock.read(), b""))
        if is_complete():  # Else tiles would be decoded while the clocks stand still.
            with clock.stopped():
                frames[-1] = frames[-1]._replace(picture=gloo.read_pixels().tobytes())

    window.canvas._scene_canvas.events.draw.connect(frame_drawn, position="last")

    def is_complete() -> bool:
        return all(getattr(layer, "is_complete", True) for layer in viewer.layers)

    def settle() -> Frame:
        """Let the window live until nothing more comes; the first frame that shows it all."""
        while not (frames and is_complete() and clock.read()[0] - frames[-1].at_s > QUIET_S):
            QApplication.processEvents()
            time.sleep(0.0005)
        return next(frame for frame in frames if frame.picture == frames[-1].picture)

    times: dict[str, list[float]] = {}

    def timed(name: str, change: Any) -> None:
        """Take one view, by the clock and by the processor time of all threads."""
        frames.clear()
        at_s, worked_s = clock.read()
        change()
        frame = settle()
        times.setdefault(name, []).append(frame.at_s - at_s)
        times.setdefault(f"{name} cpu", []).append(frame.worked_s - worked_s)

    timed("first", lambda: viewer.open(str(work / "slide.svs"), plugin=PLUGINS[reader]))
    timed("heatmap", lambda: _open_heatmap(viewer, reader, work))
    camera = viewer.scene.camera
    # napari-wsi opens slides in pixels.
    unit = float(viewer.layers[0].scale[0])
    middle = SIDE_PX * unit / 2

    def see(x: float, y: float, px_per_pixel: float) -> None:
        camera.center = (y, x)
        camera.zoom = 1 / (px_per_pixel * unit)

    for factor in (1.3, 5.0):
        timed("approach", partial(see, middle, middle, factor))
        step = 250 * factor * unit
        for i in range(1, 9):
            timed("pan", partial(see, middle + i * step, middle + i * step / 3, factor))
    for i in range(10):
        place, factor = middle * (0.8 + 0.05 * i), 24 / 1.8 ** min(i, 10 - i)
        timed("zoom", partial(see, place, middle * 1.1, factor))
    rng = np.random.default_rng(5)
    for _ in range(10):
        angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 0.8) * middle
        x, y = middle + distance * np.cos(angle), middle + distance * np.sin(angle)
        timed("jump", partial(see, x, y, 1.5))
    times["memory"] = [psutil.Process().memory_info().rss]
    if pictures is not None:
        np.save(pictures / f"{reader}.npy", viewer.screenshot(flash=False))
    return times


def _open_heatmap(viewer: Any, reader: str, work: Path) -> None:
    if reader == "ours":
        viewer.open(str(work / "heatmap.h5"), plugin=PLUGINS[reader])
        return
    import h5py
    import numpy as np
    from napari.utils.colormaps import Colormap

    unit = float(viewer.layers[0].scale[0])
    file = h5py.File(work / "heatmap.h5")
    colours = np.array(
        [(1, 0.9, 0.3, 0), (1, 0.9, 0.3, 0), (1, 0.9, 0.3, 0.25), (0.7, 0, 0.2, 0.7)]
    )
    viewer.add_image(
        [file[f"levels/{n}"] for n in range(file.attrs["n_levels"])],
        scale=file.attrs["step_px"][::-1] * unit,
        translate=file.attrs["origin_px"][::-1] * unit,
        units=viewer.layers[0].units,
        contrast_limits=(0, 1),
        colormap=Colormap(colours, controls=[0, 0.49995, 0.5, 1], name="scores"),
    )


# Both, in turn


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("/tmp/hpc-heatmap-napari-wsi"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="where to write all times")
    parser.add_argument("--pictures", type=Path, help="a folder for the last view of each")
    parser.add_argument("--look", choices=["ours", "wsi"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    work: Path = arguments.work
    if arguments.look:
        print(json.dumps(look(arguments.look, work, arguments.pictures)))
        return
    work.mkdir(parents=True, exist_ok=True)
    slide = work / "slide.svs"  # napari-wsi takes its OpenSlide reader by this suffix
    if not slide.exists():
        print("drawing the slide ...", flush=True)
        draw_slide(slide)
    if not (work / "heatmap.h5").exists():
        draw_heatmap(work / "heatmap.h5", slide)
    pythons = {"ours": Path(sys.executable), "wsi": make_environment(work / "napari-wsi-venv")}
    found: dict[str, dict[str, list[float]]] = {"ours": {}, "wsi": {}}
    for number in range(arguments.rounds):
        for reader in ("ours", "wsi") if number % 2 else ("wsi", "ours"):
            # -P: a script of this name must not be taken for the package.
            command = [
                ROOT / "scripts" / "with-screen",
                pythons[reader],
                "-P",
                __file__,
                "--look",
                reader,
            ]
            command += ["--work", work]
            if arguments.pictures:
                command += ["--pictures", arguments.pictures]
            done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
            if done.returncode != 0:
                raise SystemExit(f"{reader} failed:\n{done.stderr}")
            for name, values in json.loads(done.stdout.splitlines()[-1]).items():
                found[reader].setdefault(name, []).extend(values)
            print(f"round {number + 1}: {reader} done", flush=True)
    report(found)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1))


def report(found: dict[str, dict[str, list[float]]]) -> None:
    """Medians, and how many times better the plugin is."""
    titles = ("here", f"napari-wsi {VERSION}", "ratio", "goal", "ratio of processor time")
    print("\n{:10}{:>12}{:>20}{:>9}{:>8}{:>26}".format("", *titles))
    for name, goal in GOALS.items():
        ours, wsi = (statistics.median(found[reader][name]) for reader in ("ours", "wsi"))
        unit, factor = ("MiB", 2**-20) if name == "memory" else ("ms", 1e3)
        print(
            f"{name:10}{ours * factor:>9.0f} {unit:3}{wsi * factor:>16.0f} {unit:3}"
            f"{wsi / ours:>9.2f}{'-' if goal is None else f'{goal:.2f}':>8}",
            end="",
        )
        if name == "memory":
            print()
            continue
        worked = [statistics.median(found[reader][f"{name} cpu"]) for reader in ("ours", "wsi")]
        print(f"{worked[1] / worked[0]:>26.2f}")


if __name__ == "__main__":
    main()
