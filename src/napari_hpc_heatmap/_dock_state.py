"""What the docks of one window tell each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from psygnal import Signal

from napari_hpc_heatmap._recent_runs import RecentRuns

__all__ = ["DockState", "dock_state"]


class DockState:
    """The runs that are known, and the one that is looked at.

    Attributes
    ----------
    runs
        Remembered runs.
    added
        Emitted with a run that was launched or opened.
    chosen
        Emitted with a run whose lesions are to be looked at.
    """

    added = Signal(Path)
    chosen = Signal(Path)

    def __init__(self) -> None:
        self.runs = RecentRuns()

    def add(self, root: Path) -> None:
        """Remember a run and tell the docks."""
        self.runs.add(root)
        self.added.emit(root)

    def choose(self, root: Path) -> None:
        """Look at a run's lesions."""
        self.add(root)
        self.chosen.emit(root)


_states: WeakKeyDictionary[Any, DockState] = WeakKeyDictionary()


def dock_state(viewer: Any) -> DockState:
    """The state that all docks of a viewer share."""
    # napari hands its docks proxies of one viewer.
    viewer = getattr(viewer, "__wrapped__", viewer)
    if viewer not in _states:
        _states[viewer] = DockState()
    return _states[viewer]
