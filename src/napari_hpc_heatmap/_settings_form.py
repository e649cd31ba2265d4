"""A form made from the engine's settings: names, defaults, choices and help are written there."""

from __future__ import annotations

import types
from enum import Enum
from pathlib import Path
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from qtpy.QtCore import QObject, Qt, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLineEdit,
    QSizePolicy,
    QToolButton,
    QWidget,
)

__all__ = ["FileField", "SettingsForm"]


class FileField(QWidget):  # type: ignore[misc]
    """A path with a button that opens a file dialog."""

    changed = Signal()

    def __init__(self, title: str, pattern: str = "", *, folder: bool = False) -> None:
        super().__init__()
        self._title, self._pattern, self._folder = title, pattern, folder
        self.line = QLineEdit()
        self.line.textChanged.connect(self.changed)
        button = QToolButton()
        button.setText("…")
        button.setToolTip(title)
        button.clicked.connect(self._choose)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.line)
        layout.addWidget(button)

    @property
    def value(self) -> str:
        """The path as text, empty where none is given."""
        return str(self.line.text()).strip()

    @value.setter
    def value(self, path: str) -> None:
        self.line.setText(path)

    def _choose(self) -> None:
        if self._folder:
            path = QFileDialog.getExistingDirectory(self, self._title, self.value)
        else:
            path, _ = QFileDialog.getOpenFileName(self, self._title, self.value, self._pattern)
        if path:
            self.value = path


class SettingsForm(QObject):  # type: ignore[misc]
    """Rows of a form layout, one a setting of a pydantic class. An empty row means its default.

    Parameters
    ----------
    settings
        The class.
    layout
        Where the rows go.
    choices
        For settings that are text: what may be chosen, by their names.
    """

    changed = Signal()

    def __init__(
        self,
        settings: type[BaseModel],
        layout: QFormLayout,
        choices: dict[str, list[str]] | None = None,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.fields: dict[str, QWidget] = {}
        for name, field in settings.model_fields.items():
            kind = _kind(field.annotation)
            options = (choices or {}).get(name) or _options(kind)
            default = "" if field.default in (None, PydanticUndefined) else _text(field.default)
            widget = self._widget(name, kind, options, default)
            widget.setToolTip(f"<p>{field.description or name}</p>")
            widget.setAccessibleName(name)
            self.fields[name] = widget
            layout.addRow(name.replace("_", " ").capitalize(), widget)

    def _widget(self, name: str, kind: type, options: list[str] | None, default: str) -> QWidget:
        if options:
            box = QComboBox()
            box.addItems(options)
            box.setCurrentText(default)
            # Names may be long, docks are narrow.
            box.setSizeAdjustPolicy(
                QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
            )
            box.setMinimumContentsLength(6)
            box.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
            box.currentTextChanged.connect(self.changed)
            return box
        if issubclass(kind, Path):
            field = FileField(name.replace("_", " ").capitalize())
            field.line.setPlaceholderText("none")
            field.changed.connect(self.changed)
            return field
        line = QLineEdit()
        line.setPlaceholderText(default or "default")
        line.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        line.textChanged.connect(self.changed)
        return line

    def set(self, name: str, value: str) -> None:
        """Fill in a row."""
        widget = self.fields[name]
        if isinstance(widget, QComboBox):
            widget.setCurrentText(value)
        elif isinstance(widget, FileField):
            widget.value = value
        else:
            widget.setText(value)

    def values(self) -> dict[str, str]:
        """What was filled in, as text by name; without what is left at its default."""
        found = {}
        for name, widget in self.fields.items():
            if isinstance(widget, QComboBox):
                text = widget.currentText()
            elif isinstance(widget, FileField):
                text = widget.value
            else:
                text = widget.text().strip()
            default = self.settings.model_fields[name].default
            if text and text != _text(default):
                found[name] = text
        return found

    def check(self) -> None:
        """Validate what was filled in.

        Raises
        ------
        pydantic.ValidationError
            A value cannot be.
        """
        self.settings(**self.values())


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value.value) if isinstance(value, Enum) else str(value)


def _options(kind: type) -> list[str]:
    """What may be chosen of a class; empty where anything may be written."""
    if issubclass(kind, Enum):
        return [_text(member) for member in kind]
    return ["no", "yes"] if kind is bool else []


def _kind(annotation: Any) -> type:
    """The class of a setting that may be None or annotated."""
    if get_origin(annotation) in (types.UnionType, Union):
        annotation = next(a for a in get_args(annotation) if a is not type(None))
    while get_origin(annotation) is not None:
        annotation = get_args(annotation)[0]
    return annotation if isinstance(annotation, type) else str
