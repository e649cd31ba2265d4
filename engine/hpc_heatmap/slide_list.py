"""Which slides a user means, and what they are called in a run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from hpc_heatmap.errors import SlideError, SlideNotFoundError
from hpc_heatmap.slide import Slide, vendor_of

__all__ = ["collect_slides", "slide_ids"]


def collect_slides(arguments: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """Absolute paths of slides from files and folders, each slide once, in the order given.

    Of a folder every file that OpenSlide recognises is taken; the many files of one DICOM slide
    count as one.

    Raises
    ------
    SlideNotFoundError
        A path does not exist, or a folder holds no slide.
    """
    found: list[Path] = []
    identities: set[str] = set()
    for argument in arguments:
        path = Path(os.path.abspath(argument))
        if not path.exists():
            raise SlideNotFoundError(f"There is no slide {argument}: check the path.")
        files = [path]
        if path.is_dir():
            files = [f for f in sorted(path.iterdir()) if f.is_file() and vendor_of(f)]
            if not files:
                raise SlideNotFoundError(
                    f"The folder {argument} holds no slide that OpenSlide opens."
                )
        for file in files:
            identity = _identity(file)
            if identity not in identities:
                identities.add(identity)
                found.append(file)
    return found


def _identity(file: Path) -> str:
    """What makes two arguments the same slide: the path, or for DICOM the series."""
    if file.is_file() and vendor_of(file) == "dicom":
        with suppress(SlideError), Slide(file) as slide:
            return slide.quickhash or str(file)
    return str(file)


def slide_ids(paths: Sequence[Path]) -> list[str]:
    """One short, unique, file-safe name a slide: its stem; for DICOM, whose files are named by
    number, its folder's name. Slides that share a stem get their folder's name in front.
    """
    names = [_safe(p.parent.name if p.suffix.lower() == ".dcm" else p.stem) for p in paths]
    shared = {name for name in names if names.count(name) > 1}
    names = [
        _safe(f"{p.parent.name}_{n}") if n in shared else n
        for n, p in zip(names, paths, strict=True)
    ]
    unique: list[str] = []
    for name in names:
        number, candidate = 2, name
        while candidate in unique:
            candidate, number = f"{name}_{number}", number + 1
        unique.append(candidate)
    return unique


def _safe(name: str) -> str:
    """Letters, digits, dots, dashes and underscores alone."""
    cleaned = "".join(c if c.isalnum() or c in "._-" else "_" for c in name).lstrip(".")
    return cleaned or "slide"
