"""Which slide of a run: those that are done, as they come."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QGridLayout, QLabel, QPushButton, QWidget

from hpc_heatmap import Run
from hpc_heatmap.runs.run import RunSlide
from hpc_heatmap.runs.status import State
from napari_hpc_heatmap._background import Poller

__all__ = ["RunSlideChooser"]

_EVERY_S = 3.0


class RunSlideChooser(QWidget):  # type: ignore[misc]
    """Offers the slides of a run that have their lesions, and looks again until all have.

    Parameters
    ----------
    say
        Called with what the user should know.
    """

    #: Another slide is looked at, or none.
    chosen = Signal()

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__()
        self._say = say
        self._poller: Poller | None = None
        self._done: frozenset[str] = frozenset()
        self.run: Run | None = None
        self.slide: RunSlide | None = None
        self.title = QLabel("Open a run in the Monitor.")
        self.title.setWordWrap(True)
        self.names = QComboBox()
        self.names.setAccessibleName("slide")
        self.names.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.names.setMinimumContentsLength(12)
        self.names.currentTextChanged.connect(self._choose)
        self.show_button = QPushButton("Show")
        self.show_button.setToolTip("Show the slide with its heatmap and lesions")
        self.show_button.setEnabled(False)
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setColumnStretch(0, 1)
        layout.addWidget(self.title, 0, 0, 1, 2)
        layout.addWidget(self.names, 1, 0)
        layout.addWidget(self.show_button, 1, 1)

    def open_run(self, root: Path) -> None:
        """Look at another run."""
        if self._poller is not None:
            self._poller.stop()
        self.run, self._done = None, frozenset()
        self.title.setText(str(root))
        self._offer([])

        def look() -> tuple[Run, frozenset[str], bool]:
            run = Run(root)
            status = run.status()
            done = frozenset(k for k, s in status.slides.items() if s.state is State.DONE)
            return run, done, status.state is State.RUNNING

        self._poller = Poller(
            look,
            self._looked,
            lambda error: self._say(f"⚠ {error}"),
            lambda s: self._say(f"⚠ unreachable: the run's disk has not answered for {s:.0f} s"),
            every_s=_EVERY_S,
            parent=self,
        )
        self._poller.start()

    def _looked(self, found: tuple[Run, frozenset[str], bool]) -> None:
        run, done, running = found
        self.run = run
        names = [name for name in run.slides if name in done]
        self.title.setText(f"{run.root.name}: {len(names)} of {len(run.slides)} slides are done")
        self.title.setToolTip(str(run.root))
        if done != self._done:
            self._done = done
            self._offer(names)
        if not running and self._poller is not None and len(done) == len(run.slides):
            self._poller.stop()

    def _offer(self, names: list[str]) -> None:
        current = self.names.currentText()
        self.names.blockSignals(True)
        self.names.clear()
        self.names.addItems(names)
        if current in names:
            self.names.setCurrentText(current)
        self.names.blockSignals(False)
        self._choose(self.names.currentText())

    def _choose(self, name: str) -> None:
        slide = self.run.slides.get(name) if self.run is not None else None
        before, self.slide = self.slide, slide
        self.show_button.setEnabled(slide is not None)
        if slide is None or before is None or slide.files != before.files:
            self.chosen.emit()
