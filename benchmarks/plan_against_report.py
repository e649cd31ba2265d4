"""What `plan` said against what a run then took: on this machine, on Slurm and on Grid Engine.

    python benchmarks/plan_against_report.py [--stride 16] [--on local slurm sge] [--keep DIR]

A real slide is scored with a network of GoogLeNet's size. Clusters must be up with as many slots in
all as this machine has cores, and their commands on the PATH: tasks that share a core say nothing.
Each run is planned first, in the same minute; a quiet machine is needed, since both are measured by
the clock. The goal is 15 %.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from googlenet import write_googlenet

from hpc_heatmap.processes import usable_cores
from hpc_heatmap.sample import sample_slide

#: The sample's own: groups store the slide's JPEG tiles.
SPACING_UM = 0.499
COMMAND = [sys.executable, "-m", "hpc_heatmap"]


def said(*words: object) -> str:
    """Output of a command of ours."""
    command = [*COMMAND, *map(str, words)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def compared(where: str, slides: list[Path], stride: int, folder: Path) -> list[dict[str, Any]]:
    """Rows of the report: planned, actual and their ratio."""
    run, plan = folder / where, folder / f"{where}.json"
    options: list[object] = ["--stride", stride, "--requested-spacing", SPACING_UM]
    options += ["--patches-per-group", 8, "--task-minutes", 1]
    if where != "local":
        profile = folder / f"{where}.toml"
        profile.write_text(f'cluster = "{where}"\nmaster = "here"\ncores_per_task = 1\n')
        options += ["--profile", profile]
    request = [*slides, "--model", folder / "model.pt2", "--out", run, *options]
    cores = ["--cores", usable_cores()] if where == "sge" else []
    plan.write_text(said("plan", *request, *cores, "--no-choices", "--json"))
    subprocess.run([*COMMAND, "run", *map(str, request), "--quiet"], check=True)
    rows: list[dict[str, Any]] = json.loads(said("report", run, "--plan", plan, "--json"))[
        "planned"
    ]
    return rows


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slide", type=Path, nargs="*")
    parser.add_argument("--stride", type=int, default=16)
    parser.add_argument("--on", nargs="+", default=["local", "slurm", "sge"])
    parser.add_argument("--keep", type=Path, help="where plans and runs are kept")
    options = parser.parse_args()
    slides = options.slide or [sample_slide()]
    print("| where | measure | planned | actual | actual / planned |\n|---|---|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        write_googlenet(folder)
        for where in options.on:
            for row in compared(where, slides, options.stride, folder):
                print(f"| {where} | {row['name']} | {row['planned']:.4g} | {row['actual']:.4g} | "
                      f"{row['ratio']:.2f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
