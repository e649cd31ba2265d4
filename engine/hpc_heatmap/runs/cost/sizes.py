"""A table of slide sizes, for slides that are not here (yet)."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path

from hpc_heatmap.errors import SettingsError
from hpc_heatmap.runs.cost.survey import SlideSize, Survey

__all__ = ["TISSUE_SHARE", "read_sizes"]

#: Taken where nothing is known of the tissue of a slide.
TISSUE_SHARE = 0.2
_COLUMNS = "width_px,height_px, and if you have them slide,spacing_um,tissue_share,bytes"


def read_sizes(
    path: Path, window_px: int, requested_spacing_um: float | None, share: float | None = None
) -> Survey:
    """Read a CSV file with a line for each slide.

    Parameters
    ----------
    path
        Columns ``width_px`` and ``height_px`` (of level 0), and optionally ``slide`` (a name),
        ``spacing_um`` (of level 0), ``tissue_share`` (0 to 1) and ``bytes``.
    window_px, requested_spacing_um
        Of the model.
    share
        Share of tissue of slides without ``tissue_share``.

    Raises
    ------
    SettingsError
        The file is missing, or is no such table.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SettingsError(f"--sizes {path} cannot be read ({error}): give a CSV file.") from error
    if not rows or not {"width_px", "height_px"} <= set(rows[0]):
        raise SettingsError(f"--sizes {path} has no line of sizes: give the columns {_COLUMNS}.")
    sizes, guessed = [], 0
    for number, row in enumerate(rows, 2):
        scale = 1.0
        if requested_spacing_um is not None:
            if not row.get("spacing_um"):
                raise SettingsError(
                    f"--sizes {path}, line {number}: the model reads slides at "
                    f"{requested_spacing_um} um per pixel, so the column spacing_um is needed."
                )
            scale = _number(path, number, row, "spacing_um") / requested_spacing_um
        width, height = (_number(path, number, row, n) * scale for n in ("width_px", "height_px"))
        if row.get("tissue_share"):
            mine = _number(path, number, row, "tissue_share", most=1.0)
        else:
            mine = TISSUE_SHARE if share is None else share
            guessed += 1
        n_bytes = int(_number(path, number, row, "bytes")) if row.get("bytes") else 0
        name = row.get("slide") or f"line {number}"
        sizes.append(SlideSize(name, math.floor(width), math.floor(height), n_bytes, None, mine))
    notes = [f"Sizes and tissue of {len(sizes)} slides come from {path.name}."]
    if guessed:
        where = "the slides looked at" if share is not None else "an assumption"
        value = TISSUE_SHARE if share is None else share
        notes.append(
            f"{guessed} slides have no tissue_share: {100 * value:.1f} % is taken, from {where}."
        )
    return Survey(tuple(sizes), 0, window_px, tuple(notes))


def _number(
    path: Path, line: int, row: Mapping[str, str | None], name: str, most: float = math.inf
) -> float:
    text = row.get(name) or ""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (0 < value <= most and math.isfinite(value)):
        allowed = f"a number above 0, {most:g} at most" if most < math.inf else "a number above 0"
        raise SettingsError(f"--sizes {path}, line {line}: {name} is '{text}'; give {allowed}.")
    return value
