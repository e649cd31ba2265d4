"""Results of a run in the formats of other programs."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from hpc_heatmap.errors import SettingsError
from hpc_heatmap.formats.camelyon_csv import detections_of, write_camelyon_csv
from hpc_heatmap.formats.heatmap import Heatmap
from hpc_heatmap.formats.lesion_files import Lesion, read_lesions, write_lesions_geojson
from hpc_heatmap.model import read_descriptor
from hpc_heatmap.runs.status import State
from hpc_heatmap.slide import Slide

if TYPE_CHECKING:
    from hpc_heatmap.runs.run import Run, RunSlide

__all__ = ["ExportFormat", "Exported", "Frame", "export_run", "frame_offset_px"]


class ExportFormat(StrEnum):
    """What is written."""

    GEOJSON = "geojson"
    WSINFER_CSV = "wsinfer-csv"
    CAMELYON_CSV = "camelyon-csv"
    OME_ZARR = "ome-zarr"
    OME_TIFF = "ome-tiff"
    PNG = "png"
    REVIEW_CSV = "review-csv"
    REVIEW_GEOJSON = "review-geojson"
    REVIEW_XML = "review-xml"


class Frame(StrEnum):
    """Where positions count from: the slide's first pixel, or the part that QuPath shows."""

    OPENSLIDE = "openslide"
    QUPATH = "qupath"


@dataclass(frozen=True)
class Exported:
    """What an export has written, and which slides have no heatmap yet."""

    files: dict[str, Path]
    left_out: tuple[str, ...]


_SUFFIXES = {
    ExportFormat.GEOJSON: ".geojson",
    ExportFormat.WSINFER_CSV: ".csv",
    ExportFormat.CAMELYON_CSV: ".csv",
    ExportFormat.OME_ZARR: ".ome.zarr",
    ExportFormat.OME_TIFF: ".ome.tiff",
    ExportFormat.PNG: ".png",
    ExportFormat.REVIEW_CSV: ".csv",
    ExportFormat.REVIEW_GEOJSON: ".geojson",
    ExportFormat.REVIEW_XML: ".xml",
}
_LESIONS = {ExportFormat.GEOJSON, ExportFormat.CAMELYON_CSV}
_REVIEWS = {ExportFormat.REVIEW_CSV, ExportFormat.REVIEW_GEOJSON, ExportFormat.REVIEW_XML}


def export_run(
    run: Run,
    kind: ExportFormat,
    *,
    out: str | os.PathLike[str] | None = None,
    slides: Sequence[str] | None = None,
    frame: Frame = Frame.OPENSLIDE,
    on_file: Callable[[Path], None] = lambda path: None,
) -> Exported:
    """Write one file a slide that is done; earlier exports of the same name are replaced.

    Parameters
    ----------
    run
        The run.
    kind
        What is written.
    out
        Folder. Default: ``exports/FORMAT`` of the run.
    slides
        Ids of slides. Default: all.
    frame
        Where positions count from. QuPath's needs the slides themselves.
    on_file
        Called with each file that is written.

    Raises
    ------
    SettingsError
        The run has no such slide.
    SlideError
        A slide's own file is needed and cannot be opened.
    FormatError
        A result is damaged.
    StorageError
        The folder cannot be written.
    """
    chosen = list(dict.fromkeys(slides)) if slides else list(run.slides)
    if unknown := [name for name in chosen if name not in run.slides]:
        known = ", ".join(list(run.slides)[:5]) + (", ..." if len(run.slides) > 5 else "")
        raise SettingsError(
            f"{run.root} has no slide '{unknown[0]}': give --slide an id of the run ({known})."
        )
    states = run.status().slides
    done = [name for name in chosen if states[name].state is State.DONE]
    folder = Path(os.path.abspath(out)) if out else run.paths.exports / kind.value
    # Before anything is written: a slide that is gone is found at once.
    offsets = {name: frame_offset_px(run.slides[name].path, frame) for name in done}
    files = {}
    for name in done:
        files[name] = folder / f"{name}{_SUFFIXES[kind]}"
        _export_slide(run, run.slides[name], kind, files[name], frame, offsets[name])
        on_file(files[name])
    return Exported(files, tuple(name for name in chosen if name not in files))


