"""What is shipped: one engine, two distributions."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
from slides import landmark_slide

ROOT = Path(__file__).parents[1]
PLUGIN_ONLY = {
    "magicgui>=0.10",
    "napari>=0.9.2",
    "psygnal>=0.11",
    "qtpy>=2.4",
    "superqt>=0.7",
}


def read_project(folder: Path) -> dict[str, object]:
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert isinstance(project, dict)
    return project


def test_both_distributions_need_the_same_for_the_engine() -> None:
    root, engine = read_project(ROOT), read_project(ROOT / "engine")
    assert set(root["dependencies"]) - PLUGIN_ONLY == set(engine["dependencies"])  # type: ignore[call-overload]
    assert set(root["dependencies"]) >= PLUGIN_ONLY  # type: ignore[call-overload]
    assert root["scripts"] == engine["scripts"]
    assert root["entry-points"]["submitit"] == engine["entry-points"]["submitit"]  # type: ignore[index]
    assert root["requires-python"] == engine["requires-python"]


def test_the_installed_manifest_is_the_one_at_the_root() -> None:
    from npe2 import PluginManager

    manager = PluginManager()
    manager.discover()
    manifest = manager.get_manifest("napari-hpc-heatmap")
    assert manifest.contributions.readers is not None
    assert manifest.package_version == importlib.metadata.version("napari-hpc-heatmap")
    assert "name: napari-hpc-heatmap" in (ROOT / "napari.yaml").read_text()


@pytest.mark.parametrize(("folder", "plugin"), [(".", True), ("engine", False)])
def test_wheel_holds_what_it_should(folder: str, plugin: bool, tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    built = subprocess.run(
        [*pip, "wheel", "-q", "--no-deps", "-w", str(tmp_path), str(ROOT / folder)],
        capture_output=True,
        text=True,
    )
    if "No matching distribution" in built.stderr or "Could not find a version" in built.stderr:
        pytest.skip("hatchling cannot be fetched here")
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {"hpc_heatmap/py.typed", "submitit_sge/py.typed", "submitit_sge/job.py"} <= set(names)
    assert {"hpc_heatmap/py.typed", "hpc_heatmap/runs/report/page.html.j2"} <= set(names)
    assert {f"hpc_heatmap/demo_model/{n}" for n in ("model.pt2", "model.json")} <= set(names)
    assert names.count("napari_hpc_heatmap/napari.yaml") == int(plugin)
    assert any(n.startswith("napari_hpc_heatmap/") for n in names) is plugin
    assert not any(n.startswith(("tests/", "docs/")) for n in names)
    if plugin:
        manifest = zipfile.ZipFile(wheel).read("napari_hpc_heatmap/napari.yaml")
        assert manifest == (ROOT / "napari.yaml").read_bytes()


@pytest.mark.slow
def test_engine_alone_in_a_fresh_environment_runs(tmp_path: Path) -> None:
    """`pip install ./engine` gives a working command without napari or Qt."""
    home = tmp_path / "venv"
    venv.create(home, with_pip=True)
    python = home / "bin" / "python"
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "-q"]
    # The version that is here already, so that a fresh download does not bring another one.
    torch = importlib.metadata.version("torch").split("+")[0]
    environment = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "VIRTUAL_ENV"}}

    def call(*command: str) -> str:
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    call(*pip, "install", f"torch=={torch}")
    call(*pip, "install", str(ROOT / "engine"))
    installed = call(str(python), "-m", "pip", "list", "--format=freeze").lower()
    assert "hpc-heatmap==" in installed
    for name in ("napari", "pyqt", "pyside", "qtpy", "magicgui", "torchvision"):
        assert f"\n{name}" not in f"\n{installed}", installed
    program = (
        "from pathlib import Path\n"
        "from hpc_heatmap.synthetic import generate_slide\n"
        "generate_slide(Path('slide.tiff'), 1500, 1500)\n"
    )
    call(str(python), "-c", program)
    command = str(home / "bin" / "hpc-heatmap")
    call(command, "demo", "slide.tiff", "--out", "run", "--quiet")
    assert '"state": "done"' in call(command, "status", "run", "--json")
    assert (tmp_path / "run" / "slides" / "slide" / "overview.png").stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.parametrize("way", ["editable", "pip install .", "wheel"])
def test_napari_finds_the_plugin_and_opens_a_slide(way: str, tmp_path: Path) -> None:
    """However it was installed: the manifest is valid, is discovered, and its reader reads."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    source, place = str(ROOT), tmp_path / "site"
    if way == "wheel":
        subprocess.run([*pip, "wheel", "-q", "--no-deps", "-w", str(tmp_path), source], check=True)
        (source,) = map(str, tmp_path.glob("*.whl"))
    environment = dict(os.environ)
    if way == "editable":
        place = ROOT
    else:
        # What it needs is here already; what is installed beside it comes first on the path.
        call = [*pip, "install", "-q", "--no-deps", "--target", str(place), source]
        subprocess.run(call, check=True)
        environment["PYTHONPATH"] = str(place)
    slide = landmark_slide(tmp_path / "slide.tiff", 600, 500, (300, 250), 40, downsamples=(1,))
    program = f"""
import napari_hpc_heatmap, hpc_heatmap
from npe2 import PluginManager
from napari.components import ViewerModel
assert napari_hpc_heatmap.__file__.startswith({str(place)!r}), napari_hpc_heatmap.__file__
assert hpc_heatmap.__file__.startswith({str(place)!r}), hpc_heatmap.__file__
PluginManager.instance().discover()
PluginManager.instance().get_manifest("napari-hpc-heatmap").validate_imports()
(layer,) = ViewerModel().open({str(slide)!r}, plugin="napari-hpc-heatmap")
assert type(layer).__name__ == "SlideLayer" and layer.data[0].shape == (500, 600, 3)
"""
    for command in (
        [sys.executable, "-c", program],
        [sys.executable, "-m", "npe2", "validate", "napari-hpc-heatmap"],
    ):
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr + done.stdout
