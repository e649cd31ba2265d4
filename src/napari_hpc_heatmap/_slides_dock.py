"""The dock Slides and Runs: which slides, which model, which settings, what it costs, launch."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from qtpy.QtCore import Qt, QTimer
from qtpy.QtGui import QIcon
from qtpy.QtWidgets import (
    QFormLayout,
    QGroupBox,
    QLabel,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible

from hpc_heatmap.model.descriptor import Descriptor, find_descriptor, read_descriptor
from hpc_heatmap.settings import LaunchSettings, RunSettings, settings_error
from hpc_heatmap.tissue import method_names
from napari_hpc_heatmap._background import Background
from napari_hpc_heatmap._dock_state import dock_state
from napari_hpc_heatmap._engine_command import Request
from napari_hpc_heatmap._run_view import in_words
from napari_hpc_heatmap._settings_form import FileField, SettingsForm
from napari_hpc_heatmap._slide_list_widget import SlideListWidget

if TYPE_CHECKING:
    import napari

__all__ = ["SlidesDock", "cost_in_words", "model_in_words"]

#: Settings that are being typed are not tried at every key.
_PAUSE_MS = 800


class SlidesDock(QWidget):  # type: ignore[misc]
    """Choose slides, a model and settings; see what they cost; launch."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__()
        self._state = dock_state(napari_viewer)
        self._background = Background(self)
        self._estimating = False
        self._estimated: Request | None = None
        self.slides = SlideListWidget()
        self.slides.changed.connect(self._changed)
        self.slides.problem.connect(self._say)

        self.model = FileField("Model file", "Models (*.pt2 *.onnx *.pt)")
        self.model.line.setAccessibleName("model")
        self.model.changed.connect(self._model_changed)
        self.about_model = _wrapped("")
        self.out = FileField("Folder for the run", folder=True)
        self.out.line.setPlaceholderText("a new folder")
        self.out.line.setAccessibleName("run directory")
        self.out.changed.connect(self._changed)

        rows = QFormLayout()
        rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        self.request = SettingsForm(RunSettings, rows, {"tissue_method": method_names()})
        launch_rows = QFormLayout()
        launch_rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        self.where = SettingsForm(LaunchSettings, launch_rows)
        self.request.changed.connect(self._changed)
        self.where.changed.connect(self._changed)

        self.cost = _wrapped("")
        self.launch_button = QPushButton("Launch")
        self.launch_button.clicked.connect(self.launch)
        self.message = _wrapped("")

        page = QWidget()
        layout = QVBoxLayout(page)
        layout.addWidget(self.slides, 1)
        files = QFormLayout()
        files.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        files.addRow("Model", self.model)
        files.addRow("", self.about_model)
        files.addRow("Run in", self.out)
        layout.addLayout(files)
        layout.addWidget(_folded("What to compute", rows))
        layout.addWidget(_folded("Where it runs", launch_rows))
        costs = QGroupBox("What it will cost")
        QVBoxLayout(costs).addWidget(self.cost)
        layout.addWidget(costs)
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QScrollArea.Shape.NoFrame)
        scroll.setWidget(page)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        # Wide enough for a name, a spacing and a size in a row.
        self.setMinimumWidth(400)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(scroll, 1)
        outer.addWidget(self.message)
        outer.addWidget(self.launch_button)

        self._pause = QTimer(self)
        self._pause.setSingleShot(True)
        self._pause.setInterval(_PAUSE_MS)
        self._pause.timeout.connect(self._estimate)
        self._changed()

    def asked(self) -> Request:
        """What the dock asks for now."""
        options = {**self.request.values(), **self.where.values()}
        if "profile" in options:
            # The profile says which cluster.
            options.pop("cluster", None)
        slides = tuple(map(str, self.slides.paths()))
        return Request(slides, self.model.value, tuple(options.items()))

    def _say(self, text: str) -> None:
        self.message.setText(text)
        self.message.setVisible(bool(text))

    def _model_changed(self) -> None:
        path = Path(self.model.value)
        self._background.call(
            lambda: read_descriptor(find_descriptor(path)),
            lambda descriptor: self._model_read(path, descriptor),
            lambda error: self._model_failed(path, error),
        )
        self._changed()

    def _model_read(self, path: Path, descriptor: Descriptor) -> None:
        if str(path) == self.model.value:
            self.about_model.setText(model_in_words(descriptor))

    def _model_failed(self, path: Path, error: Exception) -> None:
        if str(path) == self.model.value:
            self.about_model.setText(f"⚠ {error}" if self.model.value else "")

    def _changed(self) -> None:
        """Anything was chosen: say what is missing, or what it costs after a pause."""
        asked = self.asked()
        problem = asked.problem or self._wrong_setting()
        self._say("")
        self.launch_button.setEnabled(not problem)
        if problem:
            self.cost.setText(problem)
            self._pause.stop()
        elif asked != self._estimated:
            self.cost.setText("Being estimated …")
            self._pause.start()

    def _wrong_setting(self) -> str:
        for form in (self.request, self.where):
            try:
                form.check()
            except ValidationError as error:
                return str(settings_error(error))
        return ""

    def _estimate(self) -> None:
        """Estimate once what was asked last: no more than one estimate is under way."""
        asked = self.asked()
        if self._estimating or asked.problem or self._wrong_setting():
            return
        self._estimating = True

        def known(text: str) -> None:
            self._estimating = False
            if self.asked() == asked:
                self._estimated = asked
                self.cost.setText(text)
            else:
                self._pause.start()

        self._background.call(
            asked.cost, lambda cost: known(cost_in_words(cost)), lambda error: known(f"⚠ {error}")
        )

    def launch(self) -> None:
        """Plan the run and start it, outside of napari."""
        asked = self.asked()
        if not self.out.value:
            name = f"run-{time.strftime('%Y%m%d-%H%M%S')}"
            self.out.value = str(Path(asked.slides[0]).parent / name)
        out = Path(os.path.abspath(self.out.value))
        self.launch_button.setEnabled(False)
        self._say("Checking slides and model …")
        self._background.call(
            lambda: asked.launch(str(out)), lambda _: self._launched(out), self._not_launched
        )

    def _launched(self, out: Path) -> None:
        self.launch_button.setEnabled(True)
        self.out.value = ""
        self._say(f"{out} goes on by itself; the Monitor follows it.")
        self._state.choose(out)

    def _not_launched(self, error: Exception) -> None:
        self.launch_button.setEnabled(True)
        self._say(f"⚠ {error}")


