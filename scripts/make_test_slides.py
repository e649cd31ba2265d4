#!/usr/bin/env python3
"""Make slides like CAMELYON16's whose truth is known to the tile.

    python scripts/make_test_slides.py --pcam DIR --outlines json_test.tar.gz --out DIR

Each slide is a mosaic of real PatchCamelyon validation patches (96 px, 0.972 um) on glass. Lesions
have the shape and the true size of real CAMELYON16 outlines: a tile is tumour where at least half
of it lies inside one, and then shows a tumour patch; all other tissue shows normal patches. No
patch is on two slides, so slides are independent; within a slide a patch comes several times,
turned and flipped. The same seed gives the same slides.

Written: ``slides/NAME.tif`` (pyramidal JPEG TIFF), ``masks/NAME.png`` (8 px a pixel, so level 3),
``outlines/NAME.geojson`` (for QuPath, along the tiles), and ``slides.csv`` (slide, tumour, width,
height, lesions, tissue tiles, tumour tiles).
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from scipy import ndimage
from slides import GLASS_RGB, write_slide

from hpc_heatmap.evaluation.outlines import read_archive
from hpc_heatmap.training.patch_files import find_patch_files, read_patch_files

TILE_PX = 96
SPACING_UM = 0.972
#: Spacing of the outlines.
OUTLINE_SPACING_UM = 0.243
#: Level-0 pixels of a mask's pixel: 7.776 um, as of CAMELYON16's masks at level 5.
MASK_PX = 8
#: Side of a slide, tiles.
SIDE = 32
#: Lesions of each slide.
LESIONS = (1, 1, 2, 2, 3, 3, 4, 5, 0, 0, 0, 0)
#: Longest side of an outline's box, micrometres: from a small micrometastasis to what fits.
OUTLINE_UM = (300.0, 1500.0)
#: Free tiles between two lesions, so that they stay two.
GAP = 2
_TRIES = 500

Mask = npt.NDArray[np.bool_]
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Plan:
    """Tiles of one slide, (SIDE, SIDE) each."""

    name: str
    tissue: Mask
    tumour: Mask
    n_lesions: int


def outline_shapes(archive: Path) -> list[npt.NDArray[np.float64]]:
    """Real outlines in tiles, those of a fitting size, in the archive's order."""
    found = []
    for _, outlines in sorted(read_archive(archive).items()):
        for outline in outlines:
            points = outline.points * (OUTLINE_SPACING_UM / SPACING_UM / TILE_PX)
            longest_um = float(np.ptp(points, axis=0).max()) * TILE_PX * SPACING_UM
            if not outline.is_hole and OUTLINE_UM[0] <= longest_um <= OUTLINE_UM[1]:
                found.append(points - points.min(axis=0))
    return found


def tiles_inside(points: npt.NDArray[np.float64]) -> Mask:
    """Tiles of which at least half lies inside an outline, by 24 x 24 samples a tile."""
    fine = 24
    rows, columns = (int(n) + 1 for n in np.ceil(points.max(axis=0))[::-1])
    picture = Image.new("1", (columns * fine, rows * fine))
    ImageDraw.Draw(picture).polygon([(x * fine, y * fine) for x, y in points], fill=1)
    shares = np.asarray(picture).reshape(rows, fine, columns, fine).mean(axis=(1, 3))
    inside: Mask = shares >= 0.5
    return inside


def tissue_shape(random: np.random.Generator) -> Mask:
    """A round piece of tissue with a wavy border."""
    row, column = np.mgrid[:SIDE, :SIDE] + 0.5 - SIDE / 2
    angle = np.arctan2(row, column)
    radius = np.full(angle.shape, 0.39 * SIDE)
    for k in range(2, 6):
        radius *= 1 + random.uniform(0, 0.09) * np.cos(k * angle + random.uniform(0, 2 * np.pi))
    tissue: Mask = np.hypot(row, column) < radius
    return tissue


