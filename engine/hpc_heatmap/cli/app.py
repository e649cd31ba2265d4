"""Commands of ``hpc-heatmap``. Exit code 0: done; 1: some work failed, the rest is safe; 2: the
request was wrong.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter
from pydantic import ValidationError
from rich.console import Console

import hpc_heatmap
from hpc_heatmap.errors import HpcHeatmapError, Interrupted
from hpc_heatmap.settings import Cluster, LaunchSettings, RunSettings, settings_error

__all__ = ["app", "main"]

#: Parts of a help page, so that the few options that matter are seen first.
WHAT, HOW = "What to compute", "Where it runs"

app = App(
    name="hpc-heatmap",
    help="Tumour heatmaps of whole-slide images with a patch classifier: exact, resumable, on a "
    "laptop or a cluster.",
    version=hpc_heatmap.__version__,
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)
console = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)

RunDirectory = Annotated[Path, Parameter(help="Run directory.")]
Request = Annotated[RunSettings | None, Parameter(name="*", group=WHAT)]
Launch = Annotated[LaunchSettings | None, Parameter(name="*", group=HOW)]
Detach = Annotated[
    bool,
    Parameter(
        negative="",
        group=HOW,
        show_default=False,
        help="Return at once; the run goes on by itself.",
    ),
]
Quiet = Annotated[
    bool, Parameter(name="--quiet", negative="", show_default=False, help="Draw no progress bars.")
]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and give its exit code."""
    try:
        code = app(
            list(sys.argv[1:] if arguments is None else arguments),
            exit_on_error=False,
            print_error=False,
        )
    except CycloptsError as error:
        _say_error(f"{_reason(error)} See `hpc-heatmap --help`.")
        return 2
    except HpcHeatmapError as error:
        _say_error(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        _say_error("Stopped. What is complete is kept; `hpc-heatmap resume RUN` goes on.")
        return 1
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    return code if isinstance(code, int) else 0


def _say_error(sentence: str) -> None:
    errors.print(f"hpc-heatmap: {sentence}", markup=False)


def _reason(error: CycloptsError) -> str:
    """One sentence; a setting out of its range is named as the option that it is."""
    if isinstance(error.__cause__, ValidationError):
        return str(settings_error(error.__cause__))
    return " ".join(str(error).split())


@app.command
def run(
    *slides: Annotated[Path, Parameter(help="Slide files, or folders of them.")],
    model: Annotated[
        Path, Parameter(help="TorchScript (.pt), torch.export (.pt2) or ONNX (.onnx).")
    ],
    out: Annotated[Path, Parameter(help="Run directory: new, empty, or of the same request.")],
    model_config: Annotated[
        Path | None,
        Parameter(help="The model's descriptor (JSON). Default: beside the model."),
    ] = None,
    request: Request = None,
    launch: Launch = None,
    detach: Detach = False,
    quiet: Quiet = False,
) -> int:
    """Score slides and stitch their heatmaps: plan, launch, follow until done.

    For each slide the run directory gets heatmap.h5 (scores with a pyramid), overview.png,
    lesions.csv and lesions.geojson, and grid.png, which shows the cells that were chosen. A run
    that was stopped, by ctrl-C or by a power cut, goes on with `hpc-heatmap resume RUN`.
    """
    if launch is not None:
        check_launch(launch)
    with errors.status("Checking slides and model") if not quiet else _Silence():
        planned = hpc_heatmap.start_run(
            slides, model, out, settings=request, model_config=model_config
        )
    return _go_on(planned, launch, detach=detach, quiet=quiet)


def check_launch(launch: LaunchSettings) -> None:
    """Read the profile of a launch before anything is written.

    Raises
    ------
    SettingsError
        The profile cannot be used.
    """
    from hpc_heatmap.schedulers.profiles import read_profile

    if not launch.is_local:
        read_profile(launch)


class _Silence:
    """A status line that is not shown."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


def _go_on(
    planned: hpc_heatmap.Run,
    launch: LaunchSettings | None,
    *,
    detach: bool,
    quiet: bool,
    continued: bool = False,
) -> int:
    """Do what is missing in a run, here or by a master elsewhere, and say how it ended."""
    from hpc_heatmap.cli.progress import follow, print_outcome

    last = planned.last_launch()
    launch = launch.over(last) if launch else last
    if (detach or planned.has_master_elsewhere(launch)) and not continued:
        is_there = planned.launch(launch)
        console.print(
            f"{planned.root} goes on by itself.\n"
            f"Follow it with: hpc-heatmap status {planned.root} --watch\n"
            f"Stop it with:   hpc-heatmap cancel {planned.root}",
            markup=False,
        )
        if detach:
            return 0
        with follow(errors, quiet=quiet) as show:
            planned.wait(is_there, show)
        return print_outcome(console, errors, planned, planned.status())
    try:
        with follow(errors, quiet=quiet) as show:
            status = planned.resume(launch, on_status=show, fresh=not continued)
    except KeyboardInterrupt:
        raise Interrupted(
            f"Stopped. What is complete is kept: `hpc-heatmap resume {planned.root}` goes on."
        ) from None
    return print_outcome(console, errors, planned, status)


@app.command
def resume(
    directory: RunDirectory,
    /,
    *,
    launch: Launch = None,
    detach: Detach = False,
    quiet: Quiet = False,
    continued: Annotated[bool, Parameter(negative="", show=False)] = False,
) -> int:
    """Do what is missing in a run; nothing that is complete is done twice.

    What has failed before is tried again. Deleting a result and resuming makes it anew. It runs
    where it ran the last time, but for the options that are given.
    """
    return _go_on(
        hpc_heatmap.open_run(directory), launch, detach=detach, quiet=quiet, continued=continued
    )


@app.command
def status(
    directory: RunDirectory,
    /,
    *,
    as_json: Annotated[
        bool,
        Parameter(name="--json", negative="", show_default=False, help="Print JSON for scripts."),
    ] = False,
    watch: Annotated[
        bool,
        Parameter(
            negative="", show_default=False, help="Follow with progress bars until the run stops."
        ),
    ] = False,
) -> int:
    """Show what is done, running, failed (and why) or missing in a run."""
    opened = hpc_heatmap.open_run(directory)
    if as_json:
        print(json.dumps(opened.status().as_dict(), indent=2))
        return 0
    from hpc_heatmap.cli.progress import follow, print_status

    if watch:
        with follow(errors) as show:
            while (now := opened.status()).master is not None:
                show(now)
                time.sleep(1)
    print_status(console, opened, opened.status())
    return 0


@app.command
def cancel(directory: RunDirectory, /) -> int:
    """Stop the jobs of a run and keep what is done; `resume` goes on."""
    opened = hpc_heatmap.open_run(directory)
    opened.cancel()
    done = opened.status()
    console.print(
        f"Cancelled: {done.n_done} of {len(done.slides)} slides are done and kept.\n"
        f"Go on with: hpc-heatmap resume {opened.root}",
        markup=False,
    )
    return 0


app.command(
    "hpc_heatmap.cli.plan:plan",
    name="plan",
    help="Say what a run would cost: patches, groups, bytes, windows, core-hours, wall time.",
)
app.command(
    "hpc_heatmap.cli.tune:tune",
    name="tune",
    help="Measure reading against group size on a file system, and say the best size.",
)
app.command(
    "hpc_heatmap.cli.report:report",
    name="report",
    help="Show the run time: serial and parallel time, speed-up, cores, efficiency, bytes.",
)
app.command(
    "hpc_heatmap.cli.stain:stain",
    name="stain",
    help="Estimate the stain of a picture, to change slides to it with `run --stain-target`.",
)
app.command(
    "hpc_heatmap.cli.export:export",
    name="export",
    help="Write results for QuPath, WSInfer, the CAMELYON evaluation and OME tools.",
)
app.command(
    "hpc_heatmap.cli.evaluate:evaluate",
    name="evaluate",
    help="Compare lesions (froc), slide scores (auc) or runs (slides) with the truth.",
)
app.command(
    "hpc_heatmap.cli.tradeoff:tradeoff",
    name="tradeoff",
    help="Show what wider strides would cost, and what they would find, from one fine run.",
)
app.command(
    "hpc_heatmap.cli.lesions:average",
    name="average",
    help="Average the scores of several models' runs into a run with heatmaps and lesions.",
)
app.command(
    "hpc_heatmap.cli.lesions:lesions",
    name="lesions",
    help="Find lesions on a run's heatmaps again, by another rule or gated by slide scores.",
)
app.command(
    "hpc_heatmap.cli.classify:classify",
    name="classify",
    help="Score slides by features of their heatmaps (random forest).",
)
app.command(
    "hpc_heatmap.cli.train:train",
    name="train",
    help="Train a patch classifier by the paper's recipe, from slides with outlines or patches.",
)


@app.command
def demo(
    slide: Annotated[
        Path | None, Parameter(help="Slide to use. Default: a real one, fetched once.")
    ] = None,
    /,
    *,
    out: Annotated[Path, Parameter(help="Run directory.")] = Path("demo-run"),
    launch: Launch = None,
    quiet: Quiet = False,
) -> int:
    """Show the whole pipeline on a sample slide with a small real classifier, in minutes.

    The slide is CMU-1-Small-Region (CC0, not annotated, skin), or a generated one without
    network. The classifier was trained on lymph nodes: the heatmap shows the pipeline, not a
    diagnosis.
    """
    from hpc_heatmap.cli.demo import show_demo

    return show_demo(console, errors, slide, out, launch, quiet=quiet)


@app.command
def doctor(
    directory: Annotated[
        Path, Parameter(help="Where runs would be kept; its disk and locking are checked.")
    ] = Path(),
    /,
    *,
    profile: Annotated[
        Path | None, Parameter(help="TOML file to compare with its scheduler, which must answer.")
    ] = None,
    cluster: Annotated[
        Cluster, Parameter(help="Scheduler to examine: 'slurm' or 'sge'. Default: the profile's.")
    ] = Cluster.LOCAL,
    as_json: Annotated[
        bool,
        Parameter(name="--json", negative="", show_default=False, help="Print JSON for scripts."),
    ] = False,
) -> int:
    """Tell what this machine can do: versions, cores, memory, disk, file locking, schedulers.

    With a profile or a cluster, tell whether runs could be launched with it. Nothing is submitted.
    """
    from hpc_heatmap.cli.doctor import examine, examine_profile, print_findings

    launch = LaunchSettings(cluster=cluster, profile=profile)
    findings = [] if launch.is_local else examine_profile(launch)
    findings = [*examine(directory), *findings]
    if as_json:
        print(json.dumps([finding.as_dict() for finding in findings], indent=2))
    else:
        print_findings(console, findings)
    return 0 if all(finding.ok for finding in findings) else 1
