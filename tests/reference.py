"""Where reference data is: beside the project, or where HPC_HEATMAP_TEST_DATA says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def reference(name: str) -> Path:
    """Path of a reference file or folder; the test is skipped where it is absent."""
    folder = Path(os.environ.get("HPC_HEATMAP_TEST_DATA") or ROOT.parent / "shared" / "data")
    if not (folder / name).exists():
        pytest.skip(f"no reference data {name} in {folder} (HPC_HEATMAP_TEST_DATA names another)")
    return folder / name
