"""Detections: one CSV a slide with rows ``prob,x,y`` (level-0 pixels) and no header."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hpc_heatmap.errors import EvaluationError

__all__ = ["Detections", "find_detections", "read_detections"]

_DECIMAL_COMMA = re.compile(r"^\s*\d+,\d+\s*;")


@dataclass(frozen=True)
class Detections:
    """What was found on one slide.

    Attributes
    ----------
    path
        The file, for messages.
    probability
        float64 in [0, 1].
    x_px, y_px
        Level-0 pixels.
    """

    path: Path
    probability: npt.NDArray[np.float64]
    x_px: npt.NDArray[np.float64]
    y_px: npt.NDArray[np.float64]


def find_detections(folder: str | os.PathLike[str]) -> dict[str, Path]:
    """CSV files of a folder by slide name, in the names' order.

    Raises
    ------
    EvaluationError
        There is no such folder, it holds no CSV, or two files are of one slide.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise EvaluationError(f"{folder} is no folder: give the one with a CSV for each slide.")
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() == ".csv" and p.is_file())
    if not files:
        raise EvaluationError(
            f"{folder} holds no CSV: one for each slide is needed, with rows prob,x,y; a slide "
            "without detections has an empty one."
        )
    _refuse_duplicates({file: file.stem for file in files})
    return {file.stem: file for file in files}


def _refuse_duplicates(names: Mapping[Path, str]) -> None:
    seen: dict[str, Path] = {}
    for path, name in names.items():
        other = seen.setdefault(name.casefold(), path)
        if other != path:
            raise EvaluationError(
                f"{other} and {path.name} are both of the slide {name}: keep one of them."
            )


def read_detections(path: Path) -> Detections:
    """Read the detections of one slide; an empty file means none.

    Raises
    ------
    EvaluationError
        A row is not ``prob,x,y`` with a probability in [0, 1] and finite coordinates.
    """
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise EvaluationError(f"{path} cannot be read as text: save it as UTF-8 CSV.") from error
    rows = [
        _row(path, number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()
    ]
    values = np.array(rows, dtype=np.float64).reshape(-1, 3)
    return Detections(path, values[:, 0], values[:, 1], values[:, 2])


def _row(path: Path, number: int, line: str) -> tuple[float, float, float]:
    where = f"{path}, line {number}"
    fields = [field.strip() for field in line.split(",")]
    if ";" in line or len(fields) > 3:
        comma = _DECIMAL_COMMA.match(line) or (len(fields) > 3 and fields[0] in {"0", "1"})
        raise EvaluationError(
            f"{where}: {line.strip()!r} has "
            + ("a comma as decimal point" if comma else "other columns than prob,x,y")
            + ": write rows such as 0.93,20041,10363."
        )
    if len(fields) != 3:
        raise EvaluationError(f"{where}: {line.strip()!r} is not prob,x,y.")
    try:
        probability, x_px, y_px = (float(field) for field in fields)
    except ValueError:
        if number == 1:
            raise EvaluationError(
                f"{path} begins with a header ({line.strip()!r}): delete that line; the rows are "
                "prob,x,y without a header."
            ) from None
        raise EvaluationError(f"{where}: {line.strip()!r} is not three numbers.") from None
    if not all(math.isfinite(value) for value in (probability, x_px, y_px)):
        raise EvaluationError(
            f"{where}: {line.strip()!r} is not finite: leave such detections out."
        )
    if not 0 <= probability <= 1:
        raise EvaluationError(
            f"{where}: the probability {probability:g} is not in [0, 1]; the columns are prob,x,y."
        )
    return probability, x_px, y_px
