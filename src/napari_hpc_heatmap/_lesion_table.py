"""The table of lesions as Qt's item views want it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt

from hpc_heatmap.formats.review_file import Verdict
from napari_hpc_heatmap._lesion_list import Column, LesionList

__all__ = ["LesionTable"]

_RIGHT = int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
_NUMBERS = {Column.SCORE, Column.AREA, Column.X, Column.Y}


class LesionTable(QAbstractTableModel):  # type: ignore[misc]
    """Rows of a :class:`LesionList` that pass a filter, in the order of a column.

    Sorting and filtering are done by numpy on whole columns: Qt's own proxy asks for each cell, and
    takes seconds for 100,000 lesions.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lesions = LesionList()
        self.rows: npt.NDArray[np.intp] = np.empty(0, np.intp)
        self._row_of: npt.NDArray[np.intp] = np.empty(0, np.intp)
        self._filter: dict[str, Any] = {}
        self._sorted: tuple[Column, bool] = (Column.LESION, False)

    def set_lesions(self, lesions: LesionList) -> None:
        """Show other lesions."""
        self.beginResetModel()
        self.lesions = lesions
        self._arrange()
        self.endResetModel()

    def set_filter(self, **conditions: Any) -> None:
        """Show what passes; the conditions are those of :meth:`LesionList.rows`."""
        self.beginResetModel()
        self._filter = conditions
        self._arrange()
        self.endResetModel()

    def sort(self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder) -> None:
        """Sort by a column, as a click on its head asks."""
        self.layoutAboutToBeChanged.emit()
        before = self.persistentIndexList()
        lesions = [int(self.rows[index.row()]) for index in before]
        self._sorted = (Column(max(0, column)), order == Qt.SortOrder.DescendingOrder)
        self._arrange()
        after = [
            self.index(self.row_of(lesion), index.column())
            for lesion, index in zip(lesions, before, strict=True)
        ]
        self.changePersistentIndexList(before, after)
        self.layoutChanged.emit()

    def _arrange(self) -> None:
        column, descending = self._sorted
        self.rows = self.lesions.sort(
            self.lesions.rows(**self._filter), column, descending=descending
        )
        self._row_of = np.full(len(self.lesions), -1, np.intp)
        self._row_of[self.rows] = np.arange(len(self.rows))

    def row_of(self, lesion: int) -> int:
        """Row of a lesion given by its index in the list; -1 where it is filtered out."""
        return int(self._row_of[lesion])

    def update(self, lesion: int) -> None:
        """A lesion's review has changed; it stays in its row until the table is filtered anew."""
        row = self.row_of(lesion)
        if row >= 0:
            self.dataChanged.emit(self.index(row, Column.REVIEW), self.index(row, Column.COMMENT))

    def rowCount(self, parent: QModelIndex | None = None) -> int:
        """Number of rows that pass the filter."""
        return 0 if parent is not None and parent.isValid() else len(self.rows)

    def columnCount(self, parent: QModelIndex | None = None) -> int:
        """Number of columns."""
        return 0 if parent is not None and parent.isValid() else len(Column)

    def headerData(
        self,
        section: int,
        orientation: Qt.Orientation,
        role: int = Qt.ItemDataRole.DisplayRole,
    ) -> Any:
        """Heads of the columns."""
        if orientation != Qt.Orientation.Horizontal or role != Qt.ItemDataRole.DisplayRole:
            return None
        area = f"Area {self.lesions.unit}"
        return ("Lesion", "Score", area, "Review", "x px", "y px", "Comment")[section]

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """What a cell shows."""
        if not index.isValid():
            return None
        column = Column(index.column())
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return _RIGHT if column in _NUMBERS else None
        if role not in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.ToolTipRole):
            return None
        lesion = int(self.rows[index.row()])
        if role == Qt.ItemDataRole.ToolTipRole:
            return self._help(lesion, column)
        return self._text(lesion, column)

    def _text(self, lesion: int, column: Column) -> str:
        lesions = self.lesions
        if column is Column.LESION:
            return lesions.keys[lesion]
        if column is Column.SCORE:
            score = lesions.scores[lesion]
            return "" if np.isnan(score) else f"{score:.3f}"
        if column is Column.AREA:
            digits = 0 if lesions.spacing_um is None else 4
            return f"{lesions.areas[lesion]:,.{digits}f}"
        if column is Column.X:
            return f"{lesions.x_px[lesion]:,.0f}"
        if column is Column.Y:
            return f"{lesions.y_px[lesion]:,.0f}"
        if column is Column.REVIEW:
            verdict = lesions.verdict(lesion)
            return "" if verdict is Verdict.UNREVIEWED else verdict.value
        return lesions.comments[lesion]

    def _help(self, lesion: int, column: Column) -> str | None:
        if column is Column.REVIEW and self.lesions.who[lesion]:
            return f"by {self.lesions.who[lesion]}"
        return self.lesions.comments[lesion] or None if column is Column.COMMENT else None
