"""A CSV with a header, one slide a row: truth and scores."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np
import numpy.typing as npt

from hpc_heatmap.errors import EvaluationError

__all__ = ["ScoreTable", "read_score_table"]

#: Columns that name the slide, if none is given; lower case.
_SLIDE_COLUMNS = ("slide", "slide_name", "slide_id", "name", "image", "case", "filename", "file")
_SLIDE_SUFFIXES = {".tif", ".tiff", ".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".dcm"}
_POSITIVE = {"1", "true", "yes", "positive", "tumor", "tumour"}
_NEGATIVE = {"0", "false", "no", "negative", "normal"}


@dataclass(frozen=True)
class ScoreTable:
    """Rows of a CSV by column name."""

    path: Path
    columns: dict[str, list[str]]

    def column(self, name: str) -> list[str]:
        """Texts of a column.

        Raises
        ------
        EvaluationError
            There is no such column.
        """
        if name not in self.columns:
            raise EvaluationError(
                f"{self.path} has no column {name}: it has {', '.join(filter(None, self.columns))}."
            )
        return self.columns[name]

    def scores(self, name: str) -> npt.NDArray[np.float64]:
        """Numbers of a column.

        Raises
        ------
        EvaluationError
            A value is missing, no number, or not finite.
        """
        values = []
        for line, text in enumerate(self.column(name), 2):
            where = f"{self.path}, line {line}, column {name}"
            try:
                value = float(text)
            except ValueError:
                comma = text.count(",") == 1 and text.replace(",", "").strip("-").isdigit()
                raise EvaluationError(
                    f"{where}: {text!r} is no number"
                    + (", it has a comma as decimal point: write a point." if comma else ".")
                ) from None
            if not math.isfinite(value):
                raise EvaluationError(f"{where}: the score is {text}: leave that slide out.")
            values.append(value)
        return np.array(values)

    def truth(self, name: str) -> npt.NDArray[np.bool_]:
        """Whether each slide is positive.

        Raises
        ------
        EvaluationError
            A value is neither positive nor negative.
        """
        found = []
        for line, text in enumerate(self.column(name), 2):
            word = text.strip().lower().removesuffix(".0")
            if word not in _POSITIVE | _NEGATIVE:
                raise EvaluationError(
                    f"{self.path}, line {line}, column {name}: the truth {text!r} is neither 0 nor "
                    "1 (or normal and tumor)."
                )
            found.append(word in _POSITIVE)
        return np.array(found, dtype=bool)

    def slides(self, name: str | None = None) -> list[str]:
        """Names of the slides, without the suffix of a slide's file.

        Raises
        ------
        EvaluationError
            No column names the slides, or a slide is there twice.
        """
        column = name or next((c for c in self.columns if c.lower() in _SLIDE_COLUMNS), None)
        if column is None:
            raise EvaluationError(
                f"{self.path} has no column that names the slide: call it slide, or say which."
            )
        self.check_slides(column)
        return [_without_suffix(text.strip()) for text in self.column(column)]

    def labels(self, truth: str, name: str | None = None) -> dict[str, bool]:
        """Whether each slide is positive, by its name.

        Raises
        ------
        EvaluationError
            As of :meth:`slides` and :meth:`truth`.
        """
        return dict(zip(self.slides(name), self.truth(truth).tolist(), strict=True))

    def check_slides(self, name: str | None = None) -> None:
        """Refuse a slide that stands in two rows.

        Raises
        ------
        EvaluationError
            A slide is there twice.
        """
        names = [name] if name else [c for c in self.columns if c.lower() in _SLIDE_COLUMNS][:1]
        for column in names:
            seen: dict[str, int] = {}
            for line, slide in enumerate(self.column(column), 2):
                first = seen.setdefault(slide.strip(), line)
                if first != line:
                    raise EvaluationError(
                        f"{self.path}: the slide {slide} stands in lines {first} and {line}: keep "
                        "one row for each slide."
                    )


def _without_suffix(slide: str) -> str:
    path = PurePath(slide)
    return path.stem if path.suffix.lower() in _SLIDE_SUFFIXES else path.name


def read_score_table(path: Path) -> ScoreTable:
    """Read a CSV with a header.

    Raises
    ------
    EvaluationError
        The file cannot be read, or its rows do not fit its header.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if any(field.strip() for field in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise EvaluationError(f"{path} cannot be read as a CSV in UTF-8.") from error
    if len(rows) < 2:
        raise EvaluationError(f"{path} has no rows below its header.")
    header, body = rows[0], rows[1:]
    if len(header) == 1 and ";" in header[0]:
        raise EvaluationError(f"{path} is separated by semicolons: save it with commas.")
    if len(set(header)) < len(header):
        raise EvaluationError(f"{path} has two columns of one name.")
    for line, row in enumerate(body, 2):
        if len(row) != len(header):
            raise EvaluationError(
                f"{path}, line {line} has {len(row)} fields, the header {len(header)}: a comma as "
                "decimal point, or a broken row."
            )
    return ScoreTable(path, {name: [row[i] for row in body] for i, name in enumerate(header)})
