"""Heatmaps on disk."""

from __future__ import annotations

import gc

import dask.array as da
import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import hpc_heatmap
from hpc_heatmap.errors import FormatError
from hpc_heatmap.formats import heatmap as heatmap_format
from hpc_heatmap.formats.heatmap import Heatmap, halve, write_heatmap
from hpc_heatmap.geometry import Geometry


def write(path, scores, *, stride=16, window=224, scale=(1.0, 1.0), attributes=None):
    """Write scores as the heatmap of a slide that fits them."""
    first = (window // 2) % stride
    height, width = (first + (n - 1) * stride + 1 for n in scores.shape)
    geometry = Geometry(width, height, window, stride, *scale)
    assert geometry.shape == scores.shape

    def block(row, column, n, m):
        values = scores[row : row + n, column : column + m]
        return None if np.isnan(values).all() else values

    write_heatmap(path, geometry, block, attributes or {})
    return geometry


def random_scores(shape, share=0.5):
    rng = np.random.default_rng(0)
    scores = rng.random(shape, np.float32)
    scores[rng.random(shape) > share] = np.nan
    return scores


def plain_halve(scores):
    """Mean of what is scored in each 2 x 2, one by one."""
    rows, columns = (-(-n // 2) for n in scores.shape)
    halved = np.full((rows, columns), np.nan)
    for i, j in np.ndindex(rows, columns):
        values = scores[2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
        if not np.isnan(values).all():
            halved[i, j] = np.nanmean(values.astype(float))
    return halved


@given(arrays(np.float32, st.tuples(st.integers(1, 9), st.integers(1, 9)),
              elements=st.floats(0, 1, width=32) | st.just(float("nan"))))  # fmt: skip
def test_halving_is_the_mean_of_what_is_scored(scores):
    halved = halve(scores)
    assert halved.dtype == np.float32
    np.testing.assert_allclose(halved, plain_halve(scores), rtol=1e-6, atol=1e-40)


def test_scores_come_back_with_their_pyramid(tmp_path, monkeypatch):
    monkeypatch.setattr(heatmap_format, "COARSEST", 9)
    scores = random_scores((75, 41))
    scores[:40, :20] = np.nan
    geometry = write(tmp_path / "h.h5", scores, stride=48, scale=(2.0, 1.5))
    with Heatmap(tmp_path / "h.h5") as heatmap:
        assert heatmap.scores.dtype == np.float32
        np.testing.assert_array_equal(heatmap.scores.compute(), scores)
        assert heatmap.origin_px == (geometry.x.origin_px, geometry.y.origin_px)
        assert heatmap.step_px == (96.0, 72.0)
        assert [level.shape for level in heatmap.levels] == [
            (75, 41), (38, 21), (19, 11), (10, 6), (5, 3),
        ]  # fmt: skip
        expected = scores
        for level in range(1, heatmap.n_levels):
            expected = plain_halve(expected).astype(np.float32)
            np.testing.assert_allclose(heatmap.levels[level].compute(), expected, rtol=1e-6)
            # A sample stands in the middle of the samples that it shows.
            origin, step = heatmap.placement_px(level)
            for axis in (0, 1):
                finest = heatmap.origin_px[axis] + heatmap.step_px[axis] * np.arange(2**level)
                assert origin[axis] == pytest.approx(finest.mean())
                assert step[axis] == heatmap.step_px[axis] * 2**level


def test_blocks_do_not_show(tmp_path, monkeypatch):
    monkeypatch.setattr(heatmap_format, "BLOCK", 16)
    monkeypatch.setattr(heatmap_format, "CHUNK", 8)
    monkeypatch.setattr(heatmap_format, "COARSEST", 10)
    scores = random_scores((75, 103))
    scores[16:48, 32:64] = np.nan
    write(tmp_path / "h.h5", scores)
    with Heatmap(tmp_path / "h.h5") as heatmap:
        expected = scores
        for level in heatmap.levels:
            np.testing.assert_allclose(level.compute(), expected, rtol=1e-6)
            expected = plain_halve(expected).astype(np.float32)
        assert heatmap.n_levels == 5


def test_levels_are_lazy_chunked_and_compressed(tmp_path):
    scores = np.full((900, 1100), np.nan, np.float32)
    scores[300:340, 600:640] = 0.5
    write(tmp_path / "h.h5", scores)
    with hpc_heatmap.open_heatmap(tmp_path / "h.h5") as heatmap:
        assert heatmap.n_levels == 4
        for level in range(heatmap.n_levels):
            dataset = heatmap.dataset(level)
            assert isinstance(heatmap.levels[level], da.Array)
            assert dataset.compression == "gzip"
            assert dataset.chunks == tuple(min(256, n) for n in dataset.shape)
            assert dataset.dtype == np.float32
            assert np.isnan(dataset.fillvalue)
        assert heatmap.scores.numblocks == (4, 5)
        # One chunk of the 20 has scores; the others are not in the file.
        assert heatmap.dataset().id.get_num_chunks() == 1
        assert np.nanmax(heatmap.scores[320, 500:700].compute()) == 0.5
    assert (tmp_path / "h.h5").stat().st_size < 30_000


def test_a_heatmap_without_a_score_takes_no_space(tmp_path):
    write(tmp_path / "h.h5", np.full((3000, 2000), np.nan, np.float32))
    with Heatmap(tmp_path / "h.h5") as heatmap:
        assert all(
            heatmap.dataset(level).id.get_num_chunks() == 0 for level in range(heatmap.n_levels)
        )
        assert np.isnan(heatmap.scores[::50, ::50].compute()).all()
    assert (tmp_path / "h.h5").stat().st_size < 30_000


def test_at_gives_the_nearest_sample_on_the_slide(tmp_path):
    scores = random_scores((6, 8), share=0.9)
    geometry = write(tmp_path / "h.h5", scores, stride=64)
    with Heatmap(tmp_path / "h.h5") as heatmap:
        (x0, y0), (step_x, step_y) = heatmap.origin_px, heatmap.step_px
        for i, j in np.ndindex(scores.shape):
            for dx, dy in [(0, 0), (0.49, -0.49), (-0.49, 0.49)]:
                x, y = x0 + (j + dx) * step_x, y0 + (i + dy) * step_y
                if x < geometry.width_px and y < geometry.height_px:
                    np.testing.assert_equal(heatmap.at(x, y), float(scores[i, j]))
        # Stride 64 begins at 48 px: further than half a step from the corner, which is tissue.
        np.testing.assert_equal(heatmap.at(0, 0), float(scores[0, 0]))
        last = geometry.width_px - 1, geometry.height_px - 1
        np.testing.assert_equal(heatmap.at(*last), float(scores[-1, -1]))
        for outside in [(-1, 5), (5, -1), (last[0] + 1, 5), (5, last[1] + 1)]:
            assert np.isnan(heatmap.at(*outside))


def test_attributes_are_kept_and_a_closed_heatmap_can_be_shown(tmp_path):
    write(tmp_path / "h.h5", random_scores((4, 4)), attributes={"slide_path": "s.svs"})
    with Heatmap(tmp_path / "h.h5") as heatmap:
        assert heatmap.slide_path == "s.svs"
        assert heatmap.attributes["stride_px"] == 16
        assert "4 x 4" in repr(heatmap)
    assert "closed" in repr(heatmap)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(FormatError, match="no such file"):
        Heatmap(tmp_path / "absent.h5")
    (tmp_path / "text.h5").write_text("words")
    with pytest.raises(FormatError):
        Heatmap(tmp_path / "text.h5")
    write(tmp_path / "h.h5", random_scores((4, 4)))
    with h5py.File(tmp_path / "h.h5", "r+") as file:
        file.attrs["format_version"] = 99
    with pytest.raises(FormatError, match="newer"):
        Heatmap(tmp_path / "h.h5")


def test_a_dask_array_keeps_its_heatmap_open(tmp_path):
    scores = random_scores((300, 200))
    write(tmp_path / "heatmap.h5", scores)
    lazy = hpc_heatmap.open_heatmap(tmp_path / "heatmap.h5").scores
    gc.collect()
    np.testing.assert_array_equal(lazy.compute(), scores)
