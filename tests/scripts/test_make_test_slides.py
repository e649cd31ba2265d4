"""Slides whose truth is known to the tile: the rules of the script that makes them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from reference import reference
from scipy import ndimage
from skimage.draw import polygon2mask

import hpc_heatmap
from hpc_heatmap.evaluation.lesions import find_lesions
from hpc_heatmap.evaluation.outlines import read_outlines
from hpc_heatmap.evaluation.truth import Grid, find_truth
from hpc_heatmap.geometry import Box

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import make_test_slides as script

TILE = script.TILE_PX


def drawn(rings):
    """Tiles whose centre is inside an odd number of rings."""
    inside = np.zeros((12, 12), bool)
    for ring in rings:
        points = np.array(ring)[:, ::-1] / TILE - 0.5
        inside ^= polygon2mask(inside.shape, points)
    return inside


@pytest.mark.parametrize("seed", range(6))
def test_outlines_follow_the_tiles(seed):
    tiles = np.random.default_rng(seed).random((12, 12)) < 0.45
    rings = list(script.rings(tiles))
    np.testing.assert_array_equal(drawn(rings), tiles)
    for ring in rings:
        steps = np.abs(np.diff(ring, axis=0))
        assert ring[0] == ring[-1]
        assert ((steps == 0) | (steps == TILE)).all()
        assert (steps.sum(axis=1) == TILE).all()


def test_a_hole_is_a_ring_of_its_own():
    tiles = np.zeros((12, 12), bool)
    tiles[2:7, 2:7], tiles[4, 4] = True, False
    (feature,) = script.geojson(tiles)["features"]
    outer, hole = feature["geometry"]["coordinates"]
    assert np.ptp(np.array(outer), axis=0).tolist() == [5 * TILE, 5 * TILE]
    assert np.ptp(np.array(hole), axis=0).tolist() == [TILE, TILE]


def test_a_tile_is_tumour_where_half_of_it_is():
    square = np.array([[0.4, 0], [3.6, 0], [3.6, 2], [0.4, 2]])
    np.testing.assert_array_equal(script.tiles_inside(square)[:2, :4], [[1, 1, 1, 1]] * 2)
    narrow = np.array([[0.6, 0], [3.4, 0], [3.4, 2], [0.6, 2]])
    np.testing.assert_array_equal(script.tiles_inside(narrow)[:2, :4], [[0, 1, 1, 0]] * 2)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two of the slides, one with tumour."""
    out = tmp_path_factory.mktemp("set")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(script, "LESIONS", (2, 0))
        plans = script.make_slides(
            reference("pcam"), reference("camelyon16_annotations/json_test.tar.gz"), out
        )
    return out, plans


@pytest.mark.slow
def test_masks_and_outlines_are_the_tiles(made):
    out, plans = made
    plan = plans[0]
    with Image.open(out / "masks" / "slide_01.png") as picture:
        mask = np.asarray(picture) > 0
    per_tile = TILE // script.MASK_PX
    tiles = mask.reshape(script.SIDE, per_tile, script.SIDE, per_tile)
    np.testing.assert_array_equal(tiles.any(axis=(1, 3)), plan.tumour)
    np.testing.assert_array_equal(tiles.all(axis=(1, 3)), plan.tumour)
    assert not (plan.tumour & ~plan.tissue).any()
    assert ndimage.label(plan.tumour, np.ones((3, 3)))[1] >= plan.n_lesions == 2
    lesions = find_lesions(mask, script.MASK_PX * script.SPACING_UM)
    assert len(lesions.counted) >= 2, "75 um do not join two lesions"
    # Outlines are drawn with every pixel that an edge falls into: one more on two sides.
    grid = Grid(3, script.SPACING_UM)
    from_outlines = find_truth(out / "outlines").tumour("slide_01", grid, (mask.shape[1] * 8,) * 2)
    assert from_outlines is not None
    whole = np.zeros_like(mask)
    left, top = from_outlines.origin
    rows, columns = from_outlines.mask.shape
    whole[top : top + rows, left : left + columns] = from_outlines.mask
    assert whole[mask].all()
    assert not whole[~ndimage.binary_dilation(mask, np.ones((3, 3)))].any()
    assert read_outlines(out / "outlines" / "slide_01.geojson")
    assert not (out / "masks" / "slide_02.png").exists()


@pytest.mark.slow
def test_slides_show_their_patches_and_no_patch_twice(made):
    out, plans = made
    source = script.read_patch_files(script.find_patch_files(reference("pcam")).valid, set())
    every = source.images.mean(axis=(1, 2))
    shown = []
    for plan in plans:
        with hpc_heatmap.Slide(out / "slides" / f"{plan.name}.tif") as slide:
            assert slide.spacing_um == pytest.approx((script.SPACING_UM,) * 2, rel=1e-3)
            assert len(slide.level_dimensions) == 3
            places = np.argwhere(plan.tissue)[::97].tolist() + np.argwhere(plan.tumour)[:3].tolist()
            found = set()
            for row, column in places:
                tile = slide.read_level(0, Box(column * TILE, row * TILE, TILE, TILE))
                means = tile.mean(axis=(0, 1))
                near = np.argsort(np.abs(every - means).sum(axis=1))[:20]
                kinds = [
                    np.abs(turned[::flip].astype(int) - tile).mean()
                    for index in near
                    for turned in (np.rot90(source.images[index], k) for k in range(4))
                    for flip in (1, -1)
                ]
                best = int(near[int(np.argmin(kinds)) // 8])
                assert min(kinds) < 4, "JPEG changes little"
                assert source.labels[best] == plan.tumour[row, column]
                found.add(best)
            assert slide.read_level(0, Box(0, 0, 8, 8)).min() > 240
        shown.append(found)
    assert shown[0].isdisjoint(shown[1])
