"""Records and failures on disk."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hpc_heatmap.errors import FormatError
from hpc_heatmap.formats.paths import RunPaths
from hpc_heatmap.formats.task_files import (
    Failure,
    TaskRecord,
    pack_records,
    read_failures,
    read_records,
    write_failure,
    write_record,
)

RECORD = TaskRecord("scoring", "a", [0, 1], "7", "node", 8, 100.0, 2.0, 1.5, 1.0, 2**20, 99, 5)
FAILURE = Failure("scoring", "a", 3, "Why.", "TileError", "group", "log")


@pytest.fixture
def paths(tmp_path: Path) -> RunPaths:
    return RunPaths(tmp_path)


def test_nothing_is_read_where_nothing_was_written(paths: RunPaths) -> None:
    assert read_records(paths) == [] and read_failures(paths) == []


def test_records_come_in_the_order_of_their_start(paths: RunPaths) -> None:
    late, early = replace(RECORD, started_at=300.0), replace(RECORD, started_at=200.0)
    for name, record in (("a", late), ("b", RECORD), ("c", early)):
        write_record(paths, name, record)
    assert read_records(paths) == [RECORD, early, late]


def test_records_of_slides_that_are_done_are_one_file(paths: RunPaths) -> None:
    written = []
    for k, slide in enumerate(["a", "a-scoring", "b", "a"]):
        record = replace(RECORD, slide=slide, started_at=100.0 + k)
        write_record(paths, f"{slide}-scoring-{k:08x}", record)
        written.append(record)
    pack_records(paths, {"a", "a-scoring"}.__contains__)
    names = sorted(p.name for p in paths.tasks.iterdir())
    assert names == ["a-scoring.jsonl", "a.jsonl", "b-scoring-00000002.json"]
    assert read_records(paths) == written
    # More of a slide that was done before, and a crash before the single records were deleted.
    later = replace(RECORD, slide="a", started_at=900.0)
    write_record(paths, "a-stitching-0000000f", later)
    write_record(paths, "a-scoring-00000000", written[0])
    assert read_records(paths) == [*written, later]
    pack_records(paths, lambda slide_id: True)
    assert len(list(paths.tasks.iterdir())) == 3
    assert read_records(paths) == [*written, later]


def test_a_damaged_file_of_records_is_named(paths: RunPaths) -> None:
    paths.tasks.mkdir()
    paths.slide_tasks("a").write_text("{nothing\n")
    with pytest.raises(FormatError, match=r"a\.jsonl is damaged"):
        read_records(paths)


def test_failures_of_other_work_stand_side_by_side(paths: RunPaths) -> None:
    others = [
        FAILURE,
        replace(FAILURE, group=4),
        replace(FAILURE, group=None),
        replace(FAILURE, stage="stitching", group=None),
        replace(FAILURE, slide="b"),
    ]
    for failure in others:
        write_failure(paths, failure)
    assert len({failure.name for failure in others}) == 5
    assert sorted(read_failures(paths), key=str) == sorted(others, key=str)
    write_failure(paths, replace(FAILURE, reason="Another."))
    assert len(read_failures(paths)) == 5


def test_files_of_a_newer_program_are_read(paths: RunPaths) -> None:
    write_failure(paths, FAILURE)
    file = paths.failure(FAILURE.name)
    file.write_text(json.dumps(json.loads(file.read_text()) | {"colour": "red"}))
    assert read_failures(paths) == [FAILURE]


@pytest.mark.parametrize("text", ["{", "[]", "{}", "3", '{"stage": "scoring"}'])
def test_a_damaged_file_is_named(paths: RunPaths, text: str) -> None:
    paths.failures.mkdir()
    paths.failure("x").write_text(text)
    with pytest.raises(FormatError, match=r"x\.json"):
        read_failures(paths)


def test_drafts_are_not_read(paths: RunPaths) -> None:
    paths.failures.mkdir()
    (paths.failures / ".x-1234.json.partial").write_text("{")
    assert read_failures(paths) == []
