"""What this machine can do, found by trying."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from hpc_heatmap.errors import SchedulerError
from hpc_heatmap.runs.provenance import package_versions
from hpc_heatmap.settings import LaunchSettings

__all__ = ["Finding", "examine", "examine_profile", "print_findings"]

_GIB = 1 << 30


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes
    ----------
    what
        What was looked at.
    found
        What was found.
    ok
        Whether runs can rely on it.
    """

    what: str
    found: str
    ok: bool = True

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def examine(directory: Path) -> list[Finding]:
    """Look at this machine and at the disk of a directory."""
    import psutil

    from hpc_heatmap.processes import usable_cores

    memory = psutil.virtual_memory()
    findings = [
        Finding("engine", f"hpc-heatmap {_versions('hpc-heatmap', 'napari-hpc-heatmap')}"),
        Finding("python", f"{platform.python_version()} on {platform.platform()}"),
        Finding(
            "packages",
            ", ".join(f"{n} {v}" for n, v in package_versions().items() if "heatmap" not in n),
        ),
        Finding("cores", f"{usable_cores()} usable of {os.cpu_count()}"),
        Finding(
            "memory", f"{memory.available / _GIB:.1f} GiB free of {memory.total / _GIB:.1f} GiB"
        ),
        Finding("processor", processor()),
        _try("OpenSlide", _openslide),
        _try("models .pt, .pt2", _torch),
        _try("models .onnx", _onnx),
        _try(f"disk of {directory}", lambda: _disk(directory)),
        _try("file system", lambda: _file_system(directory)),
        _try("file locking", lambda: _locking(directory)),
        _try("speed of one core", _speed),
    ]
    return [*findings, *_schedulers(), *_limits()]


def examine_profile(launch: LaunchSettings) -> list[Finding]:
    """Compare a profile with the live scheduler; nothing is submitted.

    Raises
    ------
    SettingsError
        The profile cannot be read.
    """
    from hpc_heatmap.schedulers.profiles import make_cluster_scheduler, read_profile

    profile = read_profile(launch)
    try:
        scheduler = make_cluster_scheduler(Path("jobs"), "doctor", profile)
    except SchedulerError as error:
        return [Finding(profile.cluster.value, str(error), ok=False)]
    return [
        Finding(f"{scheduler.name}: {what}", found, ok) for what, found, ok in scheduler.check()
    ]


def _versions(*names: str) -> str:
    from hpc_heatmap import __version__

    installed = [n for n in names if n in package_versions()]
    return f"{__version__} ({', '.join(installed) or 'not installed: run from its folder'})"


