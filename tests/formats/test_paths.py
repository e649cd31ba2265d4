"""Every path of a run directory is told apart from every other."""

from __future__ import annotations

from pathlib import Path

from hpc_heatmap.formats.paths import RunPaths, SlidePaths


def properties(kind: type) -> list[str]:
    return [name for name, value in vars(kind).items() if isinstance(value, property)]


def test_no_two_paths_are_the_same_and_all_are_inside() -> None:
    root = Path("RUN")
    run = RunPaths(root)
    slides = [run.slide("a"), run.slide("b")]
    found = [getattr(run, name) for name in properties(RunPaths)]
    for slide in slides:
        found += [getattr(slide, name) for name in properties(SlidePaths)]
        found += [slide.root, *(slide.group_scores(g) for g in (0, 1, 999_999, 1_000_000))]
    found += [run.task("t"), run.slide_tasks("t"), run.failure("t")]
    assert len({*found}) == len(found) > 31
    assert all(path.is_relative_to(root) and path != root for path in found)


def test_score_files_sort_as_their_groups() -> None:
    slide = RunPaths(Path("RUN")).slide("a")
    names = [slide.group_scores(g).name for g in (0, 9, 10, 123_456)]
    assert names == ["000000.h5", "000009.h5", "000010.h5", "123456.h5"] == sorted(names)
    assert slide.group_scores(3).parent == slide.scores


def test_a_slide_with_dots_and_spaces_keeps_its_name() -> None:
    assert RunPaths(Path("RUN")).slide("a b.c").root.name == "a b.c"
