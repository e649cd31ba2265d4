"""Run-time report: known answers, what must hold for any records, and pages of real runs."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slides import write_slide

import hpc_heatmap
from hpc_heatmap.cli.app import main
from hpc_heatmap.errors import FormatError, SettingsError
from hpc_heatmap.formats.paths import RunPaths
from hpc_heatmap.formats.run_file import ModelEntry, RunFile, SlideEntry, write_run_file
from hpc_heatmap.formats.slide_summary import SlideSummary, write_summary
from hpc_heatmap.formats.task_files import (
    Failure,
    TaskRecord,
    read_records,
    write_failure,
)
from hpc_heatmap.runs.report import html_page, markdown_page, parse_subsets, report_run
from hpc_heatmap.runs.report.pages import timeline_png
from hpc_heatmap.runs.report.rows import CombinedRow, DataRow, StageRow, columns
from hpc_heatmap.runs.report.timing import Span, cores_of, pack_lanes, pauses, peak_cores
from hpc_heatmap.runs.status import State
from hpc_heatmap.settings import RunSettings

DOCUMENT = Path(__file__).parents[2] / "docs" / "report.md"
#: Start of hand-made runs, seconds since 1970.
T0 = 1_700_000_000.0


def record(stage: str, slide: str, start_s: float, wall_s: float, **changes: object) -> TaskRecord:
    """A task that starts `start_s` after the run and uses nine tenths of its core."""
    made = TaskRecord(
        stage=stage,
        slide=slide,
        groups=[],
        job="7",
        host="node1",
        pid=1,
        started_at=T0 + start_s,
        wall_s=wall_s,
        cpu_s=0.9 * wall_s,
        model_s=0.0,
        peak_memory_bytes=100,
        bytes_read=10,
        windows=0,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def make_run(
    root: Path,
    records: Sequence[TaskRecord],
    slides: Sequence[str] = ("a",),
    *,
    summary: SlideSummary | None = SlideSummary(2, 20, 200),  # noqa: B008 - frozen
    done: bool = True,
) -> Path:
    """Write a run directory by hand, with slides of 1000 bytes and groups of 3000."""
    paths = RunPaths(root)
    write_run_file(
        paths.run_file,
        RunFile(
            settings=RunSettings(),
            stride_px=8,
            model=ModelEntry(file="model.pt", sha256="abc123", name="m", window_px=32),
            slides=tuple(SlideEntry(id=s, path=f"/data/{s}", bytes=1000) for s in slides),
            provenance={"host": "submit-node", "packages": {"numpy": "2.0"}},
        ),
    )
    for slide in slides:
        files = paths.slide(slide)
        if summary:
            write_summary(files.summary, summary)
            files.groups.write_bytes(bytes(3000))
            for file in (files.grid_picture, files.lookup):
                file.write_bytes(b"")
        if done and summary:
            files.scores.mkdir()
            scores = [files.group_scores(k) for k in range(summary.n_groups)]
            pictures = (files.overview, files.lesions_csv, files.lesions_geojson)
            for file in (*scores, files.heatmap, *pictures):
                file.write_bytes(b"")
    paths.tasks.mkdir()
    for number, one in enumerate(records):
        # As write_record does, but for the wait until the disk has it.
        paths.task(f"{number:04d}").write_text(json.dumps(asdict(one)))
    return root


CHAIN = (
    record("grouping", "a", 0, 100, bytes_read=3000),
    record("scoring", "a", 100, 100, windows=100, model_s=80.0, submitted_at=T0 + 100),
    record("scoring", "a", 110, 100, windows=100, model_s=80.0, submitted_at=T0 + 100),
    record("stitching", "a", 250, 50, submitted_at=T0 + 246),
)


def test_known_answers(tmp_path: Path) -> None:
    report = report_run(make_run(tmp_path / "RUN", CHAIN))
    (data,) = report.data
    assert (data.slides, data.slides_done, data.slide_bytes) == (1, 1, 1000)
    assert (data.patches, data.groups, data.patches_per_group) == (20, 2, 10)
    assert (data.group_bytes, data.group_bytes_ratio, data.windows) == (3000, 3, 200)

    grouping, scoring, stitching = report.stages
    assert (grouping.stage, scoring.stage, stitching.stage) == ("grouping", "scoring", "stitching")
    assert scoring.tasks == 2
    assert scoring.cores == 2
    assert scoring.serial_wall_h == pytest.approx(200 / 3600)
    assert scoring.serial_cpu_h == pytest.approx(180 / 3600)
    assert scoring.parallel_h == pytest.approx(110 / 3600)
    assert scoring.active_h == pytest.approx(110 / 3600)
    assert scoring.speed_up == pytest.approx(180 / 110)
    assert scoring.efficiency == pytest.approx(180 / 110 / 2)
    assert scoring.speed_up_wall == pytest.approx(200 / 110)
    assert scoring.windows == 200
    assert grouping.bytes == 3000
    assert grouping.efficiency == pytest.approx(0.9)

    (whole,) = report.combined
    assert whole.tasks == 4
    assert whole.parallel_h == pytest.approx(300 / 3600)
    assert whole.serial_cpu_h == pytest.approx(sum(row.serial_cpu_h for row in report.stages))
    assert whole.speed_up == pytest.approx(0.9 * 350 / 300)
    assert whole.idle_share == pytest.approx(1 - 350 / 600)
    assert whole.queue_wait_h == pytest.approx((0 + 10 + 4) / 3600)
    assert whole.queue_wait_median_s == pytest.approx(4)
    assert whole.model_share == pytest.approx(0.8)
    assert whole.engine_overhead_h == pytest.approx(40 / 3600)
    assert (whole.again_h, whole.pause_h) == (0, 0)
    assert report.notes == (
        "1 of 4 records do not say when they were submitted; they are in no queue wait.",
    )


def test_a_resumed_run_keeps_its_pause_apart(tmp_path: Path) -> None:
    late = [replace(r, started_at=r.started_at + 5000) for r in CHAIN[1:]]
    late = [replace(r, submitted_at=(r.submitted_at or 0) + 5000) for r in late]
    report = report_run(make_run(tmp_path / "RUN", [CHAIN[0], *late]))
    assert report.pauses == (Span(T0 + 100, T0 + 5100),)
    (whole,) = report.combined
    assert whole.pause_h == pytest.approx(5000 / 3600)
    assert whole.parallel_h == pytest.approx(300 / 3600)
    assert whole.speed_up == pytest.approx(0.9 * 350 / 300)
    assert "stood still once, for 1.39 h" in " ".join(report.notes)


@pytest.mark.parametrize(
    ("submitted_s", "expected_s"),
    [
        (50.0, None),  # it waited in the queue all along
        (400.0, 300.0),  # the queue took the rest
        (500.0, 400.0),
        (None, 400.0),  # unknown
        (150.0, None),  # shorter than a minute
    ],
)
def test_waiting_in_a_queue_is_no_pause(submitted_s: float | None, expected_s: float) -> None:
    at = None if submitted_s is None else T0 + submitted_s
    found = pauses(
        [record("grouping", "a", 0, 100), record("scoring", "a", 500, 10, submitted_at=at)]
    )
    assert [p.length_s for p in found] == ([] if expected_s is None else [expected_s])


def test_work_done_again_is_in_no_speed_up(tmp_path: Path) -> None:
    """The heatmap and half of the scores were deleted and made again."""
    again = (
        record("scoring", "a", 310, 90, windows=100, model_s=80.0),
        record("stitching", "a", 400, 50),
    )
    report = report_run(make_run(tmp_path / "RUN", [*CHAIN, *again]))
    _, scoring, stitching = report.stages
    # 300 windows are recorded and 200 are there.
    assert scoring.serial_wall_h == pytest.approx(290 * 2 / 3 / 3600)
    assert scoring.tasks == 3
    assert stitching.serial_wall_h == pytest.approx(50 / 3600)
    (whole,) = report.combined
    assert whole.again_h == pytest.approx((290 / 3 + 50) / 3600)
    assert whole.idle_share == pytest.approx(1 - 490 / 900)
    assert any(note.startswith("100 windows were scored twice") for note in report.notes)


def test_lost_results_and_failed_tasks_are_no_serial_time(tmp_path: Path) -> None:
    records = [*CHAIN, record("scoring", "a", 400, 7)]
    root = make_run(tmp_path / "RUN", records, done=False)
    report = report_run(root)
    # No scores and no heatmap are there; grouping is.
    assert report.combined[-1].serial_wall_h == pytest.approx(100 / 3600)
    assert report.combined[-1].again_h == pytest.approx(257 / 3600)
    assert report.notes[0] == "The run is not finished: the tables cover what is done so far."


def test_scores_deleted_after_stitching_are_not_lost(tmp_path: Path) -> None:
    root = make_run(tmp_path / "RUN", CHAIN)
    before = report_run(root)
    shutil.rmtree(RunPaths(root).slide("a").scores)
    after = report_run(root)
    assert after.combined == before.combined
    assert after.data == before.data


def test_scores_without_a_record_are_named(tmp_path: Path) -> None:
    report = report_run(make_run(tmp_path / "RUN", CHAIN[1:2]))
    assert any(note.startswith("100 windows have scores but no record") for note in report.notes)
    assert "2 results of grouping or stitching have no record." in report.notes


def test_subsets_have_rows_of_their_own(tmp_path: Path) -> None:
    slides = ("tumor_1.tif", "tumor_2.tif", "normal_1.tif", "odd")
    records = [record("grouping", s, 10 * k, 10) for k, s in enumerate(slides)]
    root = make_run(tmp_path / "RUN", records, slides)
    report = report_run(root, {"tumor": ["tumor_*"], "normal": ["normal_*"]})
    assert [row.subset for row in report.data] == ["tumor", "normal", "other", "all"]
    assert [row.slides for row in report.data] == [2, 1, 1, 4]
    assert [row.tasks for row in report.combined] == [2, 1, 1, 4]
    assert len(report.stages) == 12
    assert [row.idle_share is None for row in report.combined] == [True, True, True, False]
    assert "Table II: run time of each stage, tumor" in markdown_page(report)
    with pytest.raises(SettingsError, match="matches none of tumor_1"):
        report_run(root, {"nothing": ["x*"]})
    with pytest.raises(SettingsError, match="cannot be named all"):
        report_run(root, {"all": ["*"]})


def test_a_run_without_records_has_empty_tables(tmp_path: Path) -> None:
    report = report_run(make_run(tmp_path / "RUN", [], summary=None, done=False))
    (whole,) = report.combined
    assert (whole.tasks, whole.cores, whole.speed_up) == (0, 0, None)
    assert report.notes == ("No task has a record yet.",)
    assert timeline_png(report) is None
    assert "<svg" not in html_page(report)
    json.dumps(report.as_dict(), allow_nan=False)


def test_a_task_of_several_cores_has_several_lanes() -> None:
    wide = record("scoring", "a", 0, 10, threads=3)
    narrow = record("scoring", "a", 5, 10)
    greedy = record("scoring", "a", 20, 10, cpu_s=19.0)
    assert [cores_of(r) for r in (wide, narrow, greedy)] == [3, 1, 2]
    assert peak_cores([wide, narrow, greedy]) == 4
    lanes = [(bar.lane, bar.record.started_at - T0) for bar in pack_lanes([wide, narrow, greedy])]
    assert lanes == [(0, 0), (1, 0), (2, 0), (3, 5), (0, 20), (1, 20)]


def test_lanes_are_counted_over_hosts() -> None:
    records = [record("scoring", "a", k, 10, host=h) for k, h in enumerate("bab")]
    bars = pack_lanes(records)
    assert [(bar.host, bar.slot, bar.lane) for bar in bars] == [
        ("b", 0, 1),
        ("a", 0, 0),
        ("b", 1, 2),
    ]


def test_records_of_older_versions_still_read(tmp_path: Path) -> None:
    paths = RunPaths(make_run(tmp_path / "RUN", []))
    values = asdict(CHAIN[0])
    for name in ("submitted_at", "threads", "cluster"):
        del values[name]
    paths.task("old").write_text(json.dumps(values))
    (read,) = read_records(paths)
    assert (read.submitted_at, read.threads, read.cluster) == (None, 1, "local")
    assert read.ended_at == T0 + 100


@pytest.mark.parametrize("wall", ["soon", None, float("nan")])
def test_a_record_without_times_is_refused(tmp_path: Path, wall: object) -> None:
    paths = RunPaths(make_run(tmp_path / "RUN", []))
    paths.task("bad").write_text(json.dumps({**asdict(CHAIN[0]), "wall_s": wall}))
    with pytest.raises(FormatError, match=r"bad\.json is damaged"):
        read_records(paths)


tasks = st.builds(
    lambda stage, start, wall, used, host, threads, waited, windows: record(
        stage, "a", start, wall, cpu_s=wall * used * threads, host=host, threads=threads,
        submitted_at=waited and T0 + start - waited, windows=windows if stage == "scoring" else 0,
        model_s=wall * used,
    ),
    st.sampled_from(["grouping", "scoring", "stitching"]),
    st.integers(0, 4000).map(lambda k: k / 4),
    st.integers(1, 400).map(lambda k: k / 4),
    st.floats(0, 1),
    st.sampled_from(["n1", "n2"]),
    st.integers(1, 3),
    st.none() | st.floats(1, 500),
    st.integers(0, 150),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(tasks, max_size=30))
def test_for_any_records(records: list[TaskRecord]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        report = report_run(make_run(Path(folder) / "RUN", records))
    for row in (*report.stages, *report.combined):
        assert min(row.serial_cpu_h, row.serial_wall_h, row.parallel_h) >= 0
        if row.tasks:
            assert row.speed_up is not None
            assert row.speed_up_wall is not None
            assert row.speed_up <= row.cores * (1 + 1e-6)
            assert row.speed_up_wall <= row.cores * (1 + 1e-6)
    whole = report.combined[-1]
    total_h = sum(r.wall_s for r in records) / 3600
    assert whole.serial_wall_h + whole.again_h == pytest.approx(total_h)
    if records:
        extent_s = max(r.ended_at for r in records) - min(r.started_at for r in records)
        assert whole.parallel_h + whole.pause_h == pytest.approx(extent_s / 3600)
        assert whole.idle_share is not None
        assert 0 <= whole.idle_share <= 1
    for pause in report.pauses:
        assert not any(r.started_at < pause.end and pause.start < r.ended_at for r in records)

    bars = pack_lanes(records)
    assert len(bars) == sum(cores_of(r) for r in records)
    for lane in {bar.lane for bar in bars}:
        mine = sorted((b.record for b in bars if b.lane == lane), key=lambda r: r.started_at)
        assert len({r.host for r in mine}) == 1
        assert all(a.ended_at <= b.started_at for a, b in pairwise(mine))
    for host in {r.host for r in records}:
        mine = [r for r in records if r.host == host]
        assert len({b.lane for b in bars if b.host == host}) == peak_cores(mine)


class _Page(HTMLParser):
    """Open elements, attributes and text of a page."""

    VOID = frozenset({"meta", "link", "img", "br", "hr", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def parse(page: str) -> _Page:
    parser = _Page()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    return parser


def assert_fetches_nothing(page: str) -> None:
    parser = parse(page)
    assert not parser.tags & {"script", "link", "img", "iframe", "object", "base", "form", "use"}
    names = {name for name, _ in parser.attributes}
    assert not names & {"src", "href", "srcset", "xlink:href", "data", "action", "background"}
    assert not any(name.startswith("on") for name in names)
    assert not re.search(r"https?:|@import|url\(", page)


def test_page_escapes_what_files_say(tmp_path: Path) -> None:
    name = "<b>.svs"
    slides = (name, "b|c `d` *e*")
    records = [replace(r, slide=name, host="<i>node</i>", job="<u>") for r in CHAIN]
    root = make_run(tmp_path / "<u>RUN", records, slides, done=False)
    write_failure(
        RunPaths(root),
        Failure("scoring", slides[1], 1, "<script>alert(1)</script> | \x01", "E", "group"),
    )
    report = report_run(root)
    page = html_page(report)
    assert_fetches_nothing(page)
    parser = parse(page)
    assert not parser.tags & {"b", "i", "u"}
    assert "<b>.svs: scoring" in parser.text
    assert "<script>alert(1)</script>" in parser.text
    markdown = markdown_page(report, "a b.png")
    assert not re.search(r"(?<!\\)<", markdown)
    assert "(a%20b.png)" in markdown
    rows = [line for line in markdown.splitlines() if "alert" in line]
    assert len(re.findall(r"(?<!\\)\|", rows[0])) == 5


def test_timeline_of_many_tasks_and_a_pause(tmp_path: Path) -> None:
    records = [
        record(
            "scoring", "a", 10 * (k // 50) + (0 if k < 250 else 9000), 9.5, windows=1, job=str(k)
        )
        for k in range(500)
    ]
    report = report_run(make_run(tmp_path / "RUN", records))
    assert report.combined[-1].cores == 50
    parser = parse(html_page(report))
    assert len(set(re.findall(r"job (\d+)", parser.text))) == 500
    assert "Paused for 2.5 h" in parser.text
    picture = timeline_png(report)
    assert picture is not None
    assert picture.startswith(b"\x89PNG")


def test_every_column_is_documented_as_it_is_defined() -> None:
    text = DOCUMENT.read_text()
    for title, kind in (("I", DataRow), ("II", StageRow), ("III", CombinedRow)):
        section = text.split(f"\n## Table {title}:")[1].split("\n## ")[0]
        found = re.findall(r"^\| `([^`]+)` \| (.+) \| (.+) \|$", section, re.MULTILINE)
        assert found == [(c.name, c.title, c.meaning) for c in columns(kind)]
    keys = re.findall(r"`(\w+)`", text.split("\n## JSON\n")[1].split("\n## ")[0])
    assert {"run", "state", "tables", "columns", "notes", "provenance"} <= set(keys)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> hpc_heatmap.Run:
    """Two slides, scored in this process."""
    folder = tmp_path_factory.mktemp("report")

    def pixels_at(x: int, y: int, w: int, h: int, downsample: int) -> np.ndarray:
        columns_, rows = np.arange(x, x + w) * downsample, np.arange(y, y + h) * downsample
        tissue = (rows[:, None] > 100) & (columns_[None] > 100)
        return np.where(tissue[..., None], (200, 90, 160), (245, 245, 245)).astype(np.uint8)

    slides = [
        write_slide(folder / f"{name}.tiff", pixels_at, 400, 300, downsamples=(1,))
        for name in ("tumor_1", "normal_1")
    ]
    model = hpc_heatmap.FunctionClassifier(lambda w: w.mean((1, 2, 3)) / 255, 32)
    chosen = RunSettings(stride=16, patches_per_group=16)
    run = hpc_heatmap.start_run(slides, model, folder / "RUN", settings=chosen)
    assert run.resume(model=model).state is State.DONE
    return run


def test_real_run(real: hpc_heatmap.Run) -> None:
    report = report_run(real)
    assert report.notes == ()
    assert report.data[-1].windows == report.stages[1].windows > 0
    assert report.data[-1].slides_done == 2
    whole = report.combined[-1]
    assert whole.cores >= 1
    assert whole.again_h == 0
    assert whole.queue_wait_h is not None
    assert whole.queue_wait_h * 3600 < 5
    assert whole.speed_up_wall is not None
    assert 0 < whole.speed_up_wall <= whole.cores
    assert all(r.submitted_at is not None and r.threads == 1 for r in report.records)


def test_a_heatmap_made_again_is_counted_once(real: hpc_heatmap.Run, tmp_path: Path) -> None:
    before = report_run(real)
    run = hpc_heatmap.open_run(shutil.copytree(real.root, tmp_path / "RUN"))
    run.slides["normal_1"].files.heatmap.unlink()
    classifier = hpc_heatmap.FunctionClassifier(lambda w: w.mean((1, 2, 3)) / 255, 32)
    assert run.resume(model=classifier).state is State.DONE
    after = report_run(run)
    assert after.stages[2].tasks == before.stages[2].tasks + 1
    assert after.combined[-1].again_h > 0
    assert after.combined[-1].serial_wall_h == pytest.approx(
        before.combined[-1].serial_wall_h, rel=0.5
    )


def test_command(real: hpc_heatmap.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, page, text = str(real.root), tmp_path / "r.html", tmp_path / "r.md"
    assert main(["report", root, "--html", str(page), "--markdown", str(text)]) == 0
    out = capsys.readouterr().out
    assert "Table I: slides and groups" in out
    assert "speed-up" in out
    assert_fetches_nothing(page.read_text())
    assert "](r-timeline.png)" in text.read_text()
    assert (tmp_path / "r-timeline.png").read_bytes().startswith(b"\x89PNG")

    assert main(["report", root, "--json", "--subset", "t=tumor_*", "--subset", "n=norm*"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert set(printed["tables"]) == {"I", "II", "III"}
    assert [row["subset"] for row in printed["tables"]["III"]] == ["t", "n", "all"]
    assert set(printed["tables"]["II"][0]) == {c.name for c in columns(StageRow)}
    assert printed["model"]["sha256"] is None
    assert parse_subsets(["a=x", "a=y", "b=z=1"]) == {"a": ["x", "y"], "b": ["z=1"]}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere"], "is no run directory"),
        (["RUN", "--subset", "tumor"], "give NAME=GLOB"),
        (["RUN", "--subset", "x=zzz*"], "has no slides"),
        (["RUN", "--html", "."], "is a folder"),
        ([], "--help"),
    ],
)
def test_wrong_requests_exit_with_2_and_one_sentence(
    arguments: list[str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "RUN", CHAIN)
    assert main(["report", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert says in captured.err
    assert len(captured.err.strip().splitlines()) == 1