def _wrapped(text: str) -> QLabel:
    label = QLabel(text)
    label.setWordWrap(True)
    return label


def _folded(title: str, rows: QFormLayout) -> QCollapsible:
    inside = QWidget()
    inside.setLayout(rows)
    # An icon would keep the colour of one theme; a sign in the text has the text's.
    folded = QCollapsible(title, expandedIcon=QIcon(), collapsedIcon=QIcon())

    def mark(opened: bool) -> None:
        folded.setText(f"{'▾' if opened else '▸'}  {title}")

    folded.toggled.connect(mark)
    mark(False)
    folded.setDuration(0)
    folded.addWidget(inside)
    return folded


def model_in_words(descriptor: Descriptor) -> str:
    """What a descriptor says of its model."""
    lesion = descriptor.lesion_class or (
        descriptor.class_names[0] if len(descriptor.class_names) == 1 else None
    )
    classes = ", ".join(descriptor.class_names)
    spacing = f"{descriptor.spacing_um_px:g} µm" if descriptor.spacing_um_px else "level 0"
    words = [
        descriptor.name or descriptor.architecture or "model",
        f"windows of {descriptor.patch_size_pixels} px at {spacing}",
        f"classes {classes}",
        f"lesion class {lesion}" if lesion else "⚠ name the lesion class below",
    ]
    return "; ".join(words)


def cost_in_words(cost: Mapping[str, Any]) -> str:
    """What `plan --json` says, in one line."""
    return (
        f"{cost['cells']:,} patches in {cost['groups']:,} groups, {cost['windows']:,} windows; "
        f"{_bytes(cost['bytes'])} on disk; {_hours(cost['core_hours'])} of one core, "
        f"{_hours(cost['wall_hours'])} in all"
    )


def _bytes(n: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:.0f} {unit}"
        n /= 1000
    return f"{n:.1f} TB"


def _hours(hours: float) -> str:
    return in_words(hours * 3600)
