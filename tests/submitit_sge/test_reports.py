"""What the commands of Son of Grid Engine 8.1.9 really said."""

from __future__ import annotations

from pathlib import Path

import pytest

from submitit_sge.reports import final_state, live_state, read_qacct, read_qstat

SAID = Path(__file__).parent / "said"


def read_said(name: str) -> dict[str, dict[str, str]]:
    return read_qacct((SAID / name).read_text())


def test_qstat() -> None:
    states = read_qstat((SAID / "qstat.xml").read_text())
    assert states.pop("11_0") == "r"
    assert {k: states.pop(k) for k in [f"11_{i}" for i in range(2, 12)]} == dict.fromkeys(
        [f"11_{i}" for i in range(2, 12)], "qw"
    )
    assert states == {"8": "ds", "9": "Rr", "12": "Eqw"}


def test_ranges_of_tasks() -> None:
    job = "<job_list><JB_job_number>7</JB_job_number><state>qw</state><tasks>{}</tasks></job_list>"
    listed = read_qstat("<x>" + job.format("2,5-6:1,9-13:2") + "</x>")
    assert sorted(listed, key=lambda i: int(i[2:])) == [f"7_{i}" for i in (1, 4, 5, 8, 10, 12)]


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        *[(s, "PENDING") for s in ("qw", "hqw", "hRwq", "Rq")],
        *[(s, "RUNNING") for s in ("r", "t", "Rr", "Rt", "s", "S", "T", "ts", "dr", "dt", "ds")],
        *[(s, "FAILED") for s in ("Eqw", "Ehqw", "EhRqw")],
    ],
)
def test_live_states(state: str, expected: str) -> None:
    assert live_state(state) == expected


def test_finished_array() -> None:
    records = read_said("qacct-array.txt")
    assert sorted(records) == ["33_0", "33_1", "33_2"]
    assert {final_state(r) for r in records.values()} == {"COMPLETED"}
    assert {r["exit_status"] for r in records.values()} == {"0"}


def test_killed() -> None:
    (record,) = read_said("qacct-killed.txt").values()
    assert record["exit_status"] == "137                  (Killed)"
    assert record["failed"] == "100 : assumedly after job"
    assert record["maxvmem"] == "8.773MB"
    assert final_state(record) == "FAILED"
    assert final_state(record, cancelled=True) == "CANCELLED"


def test_deleted_tasks_that_never_ran_have_no_record() -> None:
    records = read_said("qacct-deleted-array.txt")
    assert sorted(records) == ["11_0", "11_1", "11_3", "11_6"]


def test_time_limit() -> None:
    (record,) = read_said("qacct-time-limit.txt").values()
    assert record["failed"].startswith("37 ")
    assert final_state(record) == "TIMEOUT"
    # As an execd says it that enforces the limit by itself.
    assert final_state({**record, "failed": "100 : assumedly after job"}) == "TIMEOUT"
    early = {**record, "failed": "100 : assumedly after job", "ru_wallclock": "3s"}
    assert final_state(early) == "FAILED"


def test_the_last_run_of_a_rescheduled_job_counts() -> None:
    text = (SAID / "qacct-rescheduled.txt").read_text()
    assert text.count("jobnumber") == 2
    assert final_state(read_qacct(text)["3"]) == "TIMEOUT"
    first = "".join(text.partition("category")[:2]) + " -l h_rt=15\n"
    assert final_state(read_qacct(first)["3"]) is None


def test_memory_limit() -> None:
    (record,) = read_said("qacct-memory-limit.txt").values()
    assert (record["maxvmem"], record["category"]) == ("383.457MB", "-l h_vmem=300M")
    assert final_state(record) == "OUT_OF_MEMORY"
    # The limit is for a slot.
    assert final_state({**record, "slots": "2"}) == "TIMEOUT"


def test_nothing_is_read_from_noise() -> None:
    assert read_qacct("error: job id 8 not found\n") == {}
    assert read_qacct("") == {}
    assert final_state({}) == "FAILED"
