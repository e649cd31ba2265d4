"""Cluster profiles: what they may say, what is said of those that cannot be used."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from runs.support import make_model, make_slide
from schedulers import real

from hpc_heatmap.cli.app import main
from hpc_heatmap.cli.doctor import Finding, examine_profile
from hpc_heatmap.errors import SettingsError
from hpc_heatmap.schedulers.profiles import read_profile
from hpc_heatmap.settings import Cluster, ClusterProfile, LaunchSettings, MasterPlace

DOCUMENT = Path(__file__).parents[2] / "docs" / "clusters.md"


def write(folder: Path, text: str) -> Path:
    path = folder / "site.toml"
    path.write_text(text, "utf-8")
    return path


def test_every_key(tmp_path: Path) -> None:
    text = """
        cluster = "sge"
        partition = "all.q"
        account = "pathology"
        parallel_environment = "smp"
        cores_per_task = 7
        memory_gb = 4.5
        memory_resource = "h_vmem"
        time_minutes = 60
        gpus = 1
        modules = ["python/3.12"]
        setup = ["ulimit -c 0"]
        scratch = "$TMPDIR"
        throttle = 100
        max_array = 500
        max_queued = 900
        master = "login"
        poll_s = 10
        [extra]
        l = "gpu_model=a100"
    """
    profile = read_profile(LaunchSettings(profile=write(tmp_path, text)))
    assert profile.cluster is Cluster.SGE and profile.master is MasterPlace.LOGIN
    assert profile.modules == ("python/3.12",) and profile.extra == {"l": "gpu_model=a100"}
    assert (profile.memory_gb, profile.throttle, profile.scratch) == (4.5, 100, "$TMPDIR")


def test_without_a_file_there_are_defaults(tmp_path: Path) -> None:
    profile = read_profile(LaunchSettings(cluster=Cluster.SGE))
    assert profile == ClusterProfile(cluster=Cluster.SGE)
    assert read_profile(LaunchSettings(profile=write(tmp_path, ""))) == ClusterProfile()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('partitoin = "main"', ["partitoin", "not permitted"]),
        ('cores_per_task = "many"', ["cores_per_task", "many", "integer"]),
        ("cores_per_task = 0", ["cores_per_task", "greater than 0"]),
        ("memory_gb = nan", ["memory_gb"]),
        ('modules = "gcc"', ["modules", "gcc"]),
        ('master = "moon"', ["master", "'cluster', 'login' or 'here'"]),
        ('cluster = "pbs"', ["cluster", "'slurm'", "'sge'"]),
        ('cluster = "local"', ["cluster", "'slurm' or 'sge'"]),
        ("extra = 3", ["extra", "dictionary"]),
        ("partition: main", ["not TOML", "line 1"]),
        ("\0", ["not TOML"]),
        (None, ["no profile", "--profile"]),
    ],
)
def test_what_cannot_be_used_is_said_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None, words: list[str]
) -> None:
    path = write(tmp_path, text) if text is not None else tmp_path / "nowhere.toml"
    refused(tmp_path, capsys, ["--profile", str(path)], [path.name, *words])


def test_a_profile_of_another_cluster(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, 'cluster = "slurm"')
    options = ["--profile", str(path), "--cluster", "sge"]
    refused(tmp_path, capsys, options, ["profile for slurm", "--cluster is sge"])


def refused(
    folder: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: list[str]
) -> None:
    """`run` and `doctor` say what is wrong and leave nothing behind."""
    slide, model, out = make_slide(folder / "a.tif"), make_model(folder), folder / "RUN"
    request = ["run", str(slide), "--model", str(model), "--out", str(out), "--quiet"]
    for command in (request, ["doctor"]):
        assert main([*command, *options]) == 2
        said = capsys.readouterr().err
        assert len(said.strip().splitlines()) == 1 and "Traceback" not in said
        assert all(word in said for word in words), said
    assert not out.exists()


# The document


def examples() -> list[str]:
    return re.findall(r"^```toml\n(.*?)^```", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)


def test_the_documents_examples_are_profiles(tmp_path: Path) -> None:
    clusters = []
    for text in examples():
        profile = read_profile(LaunchSettings(profile=write(tmp_path, text)))
        clusters.append(profile.cluster)
    assert set(clusters) == {Cluster.SLURM, Cluster.SGE}


def test_every_key_is_documented_with_its_default() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([^|]*) \|", DOCUMENT.read_text(), re.MULTILINE)
    documented = {name: default.strip().strip("`") for name, default in rows}
    fields = ClusterProfile.model_fields
    assert set(fields) <= set(documented)
    for name, field in fields.items():
        if isinstance(field.default, int | float):
            assert float(documented[name]) == field.default, name


# doctor --profile, on the real clusters

GOOD = {
    Cluster.SLURM: 'cluster = "slurm"\npartition = "main"\ncores_per_task = 2\nmemory_gb = 1\n',
    Cluster.SGE: (
        'cluster = "sge"\npartition = "all.q"\nparallel_environment = "thread"\n'
        'cores_per_task = 2\nmemory_gb = 1\nmemory_resource = "h_vmem"\n'
    ),
}


def findings(folder: Path, text: str) -> dict[str, Finding]:
    found = examine_profile(LaunchSettings(profile=write(folder, text)))
    assert all("\n" not in finding.found for finding in found)
    return {finding.what.partition(": ")[2]: finding for finding in found}


@pytest.mark.parametrize("cluster", list(GOOD))
def test_doctor_finds_nothing_wrong(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    real.need(cluster)
    found = findings(tmp_path, GOOD[cluster])
    assert {what: f.found for what, f in found.items() if not f.ok} == {}
    place = "partition" if cluster is Cluster.SLURM else "queue"
    expected = {place, "time limit", "cores", "memory", "array limit", "submit limit"}
    assert {*expected, "nodes submit", "accounting", "a task"} <= set(found)
    assert found["array limit"].found.startswith("50 tasks")
    options = ["--profile", str(tmp_path / "site.toml"), "--cluster", cluster.value]
    assert main(["doctor", str(tmp_path), *options]) == 0
    assert "could be submitted" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == [tmp_path / "site.toml"]


@pytest.mark.parametrize(
    ("cluster", "change", "what", "words"),
    [
        (Cluster.SLURM, 'partition = "big"', "partition", "there is no big"),
        (Cluster.SLURM, "cores_per_task = 99", "cores", "up to 2"),
        (Cluster.SLURM, "memory_gb = 5000", "memory", "5000 GiB"),
        (Cluster.SLURM, 'account = "nobody"', "account", "no nobody; known:"),
        (Cluster.SLURM, 'qos = "nothing"', "qos", "no nothing; known: normal"),
        (Cluster.SLURM, "gpus = 64", "gpus", "64 a task"),
        (Cluster.SLURM, 'extra = {constraint = "nothing"}', "a task", "would be refused"),
        (Cluster.SGE, 'partition = "big.q"', "queue", "there is no big.q"),
        (Cluster.SGE, 'parallel_environment = "nope"', "parallel environment", "no nope"),
        (Cluster.SGE, "cores_per_task = 999", "cores", "999 a task"),
        (Cluster.SGE, "memory_gb = 5000", "memory", "5000 GiB"),
        (Cluster.SGE, 'memory_resource = "nope"', "memory", "no resource nope"),
        (Cluster.SGE, 'account = "nobody"', "account", "no project nobody"),
        (Cluster.SGE, 'qos = "high"', "qos", "leave qos out"),
        (Cluster.SGE, 'extra = {l = "nope=1"}', "a task", "would be refused"),
    ],
)
def test_doctor_says_what_is_wrong(
    cluster: Cluster, change: str, what: str, words: str, tmp_path: Path
) -> None:
    real.need(cluster)
    key = change.split()[0]
    kept = [line for line in GOOD[cluster].splitlines() if not line.startswith(f"{key} ")]
    found = findings(tmp_path, "\n".join([*kept, change]))
    assert not found[what].ok and words in found[what].found
    # What Slurm and Grid Engine are asked at last agrees, but for what only we know.
    assert main(["doctor", str(tmp_path), "--profile", str(tmp_path / "site.toml")]) == 1


def test_doctor_where_the_scheduler_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (finding,) = examine_profile(LaunchSettings(cluster=Cluster.SLURM))
    assert not finding.ok and "Slurm is not on this machine" in finding.found


def test_a_limit_that_is_larger_than_the_sites_is_said(tmp_path: Path) -> None:
    real.need(Cluster.SLURM)
    found = findings(tmp_path, GOOD[Cluster.SLURM] + "max_array = 5000\n")
    assert found["array limit"].ok and "max_array = 5000 is more" in found["array limit"].found


def test_a_profile_error_is_a_settings_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError):
        read_profile(LaunchSettings(profile=tmp_path / "nowhere.toml"))
