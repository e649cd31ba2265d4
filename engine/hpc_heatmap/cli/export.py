"""The command ``export``: results for QuPath, WSInfer, the CAMELYON evaluation and OME tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from hpc_heatmap.cli.app import RunDirectory, console, errors
from hpc_heatmap.runs.export import ExportFormat, Frame, export_run
from hpc_heatmap.runs.run import open_run

__all__ = ["export"]


def export(
    directory: RunDirectory,
    /,
    *,
    format: Annotated[  # noqa: A002 - the option's name
        ExportFormat,
        Parameter(
            help="'geojson': lesions for QuPath; 'camelyon-csv': lesions as prob,x,y; "
            "'wsinfer-csv': the score of each window; 'ome-zarr' and 'ome-tiff': the heatmap with "
            "its pyramid; 'png': the heatmap as a picture; 'review-csv', 'review-geojson', "
            "'review-xml': lesions as reviewed in napari."
        ),
    ],
    out: Annotated[
        Path | None, Parameter(help="Folder. Default: exports/FORMAT of the run directory.")
    ] = None,
    slide: Annotated[
        list[str] | None,
        Parameter(negative="", consume_multiple=True, help="Ids of slides. Default: all."),
    ] = None,
    frame: Annotated[
        Frame,
        Parameter(
            help="Where positions count from: the slide's first pixel ('openslide'), or the "
            "scanned part that QuPath shows ('qupath'); they differ where a slide has bounds."
        ),
    ] = Frame.OPENSLIDE,
) -> int:
    """Write results in the formats of other programs, one file a slide.

    Positions are level-0 pixels, or micrometres in ome-zarr and ome-tiff (docs/export.md). Slides
    without a heatmap are left out and named; the exit code is 1 then.
    """
    run = open_run(directory)
    exported = export_run(
        run,
        format,
        out=out,
        slides=slide,
        frame=frame,
        on_file=lambda path: console.print(str(path), markup=False),
    )
    for name in exported.left_out:
        errors.print(
            f"hpc-heatmap: {name} has no heatmap yet and is left out; "
            f"`hpc-heatmap resume {run.root}` makes it.",
            markup=False,
        )
    return 1 if exported.left_out else 0
