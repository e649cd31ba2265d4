"""The lookup table of a slide, ``lookup.h5``, and of a run, ``lookup.csv``."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from hpc_heatmap.cells import CellTable
from hpc_heatmap.formats.atomic import writing
from hpc_heatmap.formats.hdf5 import COMPRESSED, open_for_reading, open_for_writing
from hpc_heatmap.formats.slide_summary import SlideSummary
from hpc_heatmap.tissue import TissueMask

__all__ = ["read_lookup", "write_lookup", "write_run_lookup"]

KIND = "hpc-heatmap lookup table"
VERSION = 1


def write_lookup(path: Path, table: CellTable, tissue: TissueMask) -> None:
    """Write the lookup table of a slide with the tissue mask that it was made from."""
    with open_for_writing(path, KIND, VERSION) as file:
        file.create_dataset("cells", data=table.cells, **COMPRESSED)
        file.create_dataset("tissue_fraction", data=table.fraction, **COMPRESSED)
        file.create_dataset("group", data=table.group, **COMPRESSED)
        mask = file.create_dataset("mask", data=tissue.mask, **COMPRESSED)
        mask.attrs["scale_px"] = tissue.scale
        mask.attrs["unreadable"] = tissue.unreadable
        for name, value in tissue.thresholds.items():
            mask.attrs[f"threshold_{name}"] = value


def read_lookup(path: Path) -> CellTable:
    """Read the lookup table of a slide.

    Raises
    ------
    FormatError
        The file is missing or damaged.
    """
    with open_for_reading(path, KIND, VERSION) as file:
        return CellTable(
            np.asarray(file["cells"]),
            np.asarray(file["tissue_fraction"]),
            np.asarray(file["group"]),
        )


def write_run_lookup(path: Path, slides: Mapping[str, SlideSummary]) -> None:
    """Write the slides of a run with their first and last group, counted through the run."""
    with writing(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["slide", "first_group", "last_group", "groups", "patches", "windows"])
        first = 0
        for slide_id, summary in slides.items():
            last = first + summary.n_groups - 1
            rows.writerow(
                [slide_id, first, last, summary.n_groups, summary.n_patches, summary.n_windows]
            )
            first = last + 1
