"""The manifest says what is there, and what it names can be had without a Qt binding."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from npe2 import PluginManifest

from napari_hpc_heatmap._view_settings import ViewSettings

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def manifest() -> PluginManifest:
    return PluginManifest.from_file(ROOT / "napari.yaml")


def test_the_manifest_is_valid_and_its_commands_exist(manifest: PluginManifest) -> None:
    manifest.validate_imports()


def test_keys_and_menus_name_commands_that_exist(manifest: PluginManifest) -> None:
    contributions = manifest.contributions
    commands = {command.id for command in contributions.commands}
    named = {key.command for key in contributions.keybindings}
    for items in contributions.menus.values():
        named |= {item.command for item in items if hasattr(item, "command")}
    assert named <= commands


def test_the_heatmaps_keys_are_bound_as_the_manifest_says(manifest: PluginManifest) -> None:
    from napari.components import ViewerModel

    from napari_hpc_heatmap import _keys

    _keys.bind_keys()
    bound = {str(key): function for key, function in ViewerModel.class_keymap.items()}
    ours = {c.id: c.python_name for c in manifest.contributions.commands}
    seen = 0
    for binding in manifest.contributions.keybindings:
        module, name = ours[binding.command].split(":")
        if module == _keys.__name__:
            assert bound[binding.key] is getattr(_keys, name)
            assert binding.key == binding.mac == binding.linux == binding.win
            seen += 1
    assert seen == 3


def test_settings_in_preferences_are_those_of_the_code() -> None:
    described = yaml.safe_load((ROOT / "napari.yaml").read_text())["contributions"]
    offered = described["configurations"]["viewing"]["properties"]
    assert {name: value["default"] for name, value in offered.items()} == {
        field.name: field.default for field in fields(ViewSettings)
    }


def test_no_qt_binding_is_needed_to_import_or_to_read(landmark_run) -> None:
    """A napari without any binding (a server, a script) opens the same layers."""
    program = f"""
import sys
class NoQt:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("PyQt5", "PyQt6", "PySide2", "PySide6"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, NoQt())
from napari.components import ViewerModel
import napari_hpc_heatmap._keys
from napari_hpc_heatmap._reader import get_reader
path = {str(landmark_run.root)!r}
viewer = ViewerModel()
for layer in get_reader(path)(path):
    viewer.add_layer(layer)
print(len(viewer.layers))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == "4"
