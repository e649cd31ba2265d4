"""Buttons to draw an outline, or draw one anew, and to keep what was drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from qtpy.QtWidgets import QGridLayout, QPushButton, QWidget

from hpc_heatmap.runs.run import RunSlide
from napari_hpc_heatmap._background import Background
from napari_hpc_heatmap._outline_drawing import OutlineDrawing
from napari_hpc_heatmap._world import World

__all__ = ["OutlinePanel"]

Keep = Callable[[str | None, Sequence[Any]], None]


class OutlinePanel(QWidget):  # type: ignore[misc]
    """One outline at a time.

    Parameters
    ----------
    viewer
        The viewer.
    keep
        Called with the lesion's key (None for a new one) and the polygons that were drawn.
    say
        Called with what the user should know.
    """

    def __init__(self, viewer: Any, keep: Keep, say: Callable[[str], None]) -> None:
        super().__init__()
        self._viewer, self._keep, self._say = viewer, keep, say
        self._background = Background(self)
        self._slide: RunSlide | None = None
        self._key: str | None = None
        self._drawing: tuple[OutlineDrawing, str | None] | None = None
        self.draw_button = self._button("Draw new", self.draw, "Outline what was not found")
        self.redraw_button = self._button(
            "Redraw", self.redraw, "Change the outline of the lesion; the machine's stays"
        )
        self.keep_button = self._button("Keep outline", self.keep, "Put it beside the run")
        self.discard_button = self._button("Discard", self.discard, "Forget what was drawn")
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.draw_button, 0, 0)
        layout.addWidget(self.redraw_button, 0, 1)
        layout.addWidget(self.keep_button, 1, 0)
        layout.addWidget(self.discard_button, 1, 1)
        self._enable()

    @staticmethod
    def _button(title: str, act: Callable[[], None], help_text: str) -> QPushButton:
        button = QPushButton(title)
        button.setToolTip(help_text)
        button.clicked.connect(lambda _=False: act())
        return button

    def set_lesion(self, slide: RunSlide | None, key: str | None) -> None:
        """Which slide is drawn on, and which lesion may be drawn anew."""
        if slide is not self._slide and self._drawing is not None:
            self.discard()
        self._slide, self._key = slide, key
        self._enable()

    def draw(self) -> None:
        """Begin an outline of what was not found."""
        if self._slide is not None and self._drawing is None:
            world = World(self._slide.entry.spacing_um)
            self._drawing = OutlineDrawing(self._viewer, world), None
            self._say("Draw a polygon on the slide, then keep it.")
            self._enable()

    def redraw(self) -> None:
        """Begin with the outline of the chosen lesion, read beside the window."""
        slide, key = self._slide, self._key
        if slide is None or key is None or self._drawing is not None:
            return

        def begin(polygons: Any) -> None:
            if self._drawing is None and self._slide is slide:
                drawing = OutlineDrawing(self._viewer, World(slide.entry.spacing_um), polygons)
                self._drawing = drawing, key
                self._say(f"Move the points of lesion {key}, then keep it.")
                self._enable()

        self._background.call(
            lambda: next(entry.lesion.polygons for entry in slide.lesions() if entry.key == key),
            begin,
            lambda error: self._say(f"⚠ {error}"),
        )

    def keep(self) -> None:
        """Give away what was drawn."""
        if self._drawing is None:
            return
        drawing, key = self._drawing
        polygons = drawing.polygons() if drawing.is_there else []
        if not polygons:
            self._say("⚠ Nothing is drawn: draw a polygon, or discard it.")
            return
        self.discard()
        self._keep(key, polygons)

    def discard(self) -> None:
        """Forget what was drawn."""
        if self._drawing is not None:
            self._drawing[0].close()
        self._drawing = None
        self._say("")
        self._enable()

    def _enable(self) -> None:
        drawing = self._drawing is not None
        self.draw_button.setEnabled(self._slide is not None and not drawing)
        self.redraw_button.setEnabled(self._key is not None and not drawing)
        self.keep_button.setVisible(drawing)
        self.discard_button.setVisible(drawing)
