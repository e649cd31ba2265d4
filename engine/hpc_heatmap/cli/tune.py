"""The command ``tune``: how fast a file system gives groups, and how large they should be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.box import SIMPLE_HEAD
from rich.table import Table

from hpc_heatmap.cli.app import console, errors
from hpc_heatmap.errors import SettingsError
from hpc_heatmap.formats.atomic import writing

__all__ = ["tune"]


def tune(
    *places: Annotated[
        Path,
        Parameter(help="A directory on the file system to measure, or slides in it."),
    ],
    window: Annotated[int, Parameter(help="Side of the model's window, pixels.")] = 224,
    sizes: Annotated[
        list[int] | None,
        Parameter(negative="", consume_multiple=True, help="Group sizes to try, patches."),
    ] = None,
    rounds: Annotated[int, Parameter(help="How often each is read.")] = 3,
    group_memory: Annotated[
        float | None,
        Parameter(help="MiB that a group may take. Default: a quarter of a core's share."),
    ] = None,
    windows_per_s: Annotated[
        float | None, Parameter(help="Speed of your model (see `plan`), to weigh a task's start.")
    ] = None,
    stride: Annotated[
        int | None, Parameter(help="Its stride, read pixels. Default: a quarter of the window.")
    ] = None,
    picture: Annotated[Path | None, Parameter(help="Write a picture to this PNG file.")] = None,
    as_json: Annotated[
        bool,
        Parameter(name="--json", negative="", show_default=False, help="Print JSON for scripts."),
    ] = False,
) -> int:
    """Measure reading against group size on a file system (the paper's Fig. 5), and say the best.

    Groups of noise are written into a folder of the directory, read back from the disk, at once
    and patch by patch, and removed.
    """
    from hpc_heatmap.runs.tuning import draw_tuning
    from hpc_heatmap.runs.tuning import tune as measure
    from hpc_heatmap.runs.tuning.measuring import GROUP_SIZES

    if picture is not None and picture.suffix.lower() != ".png":
        raise SettingsError(f"--picture {picture}: give the name of a PNG file.")
    if window < 2:
        raise SettingsError(f"--window {window}: give a number from 2.")
    folders = {p.parent if p.is_file() else p for p in places} or {Path()}
    if len(folders) > 1:
        named = ", ".join(sorted(map(str, folders)))
        raise SettingsError(f"Several directories are named ({named}): measure one at a time.")
    place = folders.pop()
    with errors.status("Measuring") as status:
        if as_json:
            status.stop()
        found = measure(
            place,
            window_px=window,
            sizes=sizes or GROUP_SIZES,
            rounds=rounds,
            memory_bytes=None if group_memory is None else int(group_memory * 2**20),
            windows_per_s=windows_per_s,
            stride_px=stride,
            say=lambda sentence: status.update(sentence),
        )
    if picture is not None:
        with writing(picture) as partial:
            partial.write_bytes(draw_tuning(found))
    if as_json:
        print(json.dumps(found.as_dict(), indent=2))
        return 0
    table = Table(title=f"{place.absolute()}: {found.file_system}", box=SIMPLE_HEAD)
    for heading in ("patches", "MB", "at once, s", "patch by patch, s", "gain", "write, s"):
        table.add_column(heading, justify="right")
    for r in found.readings:
        table.add_row(
            f"{r.patches:,}",
            f"{r.bytes / 1e6:.1f}",
            f"{r.whole_s:.3f}",
            f"{r.one_by_one_s:.3f}",
            f"{r.gain:.1f}x",
            f"{r.write_s:.2f}",
        )
    console.print(table)
    for reason in found.reasons:
        console.print(reason, markup=False)
    console.print(f"Take it with: --patches-per-group {found.recommended}")
    return 0
