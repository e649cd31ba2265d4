"""Patches from slides: random ones inside tissue, labelled by the truth, and hard negatives."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hpc_heatmap.errors import TileError, TrainingError
from hpc_heatmap.evaluation.truth import Grid, find_truth
from hpc_heatmap.geometry import Box
from hpc_heatmap.runs.run import RunSlide, open_run
from hpc_heatmap.runs.status import State
from hpc_heatmap.slide import Slide
from hpc_heatmap.slide_list import collect_slides, slide_ids
from hpc_heatmap.tissue import detect_tissue
from hpc_heatmap.training.coverage import Coverage
from hpc_heatmap.training.patches import Patches, join
from hpc_heatmap.training.settings import TrainingSettings
from hpc_heatmap.training.sources import Progress, TrainingSources

__all__ = ["CutSlides", "SlideCutter"]

#: Smallest share of tumour in a tumour patch; a normal patch has none (the paper, section III).
TUMOUR_SHARE = 0.5
#: Places that are tried for each patch that is wanted.
_TRIES = 20


@dataclass(frozen=True)
class CutSlides:
    """Patches of slides, those for validation of other slides than those for training."""

    train: list[Patches]
    valid: list[Patches]
    origin: str
    splits: list[str]


@dataclass
class _Annotated:
    """A slide with its truth."""

    slide: Slide
    side_px: int
    spacing_um: float | None
    tumour: Coverage | None
    n_unreadable: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.view = self.slide.view(self.spacing_um)

    def boxes(
        self, x_px: npt.NDArray[np.float64], y_px: npt.NDArray[np.float64]
    ) -> Iterator[tuple[Box, tuple[float, float, float, float]]]:
        """Patches around level-0 positions, in read and in level-0 pixels; whole ones alone."""
        scale_x, scale_y = self.view.scale
        side = self.side_px
        for x, y in zip(x_px, y_px, strict=True):
            left, top = round(x / scale_x - side / 2), round(y / scale_y - side / 2)
            if 0 <= left <= self.view.width_px - side and 0 <= top <= self.view.height_px - side:
                yield (
                    Box(left, top, side, side),
                    (left * scale_x, top * scale_y, (left + side) * scale_x,
                     (top + side) * scale_y),
                )  # fmt: skip

    def tumour_share(self, place: tuple[float, float, float, float]) -> float:
        """Share of tumour in a rectangle."""
        return self.tumour.share(*place) if self.tumour is not None else 0.0

    def read(self, boxes: list[Box], label: int) -> Patches:
        """Pixels of patches; those that cannot be decoded are left out and counted."""
        images = []
        for box in boxes:
            try:
                images.append(self.view.read(box))
            except TileError:
                self.n_unreadable += 1
        shape = (len(images), self.side_px, self.side_px, 3)
        pixels = np.stack(images) if images else np.empty(shape, np.uint8)
        return Patches(pixels, np.full(len(images), label, np.int64))


class SlideCutter:
    """Cut patches from slides, always the same ones for the same settings.

    Parameters
    ----------
    sources
        Slides and outlines.
    settings
        Size, number and spacing of patches.
    hold_out
        Whether some slides are for validation.
    on_progress
        Called for each slide.

    Raises
    ------
    TrainingError
        No slide has tumour, or none could be held out.
    EvaluationError
        The truth cannot be read.
    SlideError
        There is no such slide.
    """

    def __init__(
        self,
        sources: TrainingSources,
        settings: TrainingSettings,
        *,
        hold_out: bool,
        on_progress: Progress,
    ) -> None:
        if sources.outlines is None:
            raise TrainingError("Slides need the truth about them: give --outlines.")
        self.settings, self._on_progress = settings, on_progress
        self._where = sources.outlines
        self._truth = find_truth(sources.outlines)
        self._grid = Grid(settings.mask_level)
        paths = collect_slides(sources.slides) if sources.slides else []
        self._slides = dict(zip(slide_ids(paths), paths, strict=True))
        self._held: set[str] = self._hold_out() if hold_out and self._slides else set()

    def _hold_out(self) -> set[str]:
        """Slides for validation: a share of those with and of those without tumour."""
        random = np.random.default_rng(self.settings.seed)
        held: set[str] = set()
        with_tumour = [name for name in self._slides if self._truth.has(name)]
        without = [name for name in self._slides if not self._truth.has(name)]
        if not with_tumour:
            raise TrainingError(
                f"None of the slides has outlines in {self._where}, so there is no tumour to "
                "learn: outlines and masks are named like their slide."
            )
        if len(with_tumour) < 2:
            raise TrainingError(
                f"{with_tumour[0]} is the only slide with tumour, and validation needs one of its "
                "own: give more slides, or --valid-patches."
            )
        for names in (with_tumour, without):
            n = round(self.settings.valid_fraction * len(names))
            n = max(1, n) if names is with_tumour else n
            held |= {names[i] for i in random.permutation(len(names))[:n]}
        return held

    def cut(self) -> CutSlides:
        """Random patches of all slides."""
        parts: dict[bool, list[Patches]] = {False: [], True: []}
        n_unreadable = n_tumour = 0
        for number, (name, path) in enumerate(self._slides.items(), start=1):
            with Slide(path, spacing_um=self.settings.spacing) as slide:
                annotated = self._annotate(slide, name)
                parts[name in self._held] += self._cut(annotated, name)
            n_tumour += annotated.tumour is not None
            n_unreadable += annotated.n_unreadable
            self._on_progress("Cutting patches from slides", number, len(self._slides))
        if not any(map(len, parts[False])):
            raise TrainingError(
                f"No patch of {self.settings.patch} px inside tissue could be cut from the slides "
                "for training: lower --patch or --min-tissue-fraction."
            )
        n_patches = sum(map(len, parts[False] + parts[True]))
        origin = (
            f"{n_patches:,} random patches from {len(self._slides)} slides, "
            f"{n_tumour} with tumour by `{self._where.name}`: tumour where at least half of the "
            "patch is, normal where nothing is"
        )
        if n_unreadable:
            origin += f"; {n_unreadable} patches could not be read"
        splits = [f"{len(self._held)} slides held out ({', '.join(sorted(self._held))})"]
        return CutSlides(parts[False], parts[True], origin, splits if self._held else [])

    def _annotate(self, slide: Slide, name: str) -> _Annotated:
        side = self.settings.patch
        pixel = self._grid.pixel_px
        drawn = self._truth.tumour(name, self._grid, (slide.width_px, slide.height_px))
        tumour = None
        if drawn is not None:
            expected = (slide.width_px / pixel, slide.height_px / pixel)
            if drawn.size is not None and any(
                abs(found - size) > 2 + 0.02 * size
                for found, size in zip(drawn.size, expected, strict=True)
            ):
                raise TrainingError(
                    f"{self._where}: the mask of {name} has {drawn.size[0]} x {drawn.size[1]} px, "
                    f"but the slide has {expected[0]:.0f} x {expected[1]:.0f} at level "
                    f"{self._grid.level}: check --mask-level."
                )
            tumour = Coverage(drawn.mask, (pixel, pixel), drawn.origin)
        return _Annotated(slide, side, self.settings.requested_spacing, tumour)

    def _cut(self, annotated: _Annotated, name: str) -> list[Patches]:
        """Random patches of one slide, both classes."""
        settings = self.settings
        random = np.random.default_rng((settings.seed, zlib.crc32(name.encode())))
        found = detect_tissue(annotated.slide, settings.tissue_method)
        tissue = Coverage(found.mask, found.scale)
        parts = []
        for label, area in ((0, tissue), (1, annotated.tumour)):
            if area is None:
                continue
            boxes = []
            n = settings.patches_per_slide
            for box, place in annotated.boxes(*area.random_places(_TRIES * n, random)):
                share = annotated.tumour_share(place)
                fits = share >= TUMOUR_SHARE if label else share == 0
                if fits and tissue.share(*place) >= settings.min_tissue_fraction:
                    boxes.append(box)
                    if len(boxes) == n:
                        break
            parts.append(annotated.read(boxes, label))
        return parts

    def mine(self, run: Path) -> tuple[Patches, str]:
        """False positives of a run: patches without any tumour around its high scores.

        Slides that are held out for validation are left out.

        Raises
        ------
        TrainingError
            The run has no heatmap of a slide, or no false positive.
        RunConflictError
            The directory holds no run.
        """
        opened = open_run(run)
        done = opened.status().slides
        slides = {
            name: slide
            for name, slide in opened.slides.items()
            if done[name].state is State.DONE and name not in self._held
        }
        parts = []
        for number, (name, slide) in enumerate(slides.items(), start=1):
            parts.append(self._mine(name, slide))
            self._on_progress("Mining hard negatives", number, len(slides))
        if not any(map(len, parts)):
            raise TrainingError(
                f"The run {run} has no false positive with a score of "
                f"{self.settings.hard_negative_score:g} or more on slides that are for training: "
                "lower --hard-negative-score, or train without --hard-negatives."
            )
        mined = join(parts)
        return mined, f"{len(mined):,} hard negatives from {len(slides)} slides of a run"

    def _mine(self, name: str, slide: RunSlide) -> Patches:
        """Hard negatives of one slide, the highest scores first, one a square of half a patch."""
        settings = self.settings
        with slide.heatmap as heatmap:
            scores = heatmap.dataset()[:]
            origin, step = heatmap.placement_px()
        rows, columns = np.nonzero(scores >= settings.hard_negative_score)
        order = np.argsort(-scores[rows, columns], kind="stable")
        x = origin[0] + columns[order] * step[0] + 0.5
        y = origin[1] + rows[order] * step[1] + 0.5
        with Slide(slide.path, spacing_um=settings.spacing) as opened:
            annotated = self._annotate(opened, name)
            half_x, half_y = (settings.patch * scale / 2 for scale in annotated.view.scale)
            squares = np.stack([x // half_x, y // half_y], 1)
            _, first = np.unique(squares, axis=0, return_index=True)
            first.sort()
            boxes = []
            for box, place in annotated.boxes(x[first], y[first]):
                if annotated.tumour_share(place) == 0:
                    boxes.append(box)
                    if len(boxes) == settings.hard_negatives_per_slide:
                        break
            return annotated.read(boxes, 0)
