"""Where a run came from."""

from __future__ import annotations

import datetime
import platform
import socket
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

__all__ = ["package_versions", "provenance"]

_PACKAGES = (
    "hpc-heatmap", "napari-hpc-heatmap", "numpy", "scipy", "scikit-image", "h5py", "dask",
    "openslide-python", "openslide-bin", "torch", "onnxruntime", "submitit", "pillow",
)  # fmt: skip


def package_versions() -> dict[str, str]:
    """Versions of the packages that decide a score."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def provenance() -> dict[str, Any]:
    """Time, host, command line and versions."""
    from hpc_heatmap import __version__

    return {
        "created_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "processor": platform.machine(),
        "python": platform.python_version(),
        "engine": __version__,
        "packages": package_versions(),
        "command": sys.argv,
    }
