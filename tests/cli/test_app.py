"""The command: its pages, its exit codes, its JSON, and runs that go on by themselves."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import Tiny, save_onnx, write_descriptor
from slides import landmark_slide

import hpc_heatmap
from hpc_heatmap import open_run, start_run
from hpc_heatmap.cli.app import main
from hpc_heatmap.formats.paths import RunPaths
from hpc_heatmap.formats.task_files import read_records
from hpc_heatmap.settings import LaunchSettings, RunSettings

SETTINGS = {"--" + name.replace("_", "-") for name in RunSettings.model_fields}
LAUNCH = {"--" + name.replace("_", "-") for name in LaunchSettings.model_fields}
OPTIONS = {
    "run": {"--model", "--out", "--model-config", "--detach", "--quiet", *SETTINGS, *LAUNCH},
    "resume": {"--detach", "--quiet", *LAUNCH},
    "status": {"--json", "--watch"},
    "cancel": set(),
    "export": {"--format", "--out", "--slide", "--frame"},
    "demo": {"--out", "--quiet", *LAUNCH},
    "doctor": {"--json"},
    "plan": {"--model", "--sizes", "--cores", "--out", "--json", *SETTINGS, *LAUNCH},
    "tune": {"--sizes", "--picture", "--group-memory", "--json"},
}


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("slide") / "slide.tif"
    return landmark_slide(
        path, 420, 360, (180, 150), 50, downsamples=(1, 4), glass_px=(64, 64, 64, 64)
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_descriptor(folder / "model.json")
    return save_onnx(folder / "model.onnx", Tiny())


def run_main(capfd: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, str, str]:
    capfd.readouterr()
    code = main([str(a) for a in arguments])
    out, err = capfd.readouterr()
    return code, out, err


def words_of(page: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", page))


# Pages


def test_the_commands_are_listed(capfd: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["--help"], ["-h"]):
        code, out, err = run_main(capfd, *arguments)
        assert (code, err) == (0, "")
        assert set(OPTIONS) <= set(re.findall(r"^\W*([a-z]+) ", out, re.MULTILINE))
    assert run_main(capfd, "--version") == (0, f"{hpc_heatmap.__version__}\n", "")


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_is_on_its_page(capfd: pytest.CaptureFixture[str], name: str) -> None:
    code, out, err = run_main(capfd, name, "--help")
    assert (code, err) == (0, "")
    missing = OPTIONS[name] - words_of(out)
    assert not missing
    assert f"hpc-heatmap {name}" in out


# Wrong requests


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rum"], "rum"),
        (["run", "--speed", "9"], "--speed"),
        (["run", "s.tif", "--model", "m.pt"], "--out"),
        (["run", "s.tif", "--out", "r"], "--model"),
        (["run", "--model", "m.pt", "--out", "r"], "No slide was given"),
        (["run", "s.tif", "--model", "m.pt", "--out", "r", "--stride", "0"], "--stride 0"),
        (["run", "s.tif", "--model", "m.pt", "--out", "r", "--stride", "x"], "--stride x"),
        (["run", "s.tif", "--model", "m.pt", "--out", "r", "--stride"], "--stride"),
        (["run", "s.tif", "--model", "m.pt", "--out", "r", "--threshold", "1"], "--threshold 1"),
        (["run", "s.tif", "--model", "m.pt", "--out", "r", "--spacing", "inf"], "--spacing inf"),
        (["run", "s.tif", "--model", "m.pt", "--out", "r", "--workers", "0"], "--workers 0"),
        (["run", "s.tif", "--model", "m.pt", "--out", "r", "--cluster", "moon"], "moon"),
        (["status"], "DIRECTORY"),
        (["status", "nowhere"], "is no run directory"),
        (["status", "nowhere", "--json"], "is no run directory"),
        (["status", "nowhere", "--watch"], "is no run directory"),
        (["resume", "nowhere"], "is no run directory"),
        (["resume", "nowhere", "--detach"], "is no run directory"),
        (["cancel", "nowhere"], "is no run directory"),
        (["cancel", "a", "b"], "b"),
        (["resume", "nowhere", "--stride", "4"], "--stride"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_wrong_request_is_one_sentence(
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run_main(capfd, *arguments)
    assert (code, out) == (2, ""), err
    (line,) = err.splitlines()
    assert line.startswith("hpc-heatmap: ") and words in line
    assert "Traceback" not in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--stride", "33"], "A stride of 33 px is larger than the model's window of 32 px"),
        (["--group-memory", "0.001"], "holds no patch: one takes 0.01 MiB"),
        (["--tissue-method", "eye"], "no tissue method 'eye': choose one of"),
        (["--model-config", "none.json"], "There is no model descriptor"),
    ],
)
def test_a_setting_that_does_not_fit_the_model(
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    slide: Path,
    model: Path,
    options: list[str],
    words: str,
) -> None:
    out = tmp_path / "run"
    code, printed, err = run_main(capfd, "run", slide, "--model", model, "--out", out, *options)
    assert (code, printed) == (2, "")
    (line,) = err.splitlines()
    assert words in line
    assert not out.exists()


def test_the_command_itself_gives_the_exit_code(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hpc_heatmap", "status", str(tmp_path / "none")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == f"hpc-heatmap: {tmp_path}/none is no run directory: it has no run.json.\n"


# A whole run


def status_of(capfd: pytest.CaptureFixture[str], out: Path) -> dict[str, Any]:
    code, printed, err = run_main(capfd, "status", out, "--json")
    assert (code, err) == (0, "")
    values: dict[str, Any] = json.loads(printed)
    return values


def test_status_of_a_run_that_is_planned(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, slide: Path, model: Path
) -> None:
    (tmp_path / "bad.svs").write_text("no slide")
    start_run([slide, tmp_path / "bad.svs"], model, tmp_path / "run")
    values = status_of(capfd, tmp_path / "run")
    assert values["state"] == "failed"
    good, bad = values["slides"]["slide"], values["slides"]["bad"]
    assert (good["state"], good["groups"], good["groups_done"], good["failures"]) == (
        "planned", 0, 0, []
    )  # fmt: skip
    assert bad["state"] == "failed"
    (failure,) = bad["failures"]
    assert "is not a slide" in failure["reason"]
    code, printed, err = run_main(capfd, "status", tmp_path / "run")
    assert (code, err) == (0, "")
    assert "bad: " in printed and "Go on with: hpc-heatmap resume" in printed
    # Nothing works on it, so there is nothing to watch.
    assert run_main(capfd, "status", tmp_path / "run", "--watch")[0] == 0


@pytest.mark.slow
def test_a_run_from_the_command_line(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, slide: Path, model: Path
) -> None:
    out = tmp_path / "run"
    options = ("--model", model, "--out", out, "--stride", 8, "--patches-per-group", 16, "--quiet")
    code, printed, err = run_main(capfd, "run", slide, *options)
    assert (code, err) == (0, "")
    assert printed.startswith("slide: ") and f"{out}/slides/slide/overview.png" in printed
    values = status_of(capfd, out)
    assert values["state"] == "done"
    found = values["slides"]["slide"]
    assert found["state"] == "done" and found["failures"] == []
    assert found["groups"] == found["groups_done"] == -(-found["patches"] // 16) > 1
    with open_run(out).slides["slide"].heatmap as heatmap:
        assert np.isfinite(np.asarray(heatmap.scores)).sum() == found["windows"]
    # The same request again, and resuming what is done, compute nothing.
    stamp = open_run(out).slides["slide"].files.heatmap.stat().st_mtime_ns
    for again in (("run", slide, *options), ("resume", out, "--quiet")):
        code, printed, err = run_main(capfd, *again)
        assert (code, err) == (0, "")
    assert open_run(out).slides["slide"].files.heatmap.stat().st_mtime_ns == stamp


def wait_until_it_stops(out: Path, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while open_run(out).status().master is not None or not open_run(out).status().n_done:
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.slow
def test_a_detached_run_goes_on_by_itself(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, slide: Path, model: Path
) -> None:
    out = tmp_path / "run"
    options = ("--model", model, "--out", out, "--stride", 32, "--detach", "--quiet")
    code, printed, err = run_main(capfd, "run", slide, *options, "--workers", 1)
    assert (code, err) == (0, "")
    assert "goes on by itself" in printed and f"hpc-heatmap status {out} --watch" in printed
    assert status_of(capfd, out)["state"] != "done"
    deadline = time.monotonic() + 30
    while open_run(out).status().master is None:
        assert time.monotonic() < deadline, (out / "master.log").read_text()
        time.sleep(0.05)
    code, printed, _ = run_main(capfd, "status", out, "--watch")
    assert code == 0 and f"{out}: done" in printed
    wait_until_it_stops(out)
    assert status_of(capfd, out)["state"] == "done"
    log = (out / "master.log").read_text()
    assert "windows scored" in log and "Traceback" not in log


@pytest.mark.slow
def test_a_cancelled_run_is_resumed(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, model: Path
) -> None:
    # Large enough to be caught at work.
    slides = [
        landmark_slide(
            tmp_path / f"{name}.tif", 900, 900, (400, 400), 90, downsamples=(1, 4),
            glass_px=(64, 64, 64, 64),
        )
        for name in ("one", "two")
    ]  # fmt: skip
    out = tmp_path / "run"
    options = ("--model", model, "--out", out, "--stride", 4, "--detach", "--quiet")
    assert run_main(capfd, "run", *slides, *options, "--workers", 1)[0] == 0
    deadline = time.monotonic() + 60
    while not sum(s.groups_done for s in open_run(out).status().slides.values()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    code, _, err = run_main(capfd, "resume", out, "--quiet")
    assert code == 2 and "works on" in err, "one master a run"
    code, printed, err = run_main(capfd, "cancel", out)
    assert (code, err) == (0, "")
    assert "Cancelled: " in printed and f"hpc-heatmap resume {out}" in printed
    cancelled = status_of(capfd, out)
    assert cancelled["state"] == "cancelled"
    kept = {(p.parents[1].name, int(p.stem)) for p in out.glob("slides/*/scores/*.h5")}
    n_records = len(read_records(RunPaths(out)))
    assert kept
    code, printed, err = run_main(capfd, "resume", out, "--quiet", "--workers", 2)
    assert (code, err) == (0, "")
    assert status_of(capfd, out)["state"] == "done"
    again = {(r.slide, g) for r in read_records(RunPaths(out))[n_records:] for g in r.groups}
    assert again and not again & kept


def test_doctor_looks_and_leaves_nothing(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, printed, err = run_main(capfd, "doctor", tmp_path, "--json")
    findings = json.loads(printed)
    assert findings and all({"what", "found", "ok"} <= set(f) for f in findings)
    assert code == (0 if all(f["ok"] for f in findings) else 1)
    assert err == ""
    assert list(tmp_path.iterdir()) == []


def test_doctor_makes_a_page_to_send(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, printed, err = run_main(capfd, "doctor", tmp_path / "not" / "there", "--json")
    assert (code, err) == (0, "")
    found = {finding["what"]: finding for finding in json.loads(printed)}
    assert re.search(r"; a small file takes \d+\.\d ms", found["file system"]["found"])
    assert re.match(r"\d+ windows of 96 px a second", found["speed of one core"]["found"])
    assert found["processor"]["found"] and "HDF5" in found["file locking"]["found"]
    if Path("/proc/cpuinfo").exists() and " avx2 " in Path("/proc/cpuinfo").read_text():
        assert "avx2" in found["processor"]["found"]
    assert list(tmp_path.iterdir()) == []
