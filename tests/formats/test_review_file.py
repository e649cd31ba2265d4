"""Reviews: kept through crashes and two writers, exported, and never in the machine's files."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import shapely
from runs.support import finish, function_run, make_slide

from hpc_heatmap import Run
from hpc_heatmap.errors import FormatError, RequestError
from hpc_heatmap.evaluation.outlines import read_outlines
from hpc_heatmap.formats.review_file import ReviewJournal, Verdict
from hpc_heatmap.runs.export import ExportFormat, export_run

SQUARE = [[(10, 10), (60, 10), (60, 40), (10, 40)]]
WITH_HOLE = [[(0, 0), (100, 0), (100, 100), (0, 100)], [(20, 20), (40, 20), (40, 40), (20, 40)]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "reviews" / "a"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("reviews")
    made = function_run([make_slide(folder / "a.tif")], folder / "RUN")
    finish(made)
    return made


def test_the_last_word_counts_and_what_is_not_said_stays(folder: Path) -> None:
    journal = ReviewJournal(folder, "anna")
    journal.mark(3, Verdict.UNSURE, "blurred", (10.0, 20.0))
    journal.mark(3, Verdict.REJECTED)
    journal.comment(4, "look again")
    read = ReviewJournal(folder).read()
    assert (read["3"].verdict, read["3"].comment) == (Verdict.REJECTED, "blurred")
    assert (read["3"].who, read["3"].place_px) == ("anna", (10.0, 20.0))
    assert read["3"].at > 1.6e9
    assert (read["4"].verdict, read["4"].comment) == (Verdict.UNREVIEWED, "look again")
    assert len(ReviewJournal(folder).history()) == 3


def test_a_line_cut_short_by_a_crash_is_left_out_and_the_rest_is_read(folder: Path) -> None:
    ReviewJournal(folder, "anna").mark(1, Verdict.CONFIRMED, "sure ☑")
    (journal,) = folder.glob("*.jsonl")
    whole = journal.read_bytes()
    for length in range(len(whole), 2 * len(whole)):
        journal.write_bytes((whole + whole.replace(b"confirmed", b"rejected "))[:length])
        assert ReviewJournal(folder).read()["1"].verdict is Verdict.CONFIRMED
    # The next writer is not hindered by it.
    ReviewJournal(folder, "ben").mark(2, Verdict.UNSURE)
    assert set(ReviewJournal(folder).read()) == {"1", "2"}


def test_damage_elsewhere_is_told_with_its_line(folder: Path) -> None:
    journal = ReviewJournal(folder, "anna")
    journal.mark(1, Verdict.CONFIRMED)
    journal.mark(2, Verdict.CONFIRMED)
    (path,) = folder.glob("*.jsonl")
    for bad in (b"{", b'{"version": 1, "at": 1, "who": "x"}', b'{"version": 9, "lesion": "1"}'):
        path.write_bytes(bad + b"\n" + path.read_bytes().split(b"\n", 1)[1])
        with pytest.raises(FormatError, match=r"line 1|version 9"):
            ReviewJournal(folder).read()


WRITER = """
import sys
from pathlib import Path
from hpc_heatmap.formats.review_file import ReviewJournal, Verdict
journal = ReviewJournal(Path(sys.argv[1]), sys.argv[2])
for number in range(int(sys.argv[3]), 200, 2):
    journal.mark(number, Verdict.CONFIRMED, "x" * 5000)
