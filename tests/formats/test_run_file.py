"""The request on disk, and what makes two requests different."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hpc_heatmap.errors import FormatError, RunConflictError
from hpc_heatmap.formats.paths import FORMAT_VERSION
from hpc_heatmap.formats.run_file import (
    ModelEntry,
    RunFile,
    SlideEntry,
    read_run_file,
    write_run_file,
)
from hpc_heatmap.settings import RunSettings


def request(**changes: Any) -> RunFile:
    values: dict[str, Any] = {
        "settings": RunSettings(stride=16, threshold=0.8),
        "stride_px": 16,
        "model": ModelEntry(file="model.onnx", sha256="abc", lesion_class="t", window_px=224),
        "slides": (
            SlideEntry(id="a", path="/s/a.svs", quickhash="1", spacing_um=(0.25, 0.26)),
            SlideEntry(id="b", path="/s/b.svs", problem="There is none."),
        ),
        "provenance": {"host": "here"},
        "windows_per_s": 12.5,
    }
    return RunFile(**(values | changes))


def test_a_request_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    write_run_file(path, request())
    assert read_run_file(path) == request()
    assert read_run_file(path).differences(request()) == []


def test_where_and_when_it_was_planned_makes_no_difference() -> None:
    other = request(provenance={"host": "there"}, windows_per_s=None)
    assert request().differences(other) == []


def test_a_default_stride_is_the_stride_that_it_stands_for() -> None:
    default = request(settings=RunSettings(threshold=0.8))
    assert request().differences(default) == default.differences(request()) == []


SLIDE_A, SLIDE_B = request().slides


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stride_px": 32}, "stride is 16, asked 32"),
        ({"settings": RunSettings(stride=16)}, "threshold is 0.8, asked 0.9"),
        ({"model": ModelEntry(sha256="abd", lesion_class="t", window_px=224)}, "sha256 is abc"),
        ({"model": ModelEntry(sha256="abc", lesion_class="n", window_px=224)}, "lesion class"),
        ({"slides": (SLIDE_A,)}, "it has the slide /s/b.svs, which is not asked"),
        ({"slides": (SLIDE_A, SLIDE_B, SlideEntry(id="c", path="/s/c.svs"))}, "lacks the slide"),
        (
            {"slides": (SLIDE_A.model_copy(update={"quickhash": "2"}), SLIDE_B)},
            "/s/a.svs is another file now",
        ),
    ],
)
def test_what_changes_a_score_is_a_difference(changes: dict[str, Any], words: str) -> None:
    (difference,) = request().differences(request(**changes))
    assert words in difference


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "no run directory"),
        ("[]", "not the file of a run"),
        ('{"format": "other"}', "not the file of a run"),
    ],
)
def test_other_directories_hold_no_run(tmp_path: Path, text: str | None, words: str) -> None:
    path = tmp_path / "run.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(RunConflictError, match=words):
        read_run_file(path)


def test_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    write_run_file(path, request(format_version=FORMAT_VERSION + 1))
    with pytest.raises(RunConflictError, match="install a newer"):
        read_run_file(path)


def test_a_damaged_file_says_where(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    write_run_file(path, request())
    values = json.loads(path.read_text())
    values["stride_px"] = "wide"
    path.write_text(json.dumps(values))
    with pytest.raises(FormatError, match="stride_px"):
        read_run_file(path)
    path.write_text("{")
    with pytest.raises(FormatError, match=r"run\.json"):
        read_run_file(path)
