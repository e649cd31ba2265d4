"""What `plan` said against what a run then took: on this machine, on Slurm and on Grid Engine.

    python benchmarks/plan_against_report.py [--slide FILE] [--stride 12] [--on local slurm sge]

Clusters must be up, and their commands on the PATH. Each run is planned first, in the same minute;
a quiet machine is needed, since both are measured by the clock. The goal is 15 %.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from hpc_heatmap.sample import sample_slide

COMMAND = [sys.executable, "-m", "hpc_heatmap"]


def said(*words: object) -> str:
    """Output of a command of ours."""
    command = [*COMMAND, *map(str, words)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def compared(where: str, slides: list[Path], stride: int, folder: Path) -> list[dict[str, Any]]:
    """Rows of the report: planned, actual and their ratio."""
    run, plan = folder / where, folder / f"{where}.json"
    options: list[object] = ["--stride", stride, "--task-minutes", 1]
    if where != "local":
        profile = folder / f"{where}.toml"
        profile.write_text(
            f'cluster = "{where}"\nmaster = "here"\ncores_per_task = 1\nmax_queued = 2\n'
        )
        options += ["--profile", profile]
    with as_file(files("hpc_heatmap") / "demo_model") as model:
        request = [*slides, "--model", model / "model.pt2", "--out", run, *options]
        # As many at once as there are cores to work with, whatever a cluster of pretence has.
        limits = ["--cores", 2] if where != "local" else []
        plan.write_text(said("plan", *request, *limits, "--no-choices", "--json"))
        subprocess.run([*COMMAND, "run", *map(str, request), "--quiet"], check=True)
    rows: list[dict[str, Any]] = json.loads(said("report", run, "--plan", plan, "--json"))[
        "planned"
    ]
    return rows


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slide", type=Path, nargs="*")
    parser.add_argument("--stride", type=int, default=12)
    parser.add_argument("--on", nargs="+", default=["local", "slurm", "sge"])
    options = parser.parse_args()
    slides = options.slide or [sample_slide()]
    print("| where | measure | planned | actual | actual / planned |\n|---|---|---:|---:|---:|")
    for where in options.on:
        with tempfile.TemporaryDirectory() as folder:
            for row in compared(where, slides, options.stride, Path(folder)):
                print(f"| {where} | {row['name']} | {row['planned']:.4g} | {row['actual']:.4g} | "
                      f"{row['ratio']:.2f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
