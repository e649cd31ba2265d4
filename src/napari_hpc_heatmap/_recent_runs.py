"""Runs that the user has launched or opened, remembered from one napari to the next."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import platformdirs

from hpc_heatmap.errors import FormatError
from hpc_heatmap.formats.atomic import read_json, write_json

__all__ = ["RecentRuns"]

_MOST = 50


class RecentRuns:
    """A list of run directories in the user's configuration, the latest first.

    Parameters
    ----------
    file
        Where it is kept. Default: the user's configuration directory, or where the variable
        NAPARI_HPC_HEATMAP_CONFIG says.
    """

    def __init__(self, file: Path | None = None) -> None:
        folder = os.environ.get("NAPARI_HPC_HEATMAP_CONFIG") or platformdirs.user_config_path(
            "napari-hpc-heatmap", appauthor=False
        )
        self.file = file or Path(folder) / "runs.json"

    def paths(self) -> list[Path]:
        """The run directories; whether they are there is not looked at."""
        with suppress(OSError, FormatError, TypeError, KeyError):
            return [Path(path) for path in read_json(self.file)["runs"]]
        return []

    def add(self, root: Path) -> None:
        """Put a run first."""
        root = Path(os.path.abspath(root))
        self._write([root, *(path for path in self.paths() if path != root)][:_MOST])

    def forget(self, root: Path) -> None:
        """Take a run off the list; its files stay."""
        self._write([path for path in self.paths() if path != root])

    def _write(self, paths: list[Path]) -> None:
        # A home that cannot be written costs the memory, not the work.
        with suppress(OSError):
            write_json(self.file, {"runs": [str(path) for path in paths]})
