"""Adaptive stride: refined cells to the bit, the rest from coarse scores, the same lesions."""

from __future__ import annotations

import numpy as np
import pytest
from chain import group
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from slides import big_slide

import hpc_heatmap
from hpc_heatmap.errors import SettingsError
from hpc_heatmap.formats.group_file import open_groups
from hpc_heatmap.formats.score_file import read_scores, write_scores
from hpc_heatmap.model import FunctionClassifier
from hpc_heatmap.stages.adaptive import Refinement, _suspicious, score_adaptively
from hpc_heatmap.stages.scoring import score_group

LIMIT = 0.5


def darkness(windows):
    """High on tissue, low on glass: lesions of the test slides' blobs."""
    return np.clip(2.4 - windows[:, 16:48, 16:48].mean(axis=(1, 2, 3)) / 108, 0, 1)


@pytest.fixture(scope="module")
def groups_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("groups")
    path = big_slide(folder / "s.tiff", 1500, 1300, downsamples=(1,))
    return group(path, folder / "g", 64, 16, None, tissue_method="all", patches_per_group=300)


def read_group(groups_file, stride, index=0):
    with open_groups(groups_file.groups) as groups:
        return groups.read(index), groups.header.geometry(stride)


@pytest.mark.parametrize(("stride", "coarse"), [(16, 32), (16, 64)])
def test_refined_cells_are_the_full_runs_and_others_take_the_nearest(groups_file, stride, coarse):
    members, geometry = read_group(groups_file, stride)
    model = FunctionClassifier(darkness, 64)
    full, _ = score_group(members, geometry, model)
    found, work = score_adaptively(members, geometry, Refinement(coarse, 0.9, LIMIT), model)
    assert 0 < found.refined.sum() < len(found.refined)
    np.testing.assert_array_equal(found.scores[found.refined], full.scores[found.refined])
    np.testing.assert_array_equal(np.isnan(found.scores), np.isnan(full.scores))
    for number in np.flatnonzero(~found.refined):
        row, column = members.cells[number].tolist()
        rows, columns = geometry.y.points_of(row), geometry.x.points_of(column)
        points = [(i, j) for i in range(len(rows)) for j in range(len(columns))]

        def is_coarse(at, first=32 % coarse):
            return (at - first) % coarse == 0

        exact = [
            (i, j)
            for i, j in points
            if is_coarse(geometry.y.position_px(rows[i]))
            and is_coarse(geometry.x.position_px(columns[j]))
        ]
        for i, j in exact:
            assert found.scores[number, i, j] == full.scores[number, i, j] < 0.9
        for i, j in points:
            nearest = min(max(abs(i - a), abs(j - b)) for a, b in exact)
            near = [
                found.scores[number, a, b]
                for a, b in exact
                if max(abs(i - a), abs(j - b)) == nearest
            ]
            assert found.scores[number, i, j] in near
    assert work.windows == np.isfinite(full.scores).sum()
    assert work.skipped > work.windows / 3


def test_little_of_a_lesion_is_missed(groups_file):
    members, geometry = read_group(groups_file, 16)
    model = FunctionClassifier(darkness, 64)
    found, _ = score_adaptively(members, geometry, Refinement(32, 0.9, LIMIT), model)
    full, _ = score_group(members, geometry, model)
    lesion = full.scores >= 0.9
    assert lesion.sum() > 10
    assert (lesion & (found.scores < 0.9)).sum() <= 0.02 * lesion.sum()


@pytest.mark.parametrize("limit", [0.2, 0.5, 0.8])
def test_a_lower_limit_refines_more(groups_file, limit):
    members, geometry = read_group(groups_file, 32)
    model = FunctionClassifier(darkness, 64)
    more, _ = score_adaptively(members, geometry, Refinement(64, 0.9, limit / 2), model)
    fewer, _ = score_adaptively(members, geometry, Refinement(64, 0.9, limit), model)
    assert (more.refined | ~fewer.refined).all()


@given(arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(1, 6)),
              elements=st.sampled_from([0.1, 0.6, 0.95, float("nan")])))  # fmt: skip
def test_suspicious_is_a_lesions_score_or_two_neighbours_that_reach_the_limit(lattice):
    found = _suspicious(lattice, Refinement(64, 0.9, LIMIT))
    for i, j in np.ndindex(lattice.shape):
        around = lattice[max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2]
        warm = lattice[i, j] >= LIMIT and (around >= LIMIT).sum() > 1
        assert found[i, j] == (lattice[i, j] >= 0.9 or warm)


def test_score_files_keep_what_was_refined(groups_file, tmp_path):
    members, geometry = read_group(groups_file, 32)
    model = FunctionClassifier(darkness, 64)
    found, _ = score_adaptively(members, geometry, Refinement(64, 0.9, LIMIT), model)
    write_scores(tmp_path / "a.h5", found)
    np.testing.assert_array_equal(read_scores(tmp_path / "a.h5").refined, found.refined)
    full, _ = score_group(members, geometry, model)
    write_scores(tmp_path / "b.h5", full)
    assert read_scores(tmp_path / "b.h5").refined is None


def test_a_whole_run(tmp_path):
    """The command's way, with a function as the model: heatmap, report, and the same lesions."""
    from hpc_heatmap.runs.report import report_run

    slide = big_slide(tmp_path / "s.tiff", 1500, 1300, downsamples=(1,))
    model = FunctionClassifier(darkness, 64)
    runs = {}
    for adaptive in (False, True):
        settings = hpc_heatmap.RunSettings(stride=16, adaptive=adaptive, tissue_method="all")
        run = hpc_heatmap.start_run([slide], model, tmp_path / str(adaptive), settings=settings)
        run.resume(model=model)
        runs[adaptive] = run
    with (
        runs[False].slides["s"].heatmap as full,
        runs[True].slides["s"].heatmap as found,
    ):
        assert full.refined is None
        assert found.refined.shape == (-(-1300 // 64), -(-1500 // 64))
        assert 0 < found.refined.mean() < 1
        a, b = full.dataset()[:], found.dataset()[:]
    refined = np.repeat(np.repeat(found_cells := _cells(runs[True]), 4, 0), 4, 1)
    assert found_cells.any()
    np.testing.assert_array_equal(
        b[refined[: a.shape[0], : a.shape[1]]], a[refined[: a.shape[0], : a.shape[1]]]
    )
    lesions = [
        (run.slides["s"].files.lesions_csv).read_text().splitlines() for run in runs.values()
    ]
    assert len(lesions[0]) == len(lesions[1]) > 1
    notes = " ".join(report_run(tmp_path / "True").notes)
    assert "Adaptive stride: " in notes and "were not scored" in notes


def _cells(run):
    with run.slides["s"].heatmap as heatmap:
        return heatmap.refined


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"coarse_stride": 32}, "--adaptive"),
        ({"adaptive": True, "coarse_stride": 24}, "larger multiple"),
        ({"adaptive": True, "coarse_stride": 128}, "up to the window of 64 px"),
        ({"adaptive": True, "stride": 64}, "none at this --stride"),
    ],
)
def test_strides_that_do_not_fit_are_refused(changes, said):
    settings = hpc_heatmap.RunSettings(**{"stride": 16} | changes)
    with pytest.raises(SettingsError, match=said):
        settings.coarse_stride_px(settings.stride, 64)
