"""Which lesions the table shows."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QDoubleSpinBox, QGridLayout, QLineEdit, QWidget

from hpc_heatmap.formats.review_file import Verdict

__all__ = ["LesionFilter"]

_ALL = "all"


class LesionFilter(QWidget):  # type: ignore[misc]
    """Conditions of :meth:`LesionList.rows`, chosen by hand."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.verdict = QComboBox()
        self.verdict.setAccessibleName("review")
        self.verdict.addItems([_ALL, *(verdict.value for verdict in Verdict)])
        self.least_score = QDoubleSpinBox()
        self.least_score.setRange(0, 1)
        self.least_score.setSingleStep(0.05)
        self.least_score.setPrefix("score ≥ ")
        self.least_area = QDoubleSpinBox()
        self.least_area.setRange(0, 1e9)
        self.least_area.setPrefix("area ≥ ")
        self.text = QLineEdit()
        self.text.setPlaceholderText("find")
        self.text.setToolTip("Number or comment of a lesion")
        self.text.setClearButtonEnabled(True)
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.verdict, 0, 0)
        layout.addWidget(self.least_score, 0, 1)
        layout.addWidget(self.text, 1, 0)
        layout.addWidget(self.least_area, 1, 1)
        for signal in (
            self.verdict.currentTextChanged,
            self.least_score.valueChanged,
            self.least_area.valueChanged,
            self.text.textChanged,
        ):
            signal.connect(self._tell)
        self.set_unit("px²")

    def _tell(self, *_: Any) -> None:
        self.changed.emit()

    def set_unit(self, unit: str) -> None:
        """Say what areas are counted in."""
        self.least_area.setDecimals(0 if unit == "px²" else 3)
        self.least_area.setSuffix(f" {unit}")

    def conditions(self) -> dict[str, Any]:
        """Arguments of :meth:`LesionList.rows`."""
        chosen = self.verdict.currentText()
        return {
            "verdict": None if chosen == _ALL else Verdict(chosen),
            "least_score": self.least_score.value(),
            "least_area": self.least_area.value(),
            "text": self.text.text().strip(),
        }
