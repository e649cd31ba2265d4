"""Peak memory of each stage on slides of two sizes.

    python benchmarks/memory.py [--sides 10000 40000] [--json FILE]

Slides are generated (a pyramidal JPEG TIFF, 1.5 % tissue): one of 40,000 px has about sixteen times
the patches of one of 10,000 px. Each stage runs in worker processes of its own, as in any run; a
worker's peak resident memory is what its record says (VmHWM on Linux).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from importlib.resources import as_file, files
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from slides import big_slide

import hpc_heatmap
from hpc_heatmap.formats.task_files import read_records
from hpc_heatmap.runs.status import State

STAGES = ("grouping", "scoring", "stitching")


def measure(side_px: int, layout: str, folder: Path) -> dict[str, float]:
    """Run the whole chain on a slide; peak memory in MiB by stage, and numbers of the slide."""
    slide = big_slide(folder / f"slide-{side_px}.tiff", side_px, side_px)
    settings = hpc_heatmap.RunSettings(
        stride=48, requested_spacing=0.25, patches_per_group=64, group_layout=layout
    )
    with as_file(files("hpc_heatmap") / "demo_model") as model:
        run = hpc_heatmap.start_run(
            [slide], model / "model.pt2", folder / f"run-{side_px}-{layout}", settings=settings
        )
    status = run.resume()
    if status.state is not State.DONE:
        raise SystemExit(f"the run failed: {status.as_dict()}")
    (summary,) = (s.summary for s in status.slides.values())
    if summary is None:
        raise SystemExit("the run has no summary")
    records = read_records(run.paths)
    row: dict[str, float] = {
        "side_px": side_px,
        "patches": summary.n_patches,
        "groups": summary.n_groups,
        "windows": summary.n_windows,
    }
    for stage in STAGES:
        peaks = [r.peak_memory_bytes for r in records if r.stage == stage]
        row[stage] = max(peaks) / 2**20
    return row


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sides", type=int, nargs="+", default=[10_000, 40_000])
    parser.add_argument("--layout", choices=["tiles", "patches"], default="tiles")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(side, options.layout, Path(folder)) for side in options.sides]
    print("| slide | patches | groups | " + " | ".join(f"{s}, MiB" for s in STAGES) + " |")
    print("|---" * (3 + len(STAGES)) + "|")
    for row in rows:
        cells = [f"{row['side_px']:,} px", f"{row['patches']:,}", f"{row['groups']}"]
        print("| " + " | ".join([*cells, *(f"{row[s]:.0f}" for s in STAGES)]) + " |")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
