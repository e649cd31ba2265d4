"""The dock Heatmap: threshold, opacity, colour and look of the heatmaps in the viewer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox, QFormLayout, QLabel, QPushButton, QWidget
from superqt import QLabeledDoubleSlider
from superqt.utils import signals_blocked

from napari_hpc_heatmap._heatmap_colours import COLOURS
from napari_hpc_heatmap._keys import bind_keys, toggle_heatmaps
from napari_hpc_heatmap._overlay import HeatmapLayer, Look
from napari_hpc_heatmap._side_by_side import are_side_by_side, toggle_side_by_side

if TYPE_CHECKING:
    import napari

__all__ = ["HeatmapDock"]

_LOOK_NAMES = {Look.FILL: "areas", Look.CONTOUR: "contours"}


class HeatmapDock(QWidget):  # type: ignore[misc]
    """Controls of one heatmap at a time: the one that is selected in the layer list, if one is.

    Parameters
    ----------
    napari_viewer
        The viewer whose heatmaps are controlled.
    """

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__()
        bind_keys()
        self.viewer = viewer = napari_viewer
        self._layer: HeatmapLayer | None = None
        self.layers = QComboBox()
        self.layers.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.layers.setMinimumContentsLength(12)
        self.threshold = _slider("Scores below it are not shown; contours run along it.")
        self.opacity = _slider("Opacity of the whole heatmap.")
        self.colour = QComboBox()
        self.colour.addItems(list(COLOURS))
        self.look = QComboBox()
        self.look.addItems([_LOOK_NAMES[look] for look in Look])
        self.toggle = QPushButton("Hide or show (H)")
        self.side_by_side = QPushButton()
        self.side_by_side.setToolTip("Each heatmap of the slide over the slide, in a grid.")
        self.hint = QLabel("Open a heatmap or a run directory.")
        self.hint.setWordWrap(True)
        # Wide enough for its title.
        self.setMinimumWidth(300)
        form = QFormLayout(self)
        form.addRow("heatmap:", self.layers)
        form.addRow("threshold:", self.threshold)
        form.addRow("opacity:", self.opacity)
        form.addRow("colour:", self.colour)
        form.addRow("show as:", self.look)
        form.addRow(self.toggle)
        form.addRow(self.side_by_side)
        form.addRow(self.hint)

        self.layers.currentIndexChanged.connect(self._choose)
        self.threshold.valueChanged.connect(lambda value: self._set("threshold", value))
        self.opacity.valueChanged.connect(lambda value: self._set("opacity", value))
        self.colour.currentTextChanged.connect(lambda text: self._set("colour", text))
        self.look.currentIndexChanged.connect(lambda index: self._set("look", list(Look)[index]))
        self.toggle.clicked.connect(lambda: toggle_heatmaps(self.viewer))
        self.side_by_side.clicked.connect(self._toggle_grid)
        viewer.canvas.grid.events.enabled.connect(self._name_grid)
        viewer.layers.events.inserted.connect(self._list)
        viewer.layers.events.removed.connect(self._list)
        viewer.layers.selection.events.changed.connect(self._follow_selection)
        self._list()

    def closeEvent(self, event: object) -> None:  # noqa: N802 - Qt's name
        """Let go of the viewer."""
        self.viewer.canvas.grid.events.enabled.disconnect(self._name_grid)
        self.viewer.layers.events.inserted.disconnect(self._list)
        self.viewer.layers.events.removed.disconnect(self._list)
        self.viewer.layers.selection.events.changed.disconnect(self._follow_selection)
        self._attach(None)
        super().closeEvent(event)

    def _heatmaps(self) -> list[HeatmapLayer]:
        return [layer for layer in self.viewer.layers if isinstance(layer, HeatmapLayer)]

    def _list(self, event: object = None) -> None:
        layers = self._heatmaps()
        with signals_blocked(self.layers):
            self.layers.clear()
            self.layers.addItems([layer.name for layer in layers])
        if self._layer in layers:
            self.layers.setCurrentIndex(layers.index(self._layer))
        else:
            self._attach(layers[-1] if layers else None)
        self.hint.setVisible(not layers)
        self._name_grid()

    def _toggle_grid(self) -> None:
        toggle_side_by_side(self.viewer)
        self._name_grid()

    def _name_grid(self, event: object = None) -> None:
        """Say what the button does now."""
        there = are_side_by_side(self.viewer)
        self.side_by_side.setText("Over each other again" if there else "Side by side")
        self.side_by_side.setEnabled(there or len(self._heatmaps()) > 1)

    def _follow_selection(self, event: object = None) -> None:
        active = self.viewer.layers.selection.active
        if isinstance(active, HeatmapLayer):
            self._attach(active)

    def _choose(self, index: int) -> None:
        layers = self._heatmaps()
        if 0 <= index < len(layers):
            self._attach(layers[index])

    def _attach(self, layer: HeatmapLayer | None) -> None:
        """Control another heatmap."""
        if self._layer is not None:
            for name in ("threshold", "opacity", "colour", "look"):
                getattr(self._layer.events, name).disconnect(self._show)
        self._layer = layer
        for widget in (self.threshold, self.opacity, self.colour, self.look, self.toggle):
            widget.setEnabled(layer is not None)
        if layer is None:
            return
        for name in ("threshold", "opacity", "colour", "look"):
            getattr(layer.events, name).connect(self._show)
        with signals_blocked(self.layers):
            self.layers.setCurrentIndex(self._heatmaps().index(layer))
        self._show()

    def _show(self, event: object = None) -> None:
        """Show what the heatmap has."""
        layer = self._layer
        if layer is None:
            return
        for widget, value in ((self.threshold, layer.threshold), (self.opacity, layer.opacity)):
            with signals_blocked(widget):
                widget.setValue(value)
        with signals_blocked(self.colour), signals_blocked(self.look):
            self.colour.setCurrentText(layer.colour)
            self.look.setCurrentIndex(list(Look).index(layer.look))

    def _set(self, name: str, value: object) -> None:
        if self._layer is not None:
            setattr(self._layer, name, value)


def _slider(tip: str) -> QLabeledDoubleSlider:
    slider = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
    slider.setRange(0.0, 1.0)
    slider.setDecimals(2)
    slider.setToolTip(tip)
    return slider
