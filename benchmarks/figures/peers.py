"""From a slide to scores against other programs, as published, by windows a second of wall time.

Each peer is installed into an environment of its own (6 to 7 GB each; kept in ``--work`` for the
next time) and gets the same slides and the same TorchScript file. Each finds tissue in its own way,
and so has another number of windows. What is measured is the whole command: import, tissue,
reading, model, and the scores on disk or in memory. Slides of minutes are small, so each is run on
a smaller one too: the ratio is of the windows that one slide has more to the time that it takes
longer, and starting, which a real slide does not notice, is printed beside it. A peer that cannot
be installed or run is named below the row, and the others are compared.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

from googlenet import shared_googlenet
from harness import Bench, UnavailableError, figure, round_tissue

from hpc_heatmap.formats.paths import RunPaths
from hpc_heatmap.formats.task_files import read_records
from hpc_heatmap.processes import usable_cores

WINDOW_PX = 224
#: A peer that takes longer for a slide is given up, seconds.
TIME_LIMIT_S = 900
#: Sides of a small and a larger slide for each stride.
SIDES_PX = {224: (1_344, 17_920), 56: (1_344, 5_376), 16: (448, 1_792)}
SCRIPTS = Path(__file__).parents[1] / "peers"


class _PeerError(Exception):
    """Why a peer was not measured."""


@dataclass(frozen=True)
class _Request:
    slide: Path
    model: Path
    stride_px: int
    folder: Path


@dataclass(frozen=True)
class _Peer:
    """A program of others.

    Attributes
    ----------
    name
        As on PyPI.
    requirements
        What pip installs.
    run
        Scores the slide; gives the number of windows.
    """

    name: str
    requirements: tuple[str, ...]
    run: Callable[[Path, _Request], int]

    def environment(self, work: Path) -> Path:
        """Folder of its environment, made where it is not there yet."""
        folder = work / self.name
        done = folder / "installed.txt"
        wanted = "\n".join(self.requirements)
        if done.is_file() and done.read_text("utf-8") == wanted:
            return folder
        shutil.rmtree(folder, ignore_errors=True)
        _call([sys.executable, "-m", "venv", str(folder)], work, "cannot be installed")
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "-q", *self.requirements]
        _call(pip, work, "cannot be installed")
        done.write_text(wanted, "utf-8")
        return folder


@dataclass(frozen=True)
class _Timed:
    """Windows of a command, and its wall time."""

    windows: int
    took_s: float


def _timed(run: Callable[[], int]) -> _Timed:
    started = time.perf_counter()
    windows = run()
    return _Timed(windows, time.perf_counter() - started)


def _rate(small: _Timed, large: _Timed) -> float:
    """Windows a second past the start."""
    return (large.windows - small.windows) / (large.took_s - small.took_s)


def _say(bench: Bench, name: str, small: _Timed, large: _Timed) -> None:
    rate = _rate(small, large)
    bench.say(
        f"{name}: {rate:.1f} windows a second after {small.took_s - small.windows / rate:.0f} s to "
        f"start ({small.windows} windows in {small.took_s:.1f} s, {large.windows} in "
        f"{large.took_s:.1f} s)"
    )


def _call(command: list[str], folder: Path, problem: str, **variables: str) -> str:
    """Run a command without the network's help; gives what it printed."""
    quiet = {"HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | quiet | variables
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True,
            timeout=TIME_LIMIT_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise _PeerError(f"{problem}: it took more than {TIME_LIMIT_S} s") from error
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise _PeerError(f"{problem}: {last}")
    return done.stdout


def _run_script(name: str) -> Callable[[Path, _Request], int]:
    """A peer that is used from Python: a script that prints the number of windows last."""

    def run(environment: Path, request: _Request) -> int:
        command = [str(environment / "bin" / "python"), str(SCRIPTS / name)]
        asked = [str(request.slide), str(request.model), str(request.stride_px)]
        workers = str(usable_cores())
        said = _call(command + asked, request.folder, "cannot be run", PEER_WORKERS=workers)
        return int(said.split()[-1])

    return run


def _run_wsinfer(environment: Path, request: _Request) -> int:
    """WSInfer's command with a model of one's own and its fastest settings."""
    # Its list of models is fetched at import; an empty one does for a model of one's own.
    home = request.folder / "home"
    registry = home / ".wsinfer-zoo" / "wsinfer-zoo-registry.json"
    registry.parent.mkdir(parents=True)
    registry.write_text(json.dumps({"models": {}}), "utf-8")
    slides, results = request.folder / "slides", request.folder / "results"
    slides.mkdir()
    (slides / request.slide.name).symlink_to(request.slide)
    overlap = 1 - request.stride_px / WINDOW_PX
    _call(
        [
            str(environment / "bin" / "wsinfer"), "run", "--wsi-dir", str(slides),
            "--results-dir", str(results), "--model-path", str(request.model),
            "--config", str(request.model.with_suffix(".json")),
            "--num-workers", str(usable_cores()), "--speedup",
            "--patch-overlap-ratio", str(overlap), "--seg-min-object-size-um2", "1000",
        ],
        request.folder, "cannot be run", HOME=str(home), WSINFER_FORCE_CPU="1",
    )  # fmt: skip
    scores = results / "model-outputs-csv" / f"{request.slide.stem}.csv"
    if not scores.is_file():
        raise _PeerError("it found no tissue")
    with scores.open(encoding="utf-8") as file:
        return sum(1 for _ in csv.DictReader(file))


#: The newest torch for each that the peer works with; that of the engine is newer or older.
PEERS = (
    _Peer(
        "wsinfer",
        ("torch==2.14.1", "torchvision==0.29.1", "wsinfer==0.6.1", "zarr<3", "tiffslide<3"),
        _run_wsinfer,
    ),
    _Peer(
        "tiatoolbox",
        ("torch==2.9.1", "torchvision==0.24.1", "tiatoolbox==2.1.3"),
        _run_script("tiatoolbox_scores.py"),
    ),
    _Peer(
        "lazyslide",
        ("torch==2.14.1", "torchvision==0.29.1", "lazyslide==0.13.0"),
        _run_script("lazyslide_scores.py"),
    ),
)


def _run_engine(request: _Request) -> int:
    """The engine's own command, exact."""
    out = request.folder / "run"
    command = [sys.executable, "-m", "hpc_heatmap", "run", str(request.slide), "--quiet"]
    command += ["--model", str(request.model), "--out", str(out)]
    command += ["--stride", str(request.stride_px)]
    subprocess.run(command, check=True, capture_output=True)
    records = read_records(RunPaths(out))
    return sum(record.windows for record in records if record.stage == "scoring")


def _against_peers(bench: Bench, stride_px: int) -> list[float]:
    model, requests = shared_googlenet(bench), count()

    def request(side_px: int) -> _Request:
        slide = bench.once(f"slide-{side_px}.tiff", lambda path: round_tissue(path, side_px))
        folder = bench.folder / str(next(requests))
        folder.mkdir()
        return _Request(slide, model, stride_px, folder)

    def timed(run: Callable[[_Request], int]) -> list[_Timed]:
        return [_timed(partial(run, request(side_px))) for side_px in SIDES_PX[stride_px]]

    rates = {}
    # What is tried once for a model and some pixels on a machine is tried now.
    for side_px in SIDES_PX[stride_px]:
        _run_engine(request(side_px))
    ours = [timed(_run_engine)]
    for peer in PEERS:
        name = peer.requirements[2]
        try:
            theirs = timed(partial(peer.run, peer.environment(bench.work)))
        except _PeerError as reason:
            bench.say(f"{name}: {reason}")
            continue
        rates[name] = _rate(*theirs)
        _say(bench, name, *theirs)
    ours.append(timed(_run_engine))
    for both in ours:
        _say(bench, "hpc-heatmap", *both)
    if not rates:
        raise UnavailableError("; ".join(bench.lines))
    fastest = max(rates, key=lambda name: rates[name])
    bench.say(f"the fastest peer is {fastest}")
    return [_rate(*both) / rates[fastest] for both in ours]


@figure("stride224_peer", goal=2.5, alone=True)
def stride224_peer(bench: Bench) -> list[float]:
    """Windows a second from slide to scores, stride 224, against the fastest peer (wall time)."""
    return _against_peers(bench, 224)


@figure("stride56_peer", goal=3, alone=True)
def stride56_peer(bench: Bench) -> list[float]:
    """Windows a second from slide to scores, stride 56, against the fastest peer (wall time)."""
    return _against_peers(bench, 56)


@figure("stride16_peer", goal=6, alone=True)
def stride16_peer(bench: Bench) -> list[float]:
    """Windows a second from slide to scores, stride 16, against the fastest peer (wall time)."""
    return _against_peers(bench, 16)
