"""kill -9 at random moments, then `resume`: the same bytes as an undisturbed run."""

from __future__ import annotations

import random
import subprocess
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from runs.support import (
    command,
    drafts,
    end_of,
    finish,
    function_run,
    kill,
    make_model,
    make_slide,
    phase,
    results,
    score_stamps,
    wait_until,
    workers_of,
)

from hpc_heatmap.errors import RunConflictError
from hpc_heatmap.formats.paths import RunPaths
from hpc_heatmap.formats.slide_summary import read_summary
from hpc_heatmap.formats.task_files import read_records
from hpc_heatmap.runs.status import State

SLIDE = "slide"
N_KILLS = 50


@dataclass
class Undisturbed:
    """A run that nobody killed."""

    request: list[object]
    duration_s: float
    results: dict[str, object]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("kill")
    slide, model = make_slide(folder / f"{SLIDE}.tif", 460, 420), make_model(folder)
    request: list[object] = [slide, "--model", model, "--stride", 4, "--patches-per-group", 8]
    request += ["--workers", 2, "--quiet"]
    started = time.monotonic()
    code, errors = end_of(command("run", *request, "--out", folder / "RUN"))
    assert (code, errors) == (0, "")
    duration_s = time.monotonic() - started
    paths = RunPaths(folder / "RUN")
    found = results(paths)
    assert read_summary(paths.slide(SLIDE).summary).n_groups >= 8
    return Undisturbed(request, duration_s, found)


@dataclass
class Assault:
    """Kills a run again and again, and checks it after each time and at the end."""

    undisturbed: Undisturbed
    root: Path
    dice: random.Random
    hits: Counter[tuple[str, str]] = field(default_factory=Counter)

    def start(self) -> subprocess.Popen[str]:
        if not RunPaths(self.root).run_file.exists():
            return command("run", *self.undisturbed.request, "--out", self.root)
        return command("resume", self.root, "--workers", 2, "--quiet")

    def go(self, n_kills: int) -> int:
        """Kill up to `n_kills` times and let it finish; gives the number of kills."""
        paths = RunPaths(self.root)
        killed = 0
        complete: dict[Path, tuple[int, int]] = {}
        process = self.start()
        masters = [process]
        while killed < n_kills:
            # Later lives of a run have less to do than the first.
            share = 1.0 if killed == 0 else 0.6
            try:
                process.wait(self.dice.uniform(0, share * self.undisturbed.duration_s))
                break
            except subprocess.TimeoutExpired:
                pass
            at, target = phase(paths, SLIDE), self.dice.choice(["master", "worker", "all"])
            workers = workers_of(self.root)
            if target == "worker" and not workers:
                target = "all"
            master = psutil.Process(process.pid)
            if target == "worker":
                kill(self.dice.choice(workers))
            else:
                kill(master)
                for worker in workers if target == "all" else []:
                    kill(worker)
            killed += 1
            self.hits[at, target] += 1
            # What was complete stays as it is, whatever comes.
            for file, stamp in score_stamps(paths).items():
                assert complete.setdefault(file, stamp) == stamp, f"{file} was written anew"
            if target != "worker":
                # The master may be a zombie now: nobody has waited for it yet.
                if self.dice.random() < 0.5:
                    process.wait()
                process = self.start()
                masters.append(process)
        code, errors = end_of(process)
        assert (code, errors) == (0, ""), f"after {dict(self.hits)}"
        for one in masters[:-1]:
            assert end_of(one)[1] == ""
        now = score_stamps(paths)
        assert all(now.get(file, stamp) == stamp for file, stamp in complete.items())
        self.check()
        return killed

    def check(self) -> None:
        paths = RunPaths(self.root)
        found = results(paths)
        assert found.keys() == self.undisturbed.results.keys()
        differing = [n for n in found if found[n] != self.undisturbed.results[n]]
        assert differing == []
        # A request to launch may come at any time, so nobody sweeps the draft of one.
        assert [d for d in drafts(self.root) if not d.name.startswith(".launch-")] == []
        assert not paths.slide(SLIDE).scores.exists(), "all scores are in one file"
        assert not paths.failures.exists() or not list(paths.failures.iterdir())
        assert not paths.master.exists()
        assert {r.stage for r in read_records(paths)} <= {"grouping", "scoring", "stitching"}
        assert workers_of(self.root) == []


def assault(undisturbed: Undisturbed, folder: Path, n_kills: int, per_run: int, seed: int) -> None:
    dice = random.Random(seed)
    hits: Counter[tuple[str, str]] = Counter()
    killed = number = 0
    while killed < n_kills:
        number += 1
        assert number <= 2 * n_kills, "the run ends before it can be killed"
        one = Assault(undisturbed, folder / f"RUN-{number}", dice, hits)
        killed += one.go(min(per_run, n_kills - killed))
    print(f"\n{killed} kills of {number} runs of {undisturbed.duration_s:.1f} s:")
    for (at, target), n in sorted(hits.items()):
        print(f"  {at:<10} {target:<7} {n}")


def test_three_kills(undisturbed: Undisturbed, tmp_path: Path) -> None:
    assault(undisturbed, tmp_path, 3, 3, seed=2)


@pytest.mark.slow
def test_fifty_kills(undisturbed: Undisturbed, tmp_path: Path) -> None:
    assault(undisturbed, tmp_path, N_KILLS, 6, seed=1)


@pytest.mark.parametrize("left", [[], ["descriptor"], ["descriptor", "model", "run"]])
def test_a_kill_while_planning_does_not_block_the_directory(
    undisturbed: Undisturbed, tmp_path: Path, left: list[str]
) -> None:
    root = tmp_path / "RUN"
    (root / "model").mkdir(parents=True)
    (root / "model" / ".model-01234567.onnx.partial").write_bytes(b"half a model")
    if "descriptor" in left:
        (root / "model" / "descriptor.json").write_text("{}")
    if "model" in left:
        (root / "model" / "model.onnx").write_bytes(b"\x08")
    if "run" in left:
        (root / ".run-01234567.json.partial").write_text("{")
    assert finish(function_run([Path(str(undisturbed.request[0]))], root)).state is State.DONE
    assert drafts(root) == []


@pytest.mark.parametrize("name", ["notes.txt", "model/weights.bin", ".hidden", "model"])
def test_other_files_block_the_directory(
    undisturbed: Undisturbed, tmp_path: Path, name: str
) -> None:
    file = tmp_path / "RUN" / name
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    with pytest.raises(RunConflictError, match="not empty"):
        function_run([Path(str(undisturbed.request[0]))], tmp_path / "RUN")
    assert file.read_text() == "mine"
    assert sorted(p.name for p in (tmp_path / "RUN").iterdir()) == [name.split("/")[0]]


def test_orphans_stop_by_themselves(undisturbed: Undisturbed, tmp_path: Path) -> None:
    process = command("run", *undisturbed.request, "--out", tmp_path / "RUN")
    wait_until(lambda: len(workers_of(tmp_path / "RUN")) >= 2)
    process.kill()
    # Nobody waits for the master: a zombie is no master.
    wait_until(lambda: not workers_of(tmp_path / "RUN"), timeout_s=15)
    end_of(process)
    assert not RunPaths(tmp_path / "RUN").failures.exists()
