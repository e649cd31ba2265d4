"""Reading speed against group size."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from hpc_heatmap.cli.app import main
from hpc_heatmap.runs.tuning import Reading
from hpc_heatmap.runs.tuning.measuring import _recommend
from hpc_heatmap.runs.tuning.page_cache import cached_share, drop_from_memory

MIB = 2**20


def test_the_command(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    place, picture = tmp_path / "disk", tmp_path / "tune.png"
    place.mkdir()
    (place / "slide.svs").write_bytes(b"a file stands for its folder")
    arguments = ["tune", str(place / "slide.svs"), "--window", "32", "--sizes", "4", "16"]
    assert main([*arguments, "--rounds", "1", "--picture", str(picture), "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert [r["patches"] for r in found["readings"]] == [4, 16]
    assert all(r["whole_s"] > 0 and r["one_by_one_s"] > 0 for r in found["readings"])
    # Each pixel is stored once: the paper's layout takes more.
    assert all(r["bytes"] < r["bytes_as_patches"] for r in found["readings"])
    assert found["recommended"] in (4, 16) and found["start_s"] > 0
    with Image.open(picture) as image:
        assert image.width > 500
    assert [p.name for p in place.iterdir()] == ["slide.svs"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what it holds in memory")
def test_a_file_leaves_the_memory(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(4 * MIB))
    before = cached_share(file)
    if before != 1.0:
        pytest.skip("this file system does not keep what was written in memory")
    drop_from_memory(file)
    after = cached_share(file)
    if after == 1.0:
        pytest.skip("this file system is memory")
    assert after == 0.0


def reading(patches: int, ms_per_patch: float) -> Reading:
    seconds = patches * ms_per_patch / 1000
    return Reading(patches, patches * MIB, 2 * patches * MIB, seconds, 5 * seconds, 1.0, 0.0)


def test_the_smallest_that_is_fast_enough_and_fits() -> None:
    readings = [reading(16, 9.0), reading(64, 2.2), reading(256, 2.0), reading(1024, 1.0)]
    assert _recommend(readings, 2000 * MIB, 1.0, None, 224, 16)[0] == 1024
    assert _recommend(readings, 500 * MIB, 1.0, None, 224, 16)[0] == 64
    assert _recommend(readings, MIB, 1.0, None, 224, 16)[0] == 16
    _, reasons = _recommend(readings, 500 * MIB, 3.0, 49.0, 224, 32)
    # 64 patches of 49 windows at 49 a second: 64 s; a start of 3 s is 3 % of 100 s.
    assert "takes 64 s to score" in reasons[1] and "should last 100 s" in reasons[1]
    assert replace(readings[0], one_by_one_s=1.44).gain == pytest.approx(10)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "There is no directory nowhere"),
        ([".", "--sizes", "0"], "from 1"),
        ([".", "--picture", "a.jpg"], "PNG"),
        ([".", "--window", "1"], "--window 1"),
        ([".", ".."], "one at a time"),
    ],
)
def test_wrong_requests(
    arguments: list[str], words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["tune", *arguments]) == 2
    said = capfd.readouterr().err.strip().splitlines()
    assert len(said) == 1 and words in said[0]
