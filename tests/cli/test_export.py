"""The command `export`: what it prints, its exit codes and its sentences."""

from __future__ import annotations

from pathlib import Path

import pytest
from runs.support import finish, function_run, make_slide

from hpc_heatmap.cli.app import main
from hpc_heatmap.runs.export import ExportFormat


def test_every_format_is_written_and_mistakes_are_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = function_run([make_slide(tmp_path / f"{n}.tif") for n in "ab"], tmp_path / "RUN")
    finish(run)
    for kind in ExportFormat:
        capfd.readouterr()
        assert main(["export", str(run.root), "--format", kind.value]) == 0
        printed = capfd.readouterr().out.split()
        assert [Path(p).parent for p in printed] == [run.paths.exports / kind.value] * 2
        assert all(Path(p).exists() for p in printed)

    out = tmp_path / "OUT"
    arguments = ["export", str(run.root), "--format", "png", "--out", str(out)]
    assert main([*arguments, "--slide", "b", "--frame", "qupath"]) == 0
    assert [p.name for p in out.iterdir()] == ["b.png"]
    capfd.readouterr()
    assert main([*arguments, "--slide", "c"]) == 2
    assert "no slide 'c'" in capfd.readouterr().err
    assert main(["export", str(run.root), "--format", "dicom"]) == 2
    assert "geojson" in capfd.readouterr().err
    run.slides["a"].files.heatmap.unlink()
    assert main(arguments) == 1
    assert "a has no heatmap yet" in capfd.readouterr().err
