"""Scoring a group: each window once, where its lattice point is, whatever the batches."""

from __future__ import annotations

import numpy as np
import pytest
from chain import group
from slides import big_slide, corrupt_tile, landmark_slide

from hpc_heatmap.errors import ModelOutputError
from hpc_heatmap.formats.group_file import open_groups
from hpc_heatmap.model import FunctionClassifier
from hpc_heatmap.stages.scoring import score_group


def mean_brightness(windows):
    return windows.mean(axis=(1, 2, 3)) / 255


@pytest.fixture(scope="module")
def groups_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("groups")
    path = big_slide(folder / "s.tiff", 1500, 1300, downsamples=(1,))
    return group(path, folder / "g", 64, 16, None, tissue_method="all", patches_per_group=60)


@pytest.mark.parametrize("stride", [16, 23, 64])
def test_each_point_has_the_score_of_its_window(groups_file, stride):
    model = FunctionClassifier(mean_brightness, 64)
    with open_groups(groups_file.groups) as groups:
        geometry = groups.header.geometry(stride)
        members = groups.read(groups.header.n_groups - 1)
    found, work = score_group(members, geometry, model)
    assert found.cells.tolist() == members.cells.tolist()
    assert found.scores.dtype == np.float32
    assert found.scores.shape == (len(members.cells), *geometry.block_shape)
    n_windows = 0
    for number, (row, column) in enumerate(members.cells.tolist()):
        patch = members.patch(number)
        rows, columns = geometry.y.points_of(row), geometry.x.points_of(column)
        for i, j in np.ndindex(geometry.block_shape):
            score = found.scores[number, i, j]
            if i >= len(rows) or j >= len(columns):
                assert np.isnan(score)
                continue
            # The patch begins half a window before its cell.
            top = geometry.y.position_px(rows[i]) - row * 64
            left = geometry.x.position_px(columns[j]) - column * 64
            expected = patch[top : top + 64, left : left + 64].mean() / 255
            assert score == pytest.approx(expected, abs=1e-6)
            n_windows += 1
    assert work.windows == n_windows == geometry.count_windows(members.cells)


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_batches_are_full_and_change_nothing(groups_file, batch_size):
    sizes = []

    def counted(windows):
        sizes.append(len(windows))
        return mean_brightness(windows)

    with open_groups(groups_file.groups) as groups:
        geometry = groups.header.geometry(32)
        members = groups.read(0)
    expected, _ = score_group(members, geometry, FunctionClassifier(mean_brightness, 64))
    found, _ = score_group(members, geometry, FunctionClassifier(counted, 64), batch_size)
    np.testing.assert_array_equal(found.scores, expected.scores)
    assert set(sizes[:-1]) <= {batch_size}
    assert 0 < sizes[-1] <= batch_size


def test_patches_that_cannot_be_read_get_no_score(tmp_path):
    path = landmark_slide(tmp_path / "s.tiff", 768, 768, (100, 700), 30, downsamples=(1,))
    corrupt_tile(path, 0, 4)
    paths = group(path, tmp_path / "g", 64, 16, None, tissue_method="all", patches_per_group=500)
    with open_groups(paths.groups) as groups:
        members, geometry = groups.read(0), groups.header.geometry(32)
    found, work = score_group(members, geometry, FunctionClassifier(mean_brightness, 64))
    unscored = np.isnan(found.scores).all(axis=(1, 2))
    assert (unscored == ~members.readable).all()
    assert 0 < unscored.sum() < len(unscored)
    assert work.windows == geometry.count_windows(members.cells[members.readable])


@pytest.mark.parametrize(
    "broken", [lambda w: np.full(len(w), np.nan), lambda w: np.zeros((len(w), 2)), lambda w: [0.5]]
)
def test_a_model_that_gives_nonsense_is_refused(groups_file, broken):
    with open_groups(groups_file.groups) as groups:
        members, geometry = groups.read(0), groups.header.geometry(64)
    with pytest.raises(ModelOutputError):
        score_group(members, geometry, FunctionClassifier(broken, 64))


def test_the_work_can_be_stopped(groups_file):
    calls = []

    def go_on():
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    with open_groups(groups_file.groups) as groups:
        members, geometry = groups.read(0), groups.header.geometry(16)
    with pytest.raises(KeyboardInterrupt):
        score_group(members, geometry, FunctionClassifier(mean_brightness, 64), 8, go_on)
