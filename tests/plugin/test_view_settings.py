"""What is chosen in Preferences holds, however it was chosen; else napari is not even asked."""

from __future__ import annotations

from pathlib import Path

import napari.settings
import pytest
from npe2 import PluginManager

from napari_hpc_heatmap import _view_settings
from napari_hpc_heatmap._view_settings import PLUGIN, ViewSettings, view_settings


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """napari's settings file, in a process where nobody has asked for settings of plugins."""
    manager = PluginManager.instance()
    if PLUGIN not in manager:
        manager.discover()
    path = tmp_path / "settings.yaml"
    monkeypatch.setattr(napari.settings, "_CFG_PATH", str(path))
    monkeypatch.setattr(napari.settings._napari_settings, "_CFG_PATH", str(path))
    monkeypatch.setattr(napari.settings, "_PLUGIN_SETTINGS", {})
    return path


def refuse(*_: object) -> None:
    raise AssertionError("napari was asked")


def test_where_nothing_was_chosen_napari_is_not_asked(config: Path, monkeypatch) -> None:
    monkeypatch.setattr(napari.settings, "get_plugin_settings", refuse)
    assert view_settings() == ViewSettings()


def test_what_was_saved_holds(config: Path) -> None:
    config.with_name(f"{PLUGIN}.yaml").write_text("viewing:\n  tile_cache_mib: 77\n")
    assert view_settings() == ViewSettings(tile_cache_mib=77)


def test_what_is_chosen_now_holds_and_is_found_again(config: Path, monkeypatch) -> None:
    napari.settings.get_plugin_settings(PLUGIN).viewing.tile_cache_mib = 78
    assert view_settings() == ViewSettings(tile_cache_mib=78)
    monkeypatch.setattr(napari.settings, "_PLUGIN_SETTINGS", {})
    assert view_settings() == ViewSettings(tile_cache_mib=78)


def test_variables_hold(config: Path, monkeypatch) -> None:
    monkeypatch.setenv("NAPARI_VIEWING_TILE_CACHE_MIB", "79")
    assert view_settings() == ViewSettings(tile_cache_mib=79)


def test_another_napari_is_asked(config: Path, monkeypatch) -> None:
    monkeypatch.delattr(napari.settings._napari_settings, "_CFG_PATH")
    assert _view_settings._may_be_chosen()
