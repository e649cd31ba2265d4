"""Scores of a slide in one file are those of its groups' files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hpc_heatmap.errors import FormatError
from hpc_heatmap.formats.paths import SlidePaths
from hpc_heatmap.formats.score_file import (
    GroupScores,
    has_scores,
    open_scores,
    pack_scores,
    read_scores,
    remove_packed,
    write_scores,
)


def written(files: SlidePaths, *, adaptive: bool) -> list[GroupScores]:
    """Score files of groups of 1 to 5 cells."""
    rng = np.random.default_rng(1)
    each = []
    for group, n in enumerate((3, 1, 5, 2)):
        values = rng.uniform(0, 1, (n, 2, 3)).astype(np.float32)
        values[0, 0, 0] = np.nan
        scores = GroupScores(
            rng.integers(0, 99, (n, 2)).astype(np.int32), values, rng.random(n) < 0.5,
            raw_patches=group, refined=rng.random(n) < 0.5 if adaptive else None,
        )  # fmt: skip
        write_scores(files.group_scores(group), scores)
        each.append(scores)
    return each


@pytest.mark.parametrize("adaptive", [False, True])
def test_one_file_holds_what_the_files_of_groups_held(tmp_path: Path, adaptive: bool) -> None:
    files = SlidePaths(tmp_path)
    each = written(files, adaptive=adaptive)
    sizes = sum(files.group_scores(group).stat().st_size for group in range(4))
    assert pack_scores(files, 4, 11) == sizes
    remove_packed(files)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["scores.h5"]
    with open_scores(files.slide_scores) as scores:
        assert scores.raw_patches.tolist() == [0, 1, 2, 3]
        np.testing.assert_array_equal(scores.cells, np.concatenate([g.cells for g in each]))
        np.testing.assert_array_equal(scores.scores, np.concatenate([g.scores for g in each]))
        if adaptive:
            np.testing.assert_array_equal(scores.refined, np.concatenate([g.refined for g in each]))
        else:
            assert scores.refined is None
        for group, expected in enumerate(each):
            found = scores.group(group)
            assert found.raw_patches == expected.raw_patches
            for name in ("cells", "scores", "readable", "refined"):
                np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert all(has_scores(files, group) for group in range(4))
    # Once more: nothing is left to be done.
    assert pack_scores(files, 4, 11) == 0


@pytest.mark.parametrize("n_cells", [10, 12])
def test_groups_of_other_cells_than_the_slides_are_refused(tmp_path: Path, n_cells: int) -> None:
    files = SlidePaths(tmp_path)
    written(files, adaptive=False)
    with pytest.raises(FormatError, match=f"the slide's {n_cells}"):
        pack_scores(files, 4, n_cells)
    assert not files.slide_scores.exists()


def test_nothing_is_deleted_before_all_is_in_one_file(tmp_path: Path) -> None:
    files = SlidePaths(tmp_path)
    each = written(files, adaptive=False)
    files.group_scores(2).unlink()
    with pytest.raises(FormatError, match="000002"):
        pack_scores(files, 4, 11)
    assert not files.slide_scores.exists() and not has_scores(files, 2)
    remove_packed(files)
    kept = read_scores(files.group_scores(3))
    np.testing.assert_array_equal(kept.scores, each[3].scores)
