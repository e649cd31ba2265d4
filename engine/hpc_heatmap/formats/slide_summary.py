"""Numbers of one slide, ``summary.json``; it exists once the slide's grouping is complete."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import ValidationError

from hpc_heatmap.errors import FormatError
from hpc_heatmap.formats.atomic import read_json, write_json
from hpc_heatmap.stain.fits import StainFit

__all__ = ["SlideSummary", "read_summary", "write_summary"]


@dataclass(frozen=True)
class SlideSummary:
    """Numbers of one slide.

    Attributes
    ----------
    n_groups, n_patches, n_windows
        N_g, T_p and the number of scores.
    n_unreadable
        Patches that touch a tile which could not be decoded; they get no scores.
    stain
        The slide's own stain, where one was asked for and could be estimated.
    stain_problem
        Why it could not; the slide is scored in its raw colours then.
    """

    n_groups: int
    n_patches: int
    n_windows: int
    n_unreadable: int = 0
    stain: StainFit | None = None
    stain_problem: str | None = None


def write_summary(path: Path, summary: SlideSummary) -> None:
    """Write the numbers of a slide."""
    stain = summary.stain.model_dump(mode="json") if summary.stain else None
    write_json(path, asdict(summary) | {"stain": stain})


def read_summary(path: Path) -> SlideSummary:
    """Read the numbers of a slide.

    Raises
    ------
    FormatError
        The file is damaged.
    """
    values = read_json(path)
    try:
        if values.get("stain") is not None:
            values["stain"] = StainFit(**values["stain"])
        return SlideSummary(**values)
    except (TypeError, AttributeError, ValidationError) as error:
        raise FormatError(f"{path} is not a slide's summary: delete it and resume.") from error
