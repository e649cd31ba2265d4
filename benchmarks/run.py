"""Every ratio that the engine promises, side by side in one run.

    python benchmarks/run.py [--quick] [--json FILE] [--only NAME ...] [--work DIR]

Baselines are measured in the same run, in turns with what they are compared to: the paper's way
(OpenSlide patch by patch, whole patches in HDF5, torch eager) and, without ``--quick``, the peers
as published. A ratio is the median of its repeats; its spread is the largest less the smallest.
``--json`` writes a list of rows: name, ratio, goal, spread and more; a figure that could not be
measured has the ratio null and a `problem`. ``harness.py`` says how to add a figure.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import platformdirs
from harness import Figure, all_figures, machine, row_of

from hpc_heatmap.processes import usable_cores


def show(row: dict[str, Any]) -> None:
    """Print a row."""
    sign = "<=" if row["at_most"] else ">="
    goal = f"{sign} {row['goal']:g}"
    if row["ratio"] is None:
        print(f"{row['name']:20} {'-':>8} {'':>8} {goal:>8}  not measured: {row['problem']}")
        return
    verdict = "" if row["reached"] else "  MISSED"
    ratio, spread = f"{row['ratio']:.3g}", f"{row['spread']:.2g}"
    print(f"{row['name']:20} {ratio:>8} {spread:>8} {goal:>8}  {row['title']}{verdict}")
    for line in row["details"]:
        print(f"{'':20}   {line}")


def measured(
    chosen: Sequence[Figure], quick: bool, shared: Path, work: Path
) -> Iterator[dict[str, Any]]:
    """Rows of figures. When quick, those that need not be alone run side by side, first."""
    beside = [figure for figure in chosen if quick and not figure.alone]
    if beside:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(usable_cores(), context) as processes:
            longest_first = sorted(beside, key=lambda figure: -(figure.quick_s or 0))
            asked = {
                figure.name: processes.submit(row_of, figure.name, quick, shared, work)
                for figure in longest_first
            }
            for figure in beside:
                yield asked[figure.name].result()
    for figure in chosen:
        if figure not in beside:
            yield figure.row(quick, shared, work)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="no peers, fewer repeats")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these figures alone")
    parser.add_argument(
        "--work",
        type=Path,
        default=platformdirs.user_cache_path("hpc-heatmap", appauthor=False) / "peers",
        metavar="DIR",
        help="keep the peers' environments here, 20 GB in all (default: %(default)s)",
    )
    options = parser.parse_args()
    found = all_figures()
    if unknown := sorted(set(options.only or ()) - {f.name for f in found}):
        names = ", ".join(f.name for f in found)
        parser.error(f"there is no figure {', '.join(unknown)}: choose from {names}")
    chosen = [f for f in found if (f.quick_s or not options.quick)]
    if options.only:
        chosen = [f for f in found if f.name in options.only]
    description = machine()
    print(description)
    print(f"\n{'figure':20} {'ratio':>8} {'spread':>8} {'goal':>8}  what is compared")
    rows = []
    options.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="hpc-heatmap-benchmarks-") as folder:
        for row in measured(chosen, options.quick, Path(folder), options.work):
            rows.append(row | {"machine": description})
            show(rows[-1])
            sys.stdout.flush()
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2))
    return 0 if all(row["ratio"] is not None for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