def plan_slide(
    name: str, n_lesions: int, shapes: list[npt.NDArray[np.float64]], random: np.random.Generator
) -> Plan:
    """Place lesions in a piece of tissue, apart from each other."""
    tissue = tissue_shape(random)
    tumour = np.zeros_like(tissue)
    placed = 0
    for _ in range(_TRIES):
        if placed == n_lesions:
            break
        shift = random.random(2)
        tiles = tiles_inside(shapes[random.integers(len(shapes))] + shift)
        free = np.array(tissue.shape) - tiles.shape
        if not tiles.any() or (free < 1).any():
            continue
        top, left = (int(random.integers(n)) for n in free)
        lesion = np.zeros_like(tissue)
        lesion[top : top + tiles.shape[0], left : left + tiles.shape[1]] = tiles
        near = ndimage.binary_dilation(tumour, np.ones((2 * GAP + 1,) * 2))
        if not (lesion & (~tissue | near)).any():
            tumour |= lesion
            placed += 1
    if placed < n_lesions:
        raise SystemExit(f"{name}: {n_lesions} lesions found no place in {_TRIES} tries.")
    return Plan(name, tissue, tumour, n_lesions)


def mosaic(plan: Plan, patches: dict[bool, Pixels], random: np.random.Generator) -> Pixels:
    """Pixels of a slide; each patch comes equally often, in all its symmetries."""
    picture = np.full((SIDE * TILE_PX, SIDE * TILE_PX, 3), GLASS_RGB, np.uint8)
    for is_tumour, own in patches.items():
        places = np.argwhere(plan.tissue & (plan.tumour == is_tumour))
        rounds = -(-len(places) // max(1, len(own)))
        order = np.concatenate([random.permutation(len(own)) for _ in range(rounds)] or [[]])
        for (row, column), index in zip(places.tolist(), order[: len(places)], strict=True):
            tile = np.rot90(own[int(index)], random.integers(4))
            tile = tile[::-1] if random.integers(2) else tile
            y, x = row * TILE_PX, column * TILE_PX
            picture[y : y + TILE_PX, x : x + TILE_PX] = tile
    return picture


def write_mosaic(path: Path, picture: Pixels) -> None:
    """Write a slide with a pyramid of means."""
    levels = {1: picture}
    for downsample in (4, 16):
        finer = levels[downsample // 4]
        side = finer.shape[0] // 4
        boxes = finer.reshape(side, 4, side, 4, 3)
        levels[downsample] = np.rint(boxes.mean(axis=(1, 3))).astype(np.uint8)

    def pixels_at(x: int, y: int, w: int, h: int, downsample: int) -> Pixels | None:
        pixels = levels[downsample][y : y + h, x : x + w]
        return None if (pixels == GLASS_RGB).all() else pixels

    side_px = SIDE * TILE_PX
    write_slide(
        path, pixels_at, side_px, side_px,
        spacing_um=SPACING_UM, downsamples=tuple(levels), quality=90,
    )  # fmt: skip


def rings(mask: Mask) -> Iterator[list[list[float]]]:
    """Closed outlines of tiles along their edges, level-0 pixels; inside is on the right."""
    padded = np.pad(mask, 1)
    following: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for row, column in np.argwhere(padded).tolist():
        corners = [(row, column), (row, column + 1), (row + 1, column + 1), (row + 1, column)]
        beside = [(row - 1, column), (row, column + 1), (row + 1, column), (row, column - 1)]
        for side, other in enumerate(beside):
            if not padded[other]:
                following.setdefault(corners[side], []).append(corners[(side + 1) % 4])
    while following:
        first = previous = min(following)
        here, loop = following[first].pop(0), [first]
        while here != first:
            loop.append(here)
            # Where two tiles touch by a corner, stay with the own one: turn right.
            step = (here[0] - previous[0], here[1] - previous[1])
            right = (here[0] + step[1], here[1] - step[0])
            choices = following[here]
            chosen = right if right in choices else choices[0]
            choices.remove(chosen)
            previous, here = here, chosen
        following = {start: ends for start, ends in following.items() if ends}
        yield [[float((x - 1) * TILE_PX), float((y - 1) * TILE_PX)] for y, x in [*loop, first]]


def geojson(tumour: Mask) -> dict[str, Any]:
    """Outlines for QuPath: a polygon for each connected lesion, holes as further rings."""
    labels, n = ndimage.label(tumour)
    features = []
    for number in range(1, n + 1):
        found = sorted(rings(labels == number), key=lambda ring: -_extent(ring))
        features.append(
            {
                "type": "Feature",
                "geometry": {"type": "Polygon", "coordinates": found},
                "properties": {
                    "objectType": "annotation",
                    "name": f"lesion {number}",
                    "classification": {"name": "Tumor"},
                },
            }
        )
    return {"type": "FeatureCollection", "features": features}


def _extent(ring: list[list[float]]) -> float:
    return float(np.ptp(np.array(ring), axis=0).prod())


def make_slides(pcam: Path, outlines: Path, out: Path, seed: int = 1) -> list[Plan]:
    """Write all slides and their truth; gives their plans."""
    random = np.random.default_rng(seed)
    source = find_patch_files(pcam).valid
    if source is None:
        raise SystemExit(f"{pcam} has no validation split (valid or valid.tar).")
    patches = read_patch_files(source, set())
    shapes = outline_shapes(outlines)
    n_with_tumour = sum(n > 0 for n in LESIONS)
    shares = {
        label: np.array_split(random.permutation(np.flatnonzero(patches.labels == label)), n)
        for label, n in ((0, len(LESIONS)), (1, n_with_tumour))
    }
    for folder in ("slides", "masks", "outlines"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    plans = []
    for number, n_lesions in enumerate(LESIONS):
        plan = plan_slide(f"slide_{number + 1:02d}", n_lesions, shapes, random)
        own = {False: patches.images[shares[0][number]]}
        if n_lesions:
            own[True] = patches.images[shares[1][number]]
            fine = plan.tumour.repeat(TILE_PX // MASK_PX, 0).repeat(TILE_PX // MASK_PX, 1)
            Image.fromarray(fine.astype(np.uint8) * 255).save(out / "masks" / f"{plan.name}.png")
            text = json.dumps(geojson(plan.tumour))
            (out / "outlines" / f"{plan.name}.geojson").write_text(text, "utf-8")
        write_mosaic(out / "slides" / f"{plan.name}.tif", mosaic(plan, own, random))
        plans.append(plan)
    with (out / "slides.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(
            ["slide", "tumour", "width", "height", "lesions", "tissue_tiles", "tumour_tiles"]
        )
        side_px = SIDE * TILE_PX
        for plan in plans:
            counts = (plan.n_lesions, int(plan.tissue.sum()), int(plan.tumour.sum()))
            rows.writerow([plan.name, int(plan.n_lesions > 0), side_px, side_px, *counts])
    return plans


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    data = Path(__file__).parents[2] / "shared" / "data"
    parser.add_argument("--pcam", type=Path, default=data / "pcam", metavar="DIR",
                        help="PatchCamelyon's folder with valid.tar")  # fmt: skip
    parser.add_argument(
        "--outlines", type=Path, default=data / "camelyon16_annotations" / "json_test.tar.gz",
        metavar="FILE", help="archive of CAMELYON16 outlines",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    for plan in make_slides(chosen.pcam, chosen.outlines, chosen.out, chosen.seed):
        print(
            f"{plan.name}: {plan.tissue.sum()} tiles of tissue, {plan.tumour.sum()} of tumour in "
            f"{plan.n_lesions} lesions"
        )


if __name__ == "__main__":
    main()
