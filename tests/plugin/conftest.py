"""Tests in napari: those marked `gui` need a screen and a Qt binding, and say so where they skip."""

from __future__ import annotations

import importlib.util
import os
import sys

import pytest

# Settings of whoever runs the tests are neither read nor written.
os.environ["NAPARI_CONFIG"] = ""


def _missing(config: pytest.Config) -> str | None:
    """What a window needs and is not here."""
    has_screen = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if sys.platform.startswith("linux") and not has_screen:
        return "no screen: run it as `scripts/with-screen python -m pytest ...`"
    if not any(map(importlib.util.find_spec, ("PyQt6", "PySide6"))):
        return "no Qt binding: install PyQt6 or PySide6"
    if not (
        config.pluginmanager.hasplugin("pytest-qt") and config.pluginmanager.has_plugin("napari")
    ):
        return "pytest runs without its plug-ins pytest-qt and napari"
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what cannot run here."""
    reason = _missing(config)
    for item in items:
        if reason and item.get_closest_marker("gui"):
            item.add_marker(pytest.mark.skip(reason=reason))