def _try(what: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(what, look())
    except Exception as error:
        return Finding(what, f"{type(error).__name__}: {error}", ok=False)


def _openslide() -> str:
    import openslide

    return f"library {openslide.__library_version__}, openslide-python {openslide.__version__}"


def _torch() -> str:
    import torch

    features = torch.backends.cpu.get_cpu_capability()
    return f"torch {torch.__version__}, processor features {features}"


def _onnx() -> str:
    import onnxruntime

    return f"ONNX Runtime {onnxruntime.__version__}"


def _disk(directory: Path) -> str:
    existing = _nearest(directory)
    usage = shutil.disk_usage(existing)
    with tempfile.NamedTemporaryFile(dir=existing, suffix=".partial"):
        pass
    if usage.free < _GIB:
        raise OSError(f"only {usage.free / _GIB:.2f} GiB are free")
    return f"{usage.free / _GIB:.0f} GiB free of {usage.total / _GIB:.0f} GiB, can be written"


def _nearest(directory: Path) -> Path:
    """The directory, or the nearest above it that exists."""
    existing = directory.absolute()
    while not existing.exists():
        existing = existing.parent
    return existing


def _file_system(directory: Path) -> str:
    """Kind, and what a complete small file costs: written, synced, renamed."""
    from hpc_heatmap.formats.atomic import write_json
    from hpc_heatmap.runs.tuning.measuring import file_system

    existing = _nearest(directory)
    times = []
    with tempfile.TemporaryDirectory(dir=existing) as folder:
        for number in range(10):
            began = time.perf_counter()
            write_json(Path(folder) / f"{number}.json", number)
            times.append(time.perf_counter() - began)
    return f"{file_system(existing)}; a small file takes {1000 * sorted(times)[5]:.1f} ms"


def _speed() -> str:
    """A moment's trial of the demo's classifier."""
    from importlib.resources import as_file, files

    from hpc_heatmap.model import load_classifier, read_descriptor
    from hpc_heatmap.runs.planning import windows_per_second

    with as_file(files("hpc_heatmap") / "demo_model") as folder:
        classifier = load_classifier(folder / "model.pt2", read_descriptor(folder / "model.json"))
        speed = windows_per_second(classifier, 32)
    side = classifier.window_px
    return f"{speed:.0f} windows of {side} px a second with the demo's classifier, one thread"


def processor() -> str:
    """Name of the processor, and of its features those that models gain from."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    values = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
    values = {name.strip(): value.strip() for name, value in values.items()}
    flags = set(values.get("flags", values.get("Features", "")).split())
    names = {
        "avx2": "avx2", "avx512f": "avx512", "avx512_vnni": "avx512 vnni (int8)",
        "avx512_bf16": "avx512 bf16", "amx_tile": "amx", "amx_bf16": "amx bf16",
        "asimddp": "dot product (int8)", "bf16": "bf16",
    }  # fmt: skip
    found = [title for flag, title in names.items() if flag in flags]
    name = values.get("model name", platform.machine())
    return f"{name}; {', '.join(found) or 'none of avx2, avx512, amx, bf16'}"


def _limits() -> list[Finding]:
    """Limits and accounting of the schedulers of this machine, where they answer.

    Nothing here is wrong by itself: only a profile asks for anything.
    """
    from hpc_heatmap.schedulers.profiles import make_cluster_scheduler
    from hpc_heatmap.settings import Cluster, ClusterProfile

    wanted = {"array limit", "submit limit", "accounting", "nodes submit"}
    findings = []
    for cluster in (Cluster.SLURM, Cluster.SGE):
        try:
            profile = ClusterProfile(cluster=cluster)
            scheduler = make_cluster_scheduler(Path("jobs"), "doctor", profile)
        except SchedulerError:
            continue
        findings += [
            Finding(f"{scheduler.name}: {what}", found)
            for what, found, _ in scheduler.check()
            if what in wanted
        ]
    return findings


def _locking(directory: Path) -> str:
    """HDF5 asks for locks by default; the engine itself needs none."""
    import h5py

    with tempfile.TemporaryDirectory(dir=_nearest(directory)) as folder:
        try:
            with h5py.File(Path(folder) / "locked.h5", "w", locking=True):
                return "HDF5 files can be locked"
        except OSError:
            return "HDF5 files cannot be locked here; the engine does without"


def _schedulers() -> list[Finding]:
    findings = [Finding("local", "submitit, one process a core")]
    if find_spec("submitit") is None:
        findings = [Finding("local", "submitit is not installed", ok=False)]
    for name, command, arguments in (
        ("Slurm", "sbatch", ["--version"]),
        ("Grid Engine", "qstat", ["-help"]),
    ):
        program = shutil.which(command)
        if program is None:
            findings.append(Finding(name, f"no {command} on this machine"))
            continue
        answer = subprocess.run(
            [program, *arguments], capture_output=True, text=True, timeout=20, check=False
        )
        lines = (answer.stdout or answer.stderr).strip().splitlines()
        findings.append(Finding(name, f"{lines[0] if lines else 'no answer'} ({program})"))
    return findings


def print_findings(console: Console, findings: list[Finding]) -> None:
    """One line a finding, as a user can send them."""
    width = max(len(finding.what) for finding in findings)
    for finding in findings:
        mark = "[green]ok[/]" if finding.ok else "[red]no[/]"
        console.print(f"{mark}  {escape(finding.what.ljust(width))}  {escape(finding.found)}")