def frame_offset_px(slide: Path, frame: Frame) -> tuple[int, int]:
    """What to subtract from positions, (x, y), level-0 pixels.

    Raises
    ------
    SlideError
        The slide cannot be opened, and its bounds are needed.
    """
    if frame is Frame.OPENSLIDE:
        return 0, 0
    with Slide(slide) as opened:
        return opened.bounds_origin_px


def _export_slide(
    run: Run,
    slide: RunSlide,
    kind: ExportFormat,
    path: Path,
    frame: Frame,
    offset_px: tuple[int, int],
) -> None:
    if kind in _REVIEWS:
        _write_reviews(slide, kind, path, frame, offset_px)
        return
    if kind in _LESIONS:
        lesions = [
            lesion.moved(-offset_px[0], -offset_px[1])
            for lesion in read_lesions(slide.files.lesions_csv, slide.files.lesions_geojson)
        ]
        _write_lesions(slide, kind, path, frame, lesions)
        return
    with slide.heatmap as heatmap:
        _write_scores(run, slide, kind, path, heatmap, offset_px)


def _write_lesions(
    slide: RunSlide,
    kind: ExportFormat,
    path: Path,
    frame: Frame,
    lesions: Sequence[Lesion],
) -> None:
    if kind is ExportFormat.CAMELYON_CSV:
        write_camelyon_csv(path, detections_of(lesions))
        return
    write_lesions_geojson(path, lesions, slide.entry.spacing_um, _about(slide, frame))


def _about(slide: RunSlide, frame: Frame) -> dict[str, str]:
    return {"slide": slide.id, "frame": frame.value, "unit": "level-0 pixel"}


def _write_reviews(
    slide: RunSlide,
    kind: ExportFormat,
    path: Path,
    frame: Frame,
    offset_px: tuple[int, int],
) -> None:
    from hpc_heatmap.runs.review_exports import (
        write_review_csv,
        write_review_geojson,
        write_review_xml,
    )

    lesions = [
        replace(entry, lesion=entry.lesion.moved(-offset_px[0], -offset_px[1]))
        for entry in slide.lesions()
    ]
    if kind is ExportFormat.REVIEW_CSV:
        write_review_csv(path, lesions, slide.entry.spacing_um)
    elif kind is ExportFormat.REVIEW_XML:
        write_review_xml(path, lesions)
    else:
        write_review_geojson(path, lesions, slide.entry.spacing_um, _about(slide, frame))


def _write_scores(
    run: Run,
    slide: RunSlide,
    kind: ExportFormat,
    path: Path,
    heatmap: Heatmap,
    offset_px: tuple[int, int],
) -> None:
    name = f"{slide.id} {run.file.model.lesion_class or 'lesion'} probability"
    if kind is ExportFormat.PNG:
        from hpc_heatmap.formats.heatmap_png import write_heatmap_png

        write_heatmap_png(path, heatmap)
    elif kind is ExportFormat.OME_TIFF:
        from hpc_heatmap.formats.ome_tiff import write_ome_tiff

        write_ome_tiff(path, heatmap, name, offset_px)
    elif kind is ExportFormat.OME_ZARR:
        from hpc_heatmap.formats.ome_zarr import write_ome_zarr

        write_ome_zarr(path, heatmap, name, offset_px)
    else:
        from hpc_heatmap.formats.wsinfer_csv import write_wsinfer_csv

        lesion_class = run.file.model.lesion_class or "lesion"
        names = _two_classes(run)
        write_wsinfer_csv(
            path,
            heatmap,
            lesion_class,
            next((other for other in names if other != lesion_class), None),
            other_first=bool(names) and names[0] != lesion_class,
            offset_px=offset_px,
        )


def _two_classes(run: Run) -> tuple[str, ...]:
    """Names of a model's classes where their probabilities add up to 1 and are two."""
    if run.file.model.file is None:
        return ()
    descriptor = read_descriptor(run.paths.descriptor)
    adds_up = descriptor.activation in (None, "softmax")
    return descriptor.class_names if len(descriptor.class_names) == 2 and adds_up else ()
