"""The demo: a sample slide, a small real classifier, the whole pipeline."""

from __future__ import annotations

import time
from importlib.resources import as_file, files
from pathlib import Path

from rich.console import Console

from hpc_heatmap.cli.progress import follow, print_outcome
from hpc_heatmap.runs.run import start_run
from hpc_heatmap.sample import sample_slide
from hpc_heatmap.settings import LaunchSettings, RunSettings

__all__ = ["show_demo"]

#: Small groups, so that two cores share the few hundred patches of the sample.
SETTINGS = RunSettings(stride=16, patches_per_group=32, threshold=0.5)


def show_demo(
    console: Console,
    errors: Console,
    slide: Path | None,
    out: Path,
    launch: LaunchSettings | None,
    *,
    quiet: bool,
) -> int:
    """Run the demo and say what to look at; gives the exit code."""
    started = time.perf_counter()
    path = slide or sample_slide(progress=lambda text: console.print(text, markup=False))
    console.print(f"Slide: {path}", markup=False)
    with as_file(files("hpc_heatmap") / "demo_model") as folder:
        run = start_run([path], folder / "model.pt2", out, settings=SETTINGS)
    model = run.file.model
    console.print(
        f"Model: {model.name}, windows of {model.window_px} px at {model.requested_spacing_um} um, "
        f"a score every {run.file.stride_px} px",
        markup=False,
    )
    with follow(errors, quiet=quiet) as show:
        status = run.resume(launch, on_status=show)
    code = print_outcome(console, errors, run, status)
    if code == 0:
        files_of_slide = next(iter(run.slides.values())).files
        console.print(
            f"Done in {time.perf_counter() - started:.0f} s.\n\n"
            f"The heatmap over the slide:   {files_of_slide.overview}\n"
            f"The cells that were chosen:   {files_of_slide.grid_picture}\n"
            f"The scores (HDF5):            {files_of_slide.heatmap}\n"
            f"Lesions for QuPath:           {files_of_slide.lesions_geojson}\n\n"
            "Next: hpc-heatmap run SLIDE... --model MODEL.pt2 --out RUN, or "
            'hpc_heatmap.open_run("RUN") in Python.\n'
            "The classifier knows lymph nodes alone: this shows the pipeline, not a diagnosis.",
            markup=False,
        )
    return code
