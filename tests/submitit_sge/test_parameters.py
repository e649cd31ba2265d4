from __future__ import annotations

import re
from typing import Any

import pytest

from submitit_sge.parameters import SgeParameters
from submitit_sge.units import read_bytes, read_seconds


def option(arguments: list[str], flag: str) -> str | None:
    return arguments[arguments.index(flag) + 1] if flag in arguments else None


def test_all_parameters_reach_qsub() -> None:
    parameters = SgeParameters(
        job_name="scores",
        h_rt="2:00:00",
        slots=4,
        pe="smp",
        mem_gb=8,
        gpus=1,
        queue="long.q",
        project="lab",
        tc=3,
        hold_jid=["12_3", 15, "setup"],
        rerunnable=False,
        notify=True,
        export_env=True,
        extra=["-p", "-100"],
    )
    arguments = parameters.qsub_arguments(tasks=9, hold=["77"])
    expected = {
        "-N": "scores",
        "-l": "h_rt=7200,s_rt=7110,h_vmem=2048M,gpu=1",
        "-pe": "smp",
        "-q": "long.q",
        "-P": "lab",
        "-t": "1-9",
        "-tc": "3",
        "-hold_jid": "12,15,setup,77",
        "-r": "n",
        "-p": "-100",
    }
    assert {flag: option(arguments, flag) for flag in expected} == expected
    assert {"-notify", "-V"} <= set(arguments)


def test_little_is_asked_for_by_default() -> None:
    arguments = SgeParameters().qsub_arguments()
    assert option(arguments, "-l") == "h_rt=300,s_rt=210"
    flags = {"-t", "-tc", "-pe", "-q", "-P", "-hold_jid", "-r", "-notify", "-V", "-cwd"}
    assert not flags & set(arguments)
    assert "-l" not in SgeParameters(h_rt=0).qsub_arguments()
    assert option(SgeParameters(h_rt=90).qsub_arguments(), "-l") == "h_rt=90"


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ({"memory_per_slot": False}, "h_vmem=3072M"),
        ({"memory_resource": "mem_free"}, "mem_free=1024M"),
        ({"mem_gb": 0.1}, "h_vmem=35M"),
    ],
)
def test_memory(given: dict[str, Any], asked: str) -> None:
    settings = {"h_rt": 0, "mem_gb": 3, "slots": 3, "pe": "smp", **given}
    assert SgeParameters(**settings).resources() == [asked]


@pytest.mark.parametrize("name", ["1a", "a/b:c@d*?", "é", "", "-x", "a b", "<&>", "a\nb"])
def test_names_are_made_harmless(name: str) -> None:
    cleaned = option(SgeParameters(job_name=name).qsub_arguments(), "-N")
    assert re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]*", cleaned or "")


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"nodes": 2}, "nodes=2"),
        ({"tasks_per_node": 4}, "tasks_per_node=4"),
        ({"slots": 0}, "slots=0"),
        ({"slots": 2}, "parallel environment"),
        ({"tc": 0}, "tc=0"),
        ({"gpus": -1}, "gpus=-1"),
        ({"mem_gb": 0}, "mem_gb=0"),
        ({"h_rt": "soon"}, "'soon' is no duration"),
        ({"h_rt": -5}, "-5 is no duration"),
        ({"h_rt": 3600, "signal_delay_s": 900}, "signal_delay_s=900"),
        ({"setup": "module load python"}, "list of strings"),
        ({"extra": "-V"}, "list of strings"),
    ],
)
def test_what_cannot_be_is_refused(given: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        SgeParameters(**given)


def test_units() -> None:
    assert [read_seconds(t) for t in (90, "90", "0:1:30", "1:0:0", "::5")] == [90, 90, 90, 3600, 5]
    assert read_bytes("500M") == 500 * 1024**2
    assert read_bytes("1.5GB") == 1.5 * 1024**3
    assert read_bytes("2k") == 2000
    assert read_bytes("0.000B") == read_bytes("") == read_bytes("NONE") == 0
