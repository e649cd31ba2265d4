"""The command ``plan``: what a run would cost, and what other choices would."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hpc_heatmap.cli.app import HOW, WHAT, Launch, Request, check_launch, console, errors

if TYPE_CHECKING:
    from hpc_heatmap.runs.cost import Estimate

__all__ = ["plan", "print_estimate"]


def plan(
    *slides: Annotated[Path, Parameter(help="Slide files, or folders of them.")],
    model: Annotated[
        Path, Parameter(help="TorchScript (.pt), torch.export (.pt2) or ONNX (.onnx).")
    ],
    out: Annotated[
        Path | None,
        Parameter(
            help="Where the run would be kept. It is not made; the trial uses the same disk."
        ),
    ] = None,
    model_config: Annotated[
        Path | None,
        Parameter(help="The model's descriptor (JSON). Default: beside the model."),
    ] = None,
    request: Request = None,
    launch: Launch = None,
    sizes: Annotated[
        Path | None,
        Parameter(
            group=WHAT,
            help="CSV file of slides that are not here: width_px, height_px; slide, spacing_um, "
            "tissue_share, bytes if known. Slides that are given show how much tissue to expect.",
        ),
    ] = None,
    cores: Annotated[
        int | None,
        Parameter(
            group=HOW, help="Cores of the run. Default: all of this machine, or of the cluster."
        ),
    ] = None,
    seconds: Annotated[
        float, Parameter(help="How long to look for tissue; further slides go by their size.")
    ] = 60.0,
    choices: Annotated[
        bool, Parameter(help="Try other strides and group sizes too.", show_default=False)
    ] = True,
    as_json: Annotated[
        bool,
        Parameter(name="--json", negative="", show_default=False, help="Print JSON for scripts."),
    ] = False,
    quiet: Annotated[
        bool, Parameter(negative="", show_default=False, help="Do not say what is being tried.")
    ] = False,
) -> int:
    """Say what a run would cost: patches, groups, bytes, windows, core-hours, wall time.

    The tissue of the slides is looked for, and the model is tried on some of it, on this machine,
    for some seconds. Nothing is submitted or kept. Take the command of a run and say `plan` in
    place of `run`; docs/plan.md defines the numbers.
    """
    from hpc_heatmap.errors import SettingsError, SlideNotFoundError
    from hpc_heatmap.runs.cost import estimate

    if not slides and sizes is None:
        raise SlideNotFoundError("No slide was given: name some, or a table with --sizes.")
    if cores is not None and cores < 1:
        raise SettingsError(f"--cores {cores}: give a number from 1.")
    if launch is not None:
        check_launch(launch)
    with errors.status("Planning") as status:
        if quiet or as_json:
            status.stop()
        cost = estimate(
            slides,
            model,
            settings=request,
            launch=launch,
            model_config=model_config,
            sizes=sizes,
            cores=cores,
            directory=out,
            seconds=seconds,
            choices=choices,
            say=lambda sentence: status.update(sentence),
        )
    if as_json:
        print(json.dumps(cost.as_dict(), indent=2, allow_nan=False))
    else:
        print_estimate(console, cost)
    return 0


def print_estimate(console: Console, cost: Estimate) -> None:
    """The estimate, then the choices as a table."""
    from hpc_heatmap.runs.report.rows import Kind
    from hpc_heatmap.runs.report.values import duration, shown

    trial = cost.trial
    lines = {
        "slides": shown(cost.slides, Kind.COUNT),
        "tissue cells (patches)": shown(cost.cells, Kind.COUNT),
        "groups": shown(cost.groups, Kind.COUNT),
        "windows": shown(cost.windows, Kind.COUNT),
        "bytes stored": shown(cost.bytes, Kind.BYTES),
        "bytes read": shown(cost.bytes_read, Kind.BYTES),
        "files": shown(cost.files, Kind.COUNT),
        "tasks": f"{cost.tasks:,} of {cost.cores_per_task} "
        f"core{'' if cost.cores_per_task == 1 else 's'}",
        "memory of a scoring task": shown(cost.task_memory_bytes, Kind.BYTES),
        "core-hours": f"{cost.core_hours:,.3g} ("
        + ", ".join(f"{stage} {hours:,.3g}" for stage, hours in cost.stage_core_hours.items())
        + ")",
        "processor time": duration(3600 * cost.cpu_hours),
        f"wall time on {cost.cores:,} core{'' if cost.cores == 1 else 's'}": duration(
            3600 * cost.wall_hours
        ),
    }
    table = Table.grid(padding=(0, 2))
    for name, value in lines.items():
        table.add_row(name, Text(value))
    console.print(table)
    if cost.choices:
        _print_choices(console, cost)
    for note in cost.notes:
        console.print(note, markup=False)
    console.print(
        f"From a trial of {trial.seconds:.0f} s on {trial.host}; waiting in a queue for others is "
        "in no number.",
        markup=False,
    )


def _print_choices(console: Console, cost: Estimate) -> None:
    from hpc_heatmap.runs.report.rows import Kind
    from hpc_heatmap.runs.report.values import duration, shown

    title = Text("One other choice at a time")
    table = Table(
        title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False
    )
    table.add_column("", no_wrap=True)
    for heading in ("windows", "stored", "core-hours", "wall time", "memory"):
        table.add_column(heading, justify="right")
    for choice in cost.choices:
        table.add_row(
            Text(choice.option),
            shown(choice.windows, Kind.COUNT),
            shown(choice.bytes, Kind.BYTES),
            f"{choice.core_hours:,.3g}",
            duration(3600 * choice.wall_hours),
            shown(choice.task_memory_bytes, Kind.BYTES),
        )
    console.print(table)
