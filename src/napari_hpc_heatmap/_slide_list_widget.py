"""The list of slides: thumbnail, size, spacing and warnings, looked up beside the window."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QIcon, QImage, QPixmap
from qtpy.QtWidgets import (
    QAbstractItemView,
    QFileDialog,
    QHBoxLayout,
    QHeaderView,
    QPushButton,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from hpc_heatmap.slide_list import collect_slides
from napari_hpc_heatmap._background import Background
from napari_hpc_heatmap._slide_facts import THUMBNAIL_PX, SlideFacts, slide_facts

__all__ = ["SlideListWidget"]

#: Side of the pictures in the list.
_ICON_PX = THUMBNAIL_PX // 2


class SlideListWidget(QWidget):  # type: ignore[misc]
    """Slides that are to be scored."""

    changed = Signal()
    problem = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self._background = Background(self)
        self._waiting: list[Path] = []
        self._looking = False
        self.facts: dict[Path, SlideFacts] = {}
        self.tree = QTreeWidget()
        self.tree.setAccessibleName("slides")
        self.tree.setHeaderLabels(["Slide", "Spacing", "Size, px"])
        self.tree.setRootIsDecorated(False)
        self.tree.setUniformRowHeights(True)
        self.tree.setIconSize(QSize(_ICON_PX, _ICON_PX))
        self.tree.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.tree.setMinimumHeight(150)
        header = self.tree.header()
        header.setStretchLastSection(False)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        for column in (1, 2):
            header.setSectionResizeMode(column, QHeaderView.ResizeMode.ResizeToContents)
        buttons = QHBoxLayout()
        for title, action in (
            ("Add slides…", self._ask_files),
            ("Add folder…", self._ask_folder),
            ("Remove", self._remove),
        ):
            button = QPushButton(title)
            button.clicked.connect(action)
            buttons.addWidget(button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.tree)
        layout.addLayout(buttons)

    def paths(self) -> list[Path]:
        """The slides, in the order of the list."""
        return list(self._items())

    def _items(self) -> dict[Path, QTreeWidgetItem]:
        items = [self.tree.topLevelItem(row) for row in range(self.tree.topLevelItemCount())]
        return {Path(item.data(0, Qt.ItemDataRole.UserRole)): item for item in items}

    def add(self, arguments: Iterable[str | os.PathLike[str]]) -> None:
        """Add slides, and folders of them; they are looked at beside the window."""
        given = [os.fspath(argument) for argument in arguments]
        if given:
            self._background.call(lambda: collect_slides(given), self._found, self._failed)

    def _failed(self, error: Exception) -> None:
        self.problem.emit(str(error))

    def _found(self, paths: list[Path]) -> None:
        known = self._items()
        for path in paths:
            if path not in known:
                item = QTreeWidgetItem([path.name, "…", ""])
                item.setData(0, Qt.ItemDataRole.UserRole, str(path))
                item.setToolTip(0, str(path))
                self.tree.addTopLevelItem(item)
                self._waiting.append(path)
        self.changed.emit()
        self._look()

    def _look(self) -> None:
        """Look at the next slide: one at a time, so that a slow disk is not made slower."""
        if self._looking or not self._waiting:
            return
        self._looking = True
        path = self._waiting.pop(0)
        self._background.call(lambda: slide_facts(path), self._seen, lambda error: self._next())

    def _next(self) -> None:
        self._looking = False
        self._look()

    def _seen(self, facts: SlideFacts) -> None:
        self.facts[facts.path] = facts
        item = self._items().get(facts.path)
        if item is not None:
            _show(item, facts, self.tree.palette().text().color().name())
        self.changed.emit()
        self._next()

    def _remove(self) -> None:
        for item in self.tree.selectedItems():
            self.tree.takeTopLevelItem(self.tree.indexOfTopLevelItem(item))
        self.changed.emit()

    def _ask_files(self) -> None:
        files, _ = QFileDialog.getOpenFileNames(self, "Slides")
        self.add(files)

    def _ask_folder(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Folder of slides")
        self.add([folder] if folder else [])


def _show(item: QTreeWidgetItem, facts: SlideFacts, colour: str) -> None:
    item.setText(1, facts.spacing_words if facts.size_px else "")
    item.setText(2, facts.size_words)
    if facts.thumbnail is not None:
        item.setIcon(0, _icon(facts.thumbnail))
    if facts.warnings:
        item.setText(0, f"⚠ {facts.path.name}\n{_short('; '.join(facts.warnings))}")
        for column in range(3):
            item.setToolTip(column, f"<p>{facts.path}</p><p>{'; '.join(facts.warnings)}</p>")


def _short(text: str, longest: int = 60) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _icon(rgb: Any) -> QIcon:
    """A square picture with the thumbnail in its middle."""
    side = THUMBNAIL_PX
    square = np.zeros((side, side, 4), np.uint8)
    height, width = rgb.shape[:2]
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width, :3] = rgb
    square[top : top + height, left : left + width, 3] = 255
    image = QImage(square.tobytes(), side, side, 4 * side, QImage.Format.Format_RGBA8888)
    return QIcon(QPixmap.fromImage(image.copy()))
