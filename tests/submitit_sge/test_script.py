from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from submitit_sge.parameters import SgeParameters
from submitit_sge.script import CANNOT_WRITE, make_script

NAMES = ["plain", "a b", "it's", 'qu"ote', "$HOME", "c,o:l", "é世", "`id`", "new\nline", "-o"]


def run(script: str, **variables: str) -> int:
    environment = {"PATH": os.environ["PATH"], "JOB_ID": "12", **variables}
    return subprocess.run(["bash"], input=script.encode(), env=environment).returncode


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("task", "job"), [("undefined", "12"), ("4", "12_3")])
def test_streams_go_to_submitits_files(tmp_path: Path, name: str, task: str, job: str) -> None:
    parameters = SgeParameters(setup=["echo set-up"])
    script = make_script(
        "bash -c 'echo out; echo err >&2'", tmp_path / name / "%A" / "%j", parameters
    )
    for _ in range(2):  # a task that is started again appends
        assert run(script, SGE_TASK_ID=task) == 0
    folder = tmp_path / name / "12" / job
    assert (folder / f"{job}_0_log.out").read_text() == "set-up\nout\n" * 2
    assert (folder / f"{job}_0_log.err").read_text() == "err\n" * 2


def test_streams_together(tmp_path: Path) -> None:
    script = make_script("ls /nowhere", tmp_path, SgeParameters(stderr_to_stdout=True))
    assert run(script) != 0
    assert "/nowhere" in (tmp_path / "12_0_log.out").read_text()
    assert not (tmp_path / "12_0_log.err").exists()


def test_a_folder_out_of_reach_has_its_exit_code(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    script = make_script("true", tmp_path / "file" / "folder", SgeParameters())
    assert run(script) == CANNOT_WRITE


def test_python_path_goes_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/a b:/c$d")
    assert run(make_script("printenv PYTHONPATH", tmp_path, SgeParameters())) == 0
    assert (tmp_path / "12_0_log.out").read_text() == "/a b:/c$d\n"


def test_signals_before_python_listens_are_survived(tmp_path: Path) -> None:
    setup = ["kill -USR1 $$", "kill -USR2 $$"]
    assert run(make_script("echo alive", tmp_path, SgeParameters(setup=setup))) == 0
    assert (tmp_path / "12_0_log.out").read_text() == "alive\n"