print("done", flush=True)
sys.stdin.read()
"""


def test_two_writers_at_once_lose_nothing_and_a_kill_keeps_what_was_said(folder: Path) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, folder, name, str(start)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for start, name in enumerate(("anna", "ben"))
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"done\n"
        writer.kill()
        writer.communicate()
    read = ReviewJournal(folder).read()
    assert sorted(map(int, read)) == list(range(200))
    assert {read["0"].who, read["1"].who} == {"anna", "ben"}


def test_outlines_are_added_redrawn_and_taken_back(folder: Path) -> None:
    journal = ReviewJournal(folder, "anna")
    key = journal.add([SQUARE])
    journal.redraw(7, [WITH_HOLE])
    read = journal.read()
    assert read[key].is_added and read[key].verdict is Verdict.CONFIRMED
    assert not read["7"].is_added
    np.testing.assert_array_equal(read["7"].polygons[0][1], WITH_HOLE[1])
    journal.remove(key)
    assert set(journal.read()) == {"7"}
    with pytest.raises(RequestError, match="reject it"):
        journal.remove("7")
    with pytest.raises(RequestError, match="encloses nothing"):
        journal.add([[[(0, 0), (1, 1)]]])
    with pytest.raises(RequestError, match="encloses nothing"):
        journal.add([[[(0, 0), (1, float("nan")), (3, 0)]]])


def test_lesions_as_they_stand_after_review(run: Run) -> None:
    slide = run.slides["a"]
    machine = slide.files.lesions_geojson.read_bytes(), slide.files.lesions_csv.read_bytes()
    (first, *_) = slide.lesions()
    place = (first.lesion.x_px, first.lesion.y_px)
    journal = slide.reviews("anna")
    journal.mark(1, Verdict.CONFIRMED, "large", place)
    journal.redraw(1, [WITH_HOLE], place)
    key = journal.add([SQUARE])
    lesions = {entry.key: entry for entry in slide.lesions()}
    assert lesions["1"].outline == "redrawn"
    assert lesions["1"].lesion.area_px == 100 * 100 - 20 * 20
    assert lesions["1"].lesion.score == first.lesion.score
    assert lesions[key].outline == "drawn"
    assert (lesions[key].lesion.x_px, lesions[key].lesion.y_px) == (35, 25)
    assert np.isnan(lesions[key].lesion.score)
    # A review of a lesion that now lies elsewhere is not applied.
    journal.mark(1, Verdict.REJECTED, place_px=(place[0] + 50, place[1]))
    assert slide.lesions()[0].review.verdict is Verdict.UNREVIEWED
    journal.mark(1, Verdict.CONFIRMED, place_px=place)
    numbers, reviewed = slide.lesion_numbers()
    assert [entry.key for entry in reviewed] == ["1", key]
    assert reviewed[0].review.verdict is Verdict.CONFIRMED
    assert numbers["number"].tolist() == [e.lesion.number for e in slide.lesions() if e.key != key]
    assert (numbers["x_px"][0], numbers["y_px"][0]) == pytest.approx(place)
    after = slide.files.lesions_geojson.read_bytes(), slide.files.lesions_csv.read_bytes()
    assert machine == after


def test_reviews_are_exported_and_read_back(run: Run, tmp_path: Path) -> None:
    slide = run.slides["a"]
    journal = slide.reviews("anna")
    journal.mark(1, Verdict.CONFIRMED, "comma, and ünïcode")
    journal.redraw(1, [WITH_HOLE])
    unsure = journal.add([SQUARE], Verdict.UNSURE)

    def file(kind: ExportFormat) -> Path:
        return export_run(run, kind, out=tmp_path / kind.value).files["a"]

    with file(ExportFormat.REVIEW_CSV).open(newline="") as opened:
        rows = {row["lesion"]: row for row in csv.DictReader(opened)}
    assert rows["1"]["comment"] == "comma, and ünïcode"
    assert (rows["1"]["verdict"], rows["1"]["who"]) == ("confirmed", "anna")
    assert rows["1"]["when"].endswith("+00:00")
    assert rows["1"]["area_um2"] == f"{9600 * 0.25:.1f}"
    assert (rows[unsure]["score"], rows[unsure]["outline"]) == ("", "drawn")

    document = json.loads(file(ExportFormat.REVIEW_GEOJSON).read_text())
    features = {feature["id"]: feature for feature in document["features"]}
    assert features["1"]["properties"]["classification"]["name"] == "Tumor"
    assert features["1"]["properties"]["metadata"]["who"] == "anna"
    assert shapely.geometry.shape(features["1"]["geometry"]).area == 9600
    assert features[unsure]["properties"]["classification"]["name"] == "Unsure"
    assert "score" not in features[unsure]["properties"]["measurements"]

    # What is confirmed is the truth that the evaluation reads, from both formats.
    for kind in (ExportFormat.REVIEW_GEOJSON, ExportFormat.REVIEW_XML):
        confirmed = read_outlines(file(kind))
        assert [outline.is_hole for outline in confirmed if outline.name == "lesion 1"] == [
            False,
            True,
        ]
        assert not any(unsure in outline.name for outline in confirmed)
