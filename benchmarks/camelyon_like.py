"""Twelve slides whose truth is known to the tile, from grouping to FROC and AUC, at three strides.

    python benchmarks/camelyon_like.py [--out DIR] [--workers 2] [--pictures docs/images]

Slides by scripts/make_test_slides.py, scores by the demo model, lesions by the paper's rule. Prints
the table of docs/camelyon-like.md and, with `--pictures`, draws its pictures. What is there already
in DIR is not computed again.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
import numpy as np
from make_test_slides import MASK_PX, SPACING_UM, make_slides
from PIL import Image, ImageDraw

import hpc_heatmap
from hpc_heatmap import LaunchSettings, Run, RunSettings
from hpc_heatmap.evaluation.auc import Auc, Comparison, auc, compare
from hpc_heatmap.evaluation.bootstrap import Interval, bootstrap_froc
from hpc_heatmap.evaluation.detections import read_detections
from hpc_heatmap.evaluation.froc import OPERATING_POINTS, Curve, SlideHits, froc_curve, match
from hpc_heatmap.evaluation.pictures import Plot, Series, plot_png
from hpc_heatmap.evaluation.truth import Grid, find_truth
from hpc_heatmap.formats.task_files import read_records

DATA = Path(__file__).parents[2] / "shared" / "data"
MODEL = Path(hpc_heatmap.__file__).parent / "demo_model" / "model.pt2"
STRIDES = (24, 48, 96)
#: A lesion's smallest score, and the score from which a sample counts for its slide's score.
THRESHOLD = 0.9
BOOTSTRAP = 2000
#: Slides of the overview: the most lesions, the largest tumour, none.
SHOWN = ("slide_08", "slide_05", "slide_09")
PICTURE_PX = 480


@dataclass(frozen=True)
class Result:
    """What one stride gives."""

    stride: int
    n_windows: int
    cpu_s: float
    n_detections: int
    hits: list[SlideHits]
    curve: Curve
    interval: Interval
    slide_scores: list[float]


def score(out: Path, stride: int, workers: int | None) -> Run:
    """Score and stitch all slides at a stride, or go on with it."""
    settings = RunSettings(stride=stride, threshold=THRESHOLD)
    run = hpc_heatmap.start_run(
        [out / "slides"], MODEL, out / f"run-{stride}", settings=settings
    )  # fmt: skip
    status = run.resume(LaunchSettings(workers=workers))
    if status.n_done != len(run.slides):
        raise SystemExit(f"{run.root}: see hpc-heatmap status {run.root}")
    return run


def write_detections(run: Run, folder: Path) -> None:
    """Lesions of a run as rows prob,x,y: mean score and centroid."""
    folder.mkdir(exist_ok=True)
    for name, slide in run.slides.items():
        with slide.files.lesions_csv.open(encoding="utf-8") as file:
            rows = [(r["score"], r["x_px"], r["y_px"]) for r in csv.DictReader(file)]
        text = "".join(",".join(row) + "\n" for row in rows)
        (folder / f"{name}.csv").write_text(text, "utf-8")


def evaluate(run: Run, out: Path, stride: int) -> Result:
    """Compare a run with the truth."""
    folder = out / f"detections-{stride}"
    write_detections(run, folder)
    grid = Grid(int(np.log2(MASK_PX)), SPACING_UM)
    truth = find_truth(out / "masks")
    truth.match(run.slides)
    found = {name: read_detections(folder / f"{name}.csv") for name in run.slides}
    hits = [match(name, found[name], truth.lesions(name, grid), grid.pixel_px) for name in found]
    records = read_records(run.paths)
    slide_scores = []
    for slide in run.slides.values():
        with slide.heatmap as heatmap:
            scores = heatmap.dataset()[:]
        slide_scores.append(float((scores[~np.isnan(scores)] >= THRESHOLD).mean()))
    return Result(
        stride,
        sum(record.windows for record in records),
        sum(record.cpu_s for record in records),
        sum(len(detections.probability) for detections in found.values()),
        hits,
        froc_curve(hits, "corrected"),
        bootstrap_froc(hits, "corrected", "step", BOOTSTRAP, seed=0),
        slide_scores,
    )


def print_tables(results: list[Result], truth: list[bool]) -> None:
    """All numbers as Markdown."""
    first = results[0]
    n_lesions = sum(len(hits.lesions) for hits in first.hits)
    n_itc = sum(hits.n_itc for hits in first.hits)
    print(f"{len(truth)} slides, {sum(truth)} with tumour; {n_lesions} lesions that count and "
          f"{n_itc} groups of isolated tumour cells.\n")  # fmt: skip
    print("| stride | windows | processor time, s | lesions found | FROC score | slide-level AUC |")
    print("|---|---|---|---|---|---|")
    for result in results:
        area = auc(truth, result.slide_scores)
        score, interval = result.curve.score(), result.interval.score
        n_hit = sum(hits.n_hit for hits in result.hits)
        print(
            f"| {result.stride} | {result.n_windows:,} | {result.cpu_s:.0f} | {n_hit} of "
            f"{n_lesions}, by {result.n_detections} detections | {score:.3f} "
            f"({interval[0]:.3f} to {interval[1]:.3f}) | {_area(area)} |"
        )
    print("\n| false positives a slide | " + " | ".join(f"{p:g}" for p in OPERATING_POINTS) + " |")
    print("|---" * (len(OPERATING_POINTS) + 1) + "|")
    for result in results:
        cells = [
            f"{value:.2f} ({low:.2f} to {high:.2f})"
            for value, (low, high) in zip(
                result.curve.sensitivities(), result.interval.sensitivities, strict=True
            )
        ]
        print(f"| sensitivity, stride {result.stride} | " + " | ".join(cells) + " |")
    print("\n| slide-level AUC of two strides, paired | difference |")
    print("|---|---|")
    for result in results[1:]:
        versus = compare(truth, first.slide_scores, result.slide_scores)
        print(f"| {first.stride} less {result.stride} | {_difference(versus)} |")


def _area(area: Auc) -> str:
    return f"{area.auc:.3f} ({area.ci[0]:.3f} to {area.ci[1]:.3f})"


def _difference(versus: Comparison) -> str:
    return f"{versus.difference:+.3f} ({versus.ci[0]:+.3f} to {versus.ci[1]:+.3f})"


def draw(results: list[Result], truth: list[bool], out: Path, pictures: Path) -> None:
    """FROC curves, the trade-off, and slides with their heatmaps and truth."""
    ticks = (0.125, *OPERATING_POINTS)
    curves = [
        Series(f"stride {r.stride}", r.curve.false_positives, r.curve.sensitivity)
        for r in results
    ]  # fmt: skip
    labels = ("false positives per slide", "sensitivity")
    froc = Plot(f"FROC of {len(truth)} slides", *labels, ticks, curves, log2=True)
    (pictures / "camelyon-like-froc.png").write_bytes(plot_png(froc))
    strides = np.array([r.stride for r in results], dtype=np.float64)
    cost = np.array([r.cpu_s for r in results])
    series = [
        Series("slide-level AUC", strides,
               np.array([auc(truth, r.slide_scores).auc for r in results])),
        Series("FROC score", strides, np.array([r.curve.score() for r in results])),
        Series("processor time, share", strides, cost / cost.max()),
    ]  # fmt: skip
    labels = ("stride, px", "AUC, FROC score, share of the finest stride's time")
    trade = Plot("Accuracy against cost", *labels, STRIDES, series, log2=True)
    (pictures / "camelyon-like-tradeoff.png").write_bytes(plot_png(trade))
    sheet = Image.new("RGB", (PICTURE_PX * len(SHOWN), 2 * PICTURE_PX), "white")
    run = hpc_heatmap.open_run(out / f"run-{STRIDES[0]}")
    for column, name in enumerate(SHOWN):
        with hpc_heatmap.Slide(run.slides[name].path) as slide:
            thumbnail = Image.fromarray(slide.thumbnail(4 * PICTURE_PX)[0])
            width_px = slide.width_px
        overview = Image.open(run.slides[name].files.overview)
        # The legend stands below the slide.
        overview = overview.crop((0, 0, overview.width, overview.width))
        for row, picture in enumerate((thumbnail, overview)):
            small = picture.convert("RGB").resize((PICTURE_PX, PICTURE_PX))
            _outline(small, out / "outlines" / f"{name}.geojson", PICTURE_PX / width_px)
            sheet.paste(small, (column * PICTURE_PX, row * PICTURE_PX))
    sheet.save(pictures / "camelyon-like.jpg", quality=85)


def _outline(picture: Image.Image, outlines: Path, scale: float) -> None:
    if outlines.is_file():
        pen = ImageDraw.Draw(picture)
        for feature in json.loads(outlines.read_text("utf-8"))["features"]:
            for ring in feature["geometry"]["coordinates"]:
                pen.line([(x * scale, y * scale) for x, y in ring], fill="#006e3c", width=2)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--out", type=Path, default=Path("camelyon-like"), metavar="DIR")
    parser.add_argument("--workers", type=int, default=None, metavar="N")
    parser.add_argument("--pictures", type=Path, default=None, metavar="DIR")
    chosen = parser.parse_args()
    out: Path = chosen.out
    if not (out / "slides.csv").is_file():
        outlines = DATA / "camelyon16_annotations" / "json_test.tar.gz"
        make_slides(DATA / "pcam", outlines, out)
    with (out / "slides.csv").open(encoding="utf-8") as file:
        truth = [row["tumour"] == "1" for row in csv.DictReader(file)]
    runs = {stride: score(out, stride, chosen.workers) for stride in STRIDES}
    results = [evaluate(run, out, stride) for stride, run in runs.items()]
    print_tables(results, truth)
    if chosen.pictures is not None:
        draw(results, truth, out, chosen.pictures)


if __name__ == "__main__":
    main()
