"""Twelve slides whose truth is known to the tile, from grouping to FROC and AUC, at three strides.

The finest is done with an adaptive stride too, by a run of its own.

    python benchmarks/camelyon_like.py [--out DIR] [--workers 2] [--pictures docs/images]

Slides by scripts/make_test_slides.py, scores by the demo model at the finest stride, of which the
coarser ones are every second and fourth score (tests hold that a run of their own gives the same),
lesions by the paper's rule. Prints the tables of docs/camelyon-like.md and, with `--pictures`,
draws its pictures. What is there already in DIR is not computed again.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Sequence
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
from hpc_heatmap.formats.heatmap import Heatmap, write_heatmap
from hpc_heatmap.formats.task_files import read_records
from hpc_heatmap.geometry import Geometry
from hpc_heatmap.stages.lesions import detect_lesions, kernel_radius

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
    adaptive: bool
    n_windows: int
    n_detections: int
    hits: list[SlideHits]
    curve: Curve
    interval: Interval
    slide_scores: list[float]

    @property
    def label(self) -> str:
        """The stride in words."""
        return f"{self.stride}, adaptive" if self.adaptive else f"{self.stride}"


def score(out: Path, workers: int | None, *, adaptive: bool = False) -> Run:
    """Score and stitch all slides at the finest stride, or go on with it."""
    settings = RunSettings(stride=STRIDES[0], threshold=THRESHOLD, adaptive=adaptive)
    folder = out / ("run-adaptive" if adaptive else "run")
    run = hpc_heatmap.start_run([out / "slides"], MODEL, folder, settings=settings)
    status = run.resume(LaunchSettings(workers=workers))
    if status.n_done != len(run.slides):
        raise SystemExit(f"{run.root}: see hpc-heatmap status {run.root}")
    return run


def decimate(path: Path, source: Heatmap, stride: int) -> Heatmap:
    """A heatmap of the scores that a run at a coarser stride has."""
    finest = STRIDES[0]
    width_px, height_px = (int(n) for n in source.attributes["slide_size_px"])
    window_px = int(source.attributes["window_px"])
    geometry = Geometry(width_px, height_px, window_px, stride)
    fine = Geometry(width_px, height_px, window_px, finest)
    every = stride // finest
    first = [
        (coarse.first_px - axis.first_px) // finest
        for coarse, axis in ((geometry.y, fine.y), (geometry.x, fine.x))
    ]
    scores = source.dataset()[first[0] :: every, first[1] :: every]
    attributes = {key: source.attributes[key] for key in ("slide_id", "slide_path", "window_px")}
    write_heatmap(
        path, geometry, lambda row, column, n, m: scores[row : row + n, column : column + m],
        attributes,
    )  # fmt: skip
    return Heatmap(path)


def evaluate(run: Run, out: Path, stride: int) -> Result:
    """Compare the scores at a stride with the truth."""
    adaptive = run.settings.adaptive
    folder = out / f"stride-{stride}{'-adaptive' if adaptive else ''}"
    folder.mkdir(exist_ok=True)
    grid = Grid(int(np.log2(MASK_PX)), SPACING_UM)
    truth = find_truth(out / "masks")
    truth.match(run.slides)
    hits, slide_scores, n_windows, n_detections = [], [], 0, 0
    for name, slide in run.slides.items():
        with slide.heatmap as source, decimate(folder / f"{name}.h5", source, stride) as heatmap:
            radius = kernel_radius(int(source.attributes["window_px"]), stride)
            lesions = detect_lesions(heatmap, THRESHOLD, radius)
            scores = heatmap.dataset()[:]
        rows = [f"{lesion.score:.6f},{lesion.x_px:.1f},{lesion.y_px:.1f}\n" for lesion in lesions]
        (folder / f"{name}.csv").write_text("".join(rows), "utf-8")
        found = read_detections(folder / f"{name}.csv")
        hits.append(match(name, found, truth.lesions(name, grid), grid.pixel_px))
        on_tissue = scores[~np.isnan(scores)]
        slide_scores.append(float((on_tissue >= THRESHOLD).mean()))
        n_windows += len(on_tissue)
        n_detections += len(lesions)
    if adaptive:
        n_windows -= sum(record.skipped for record in read_records(run.paths))
    return Result(
        stride,
        adaptive,
        n_windows,
        n_detections,
        hits,
        froc_curve(hits, "corrected"),
        bootstrap_froc(hits, "corrected", "step", BOOTSTRAP, seed=0),
        slide_scores,
    )


def print_tables(results: list[Result], truth: list[bool], windows_per_s: float) -> None:
    """All numbers as Markdown."""
    first = results[0]
    n_lesions = sum(len(hits.lesions) for hits in first.hits)
    n_itc = sum(hits.n_itc for hits in first.hits)
    print(f"{len(truth)} slides, {sum(truth)} with tumour; {n_lesions} lesions that count and "
          f"{n_itc} groups of isolated tumour cells.\n")  # fmt: skip
    headings = ("stride", "windows", "scoring, s of one core", "lesions found", "FROC score",
                "slide-level AUC")  # fmt: skip
    _print_row(headings)
    _print_row(["---"] * len(headings))
    for result in results:
        score, (low, high) = result.curve.score(), result.interval.score
        n_hit = sum(hits.n_hit for hits in result.hits)
        _print_row(
            [
                result.label,
                f"{result.n_windows:,}",
                f"{result.n_windows / windows_per_s:.0f}",
                f"{n_hit} of {n_lesions}, by {result.n_detections} detections",
                f"{score:.3f} ({low:.3f} to {high:.3f})",
                _area(auc(truth, result.slide_scores)),
            ]
        )
    print()
    _print_row(["false positives a slide", *(f"{point:g}" for point in OPERATING_POINTS)])
    _print_row(["---"] * (len(OPERATING_POINTS) + 1))
    for result in results:
        cells = [
            f"{value:.2f} ({low:.2f} to {high:.2f})"
            for value, (low, high) in zip(
                result.curve.sensitivities(), result.interval.sensitivities, strict=True
            )
        ]
        _print_row([f"sensitivity, stride {result.label}", *cells])
    print()
    _print_row(["slide-level AUC of two strides, paired", "difference"])
    _print_row(["---"] * 2)
    for result in results[1:]:
        versus = compare(truth, first.slide_scores, result.slide_scores)
        _print_row([f"{first.label} less {result.label}", _difference(versus)])


def _print_row(cells: Sequence[str]) -> None:
    print(f"| {' | '.join(cells)} |")


def _area(area: Auc) -> str:
    return f"{area.auc:.3f} ({area.ci[0]:.3f} to {area.ci[1]:.3f})"


def _difference(versus: Comparison) -> str:
    return f"{versus.difference:+.3f} ({versus.ci[0]:+.3f} to {versus.ci[1]:+.3f})"


def draw(results: list[Result], truth: list[bool], out: Path, pictures: Path) -> None:
    """FROC curves, the trade-off, and slides with their heatmaps and truth."""
    ticks = (0.125, *OPERATING_POINTS)
    # Beyond its last detection a curve stays where it is.
    curves = [
        Series(
            f"stride {r.stride}",
            np.r_[r.curve.false_positives, ticks[-1]],
            np.r_[r.curve.sensitivity, r.curve.sensitivity.max()],
        )
        for r in results
    ]
    labels = ("false positives per slide", "sensitivity")
    froc = Plot(f"FROC of {len(truth)} slides", *labels, ticks, curves, log2=True)
    (pictures / "camelyon-like-froc.png").write_bytes(plot_png(froc))
    strides = np.array([r.stride for r in results], dtype=np.float64)
    cost = np.array([r.n_windows for r in results])
    series = [
        Series("slide-level AUC", strides,
               np.array([auc(truth, r.slide_scores).auc for r in results])),
        Series("FROC score", strides, np.array([r.curve.score() for r in results])),
        Series("windows, share", strides, cost / cost.max()),
    ]  # fmt: skip
    labels = ("stride, px", "AUC, FROC score, share of the windows")
    trade = Plot("Accuracy against cost", *labels, STRIDES, series, log2=True)
    (pictures / "camelyon-like-tradeoff.png").write_bytes(plot_png(trade))
    sheet = Image.new("RGB", (PICTURE_PX * len(SHOWN), 2 * PICTURE_PX), "white")
    run = hpc_heatmap.open_run(out / "run")
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
    run = score(out, chosen.workers)
    records = [record for record in read_records(run.paths) if record.stage == "scoring"]
    windows_per_s = sum(r.windows for r in records) / sum(r.cpu_s for r in records)
    results = [evaluate(run, out, stride) for stride in STRIDES]
    adaptive = evaluate(score(out, chosen.workers, adaptive=True), out, STRIDES[0])
    print_tables([*results, adaptive], truth, windows_per_s)
    if chosen.pictures is not None:
        draw(results, truth, out, chosen.pictures)


if __name__ == "__main__":
    main()
