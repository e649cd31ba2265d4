"""The dock Lesions: a table to look through, jump, mark, comment, draw and export."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QMenu,
    QPushButton,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from hpc_heatmap.formats.review_file import ReviewJournal, Verdict, default_reviewer
from hpc_heatmap.runs.export import ExportFormat, export_run
from hpc_heatmap.runs.run import RunSlide
from napari_hpc_heatmap._background import Background
from napari_hpc_heatmap._dock_state import dock_state
from napari_hpc_heatmap._lesion_filter import LesionFilter
from napari_hpc_heatmap._lesion_links import LesionLink, go_to
from napari_hpc_heatmap._lesion_list import Column, LesionList
from napari_hpc_heatmap._lesion_table import LesionTable
from napari_hpc_heatmap._outline_panel import OutlinePanel
from napari_hpc_heatmap._review_writer import ReviewWriter
from napari_hpc_heatmap._run_slide_chooser import RunSlideChooser
from napari_hpc_heatmap._shown_slide import SlideShow
from napari_hpc_heatmap._world import World

if TYPE_CHECKING:
    import napari

__all__ = ["KEYS", "LesionsDock"]

#: Keys of the viewer, and what they do.
KEYS = {
    "]": ("Next lesion", "next"),
    "[": ("Previous lesion", "previous"),
    "Shift-C": ("Confirm the lesion", "confirm"),
    "Shift-X": ("Reject the lesion", "reject"),
    "Shift-U": ("Unsure of the lesion", "unsure"),
}
_EXPORTS = {
    "Table (CSV)": ExportFormat.REVIEW_CSV,
    "QuPath (GeoJSON)": ExportFormat.REVIEW_GEOJSON,
    "ASAP, CAMELYON (XML)": ExportFormat.REVIEW_XML,
}


class LesionsDock(QWidget):  # type: ignore[misc]
    """Look through the lesions of a slide and say what they are."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self._state = dock_state(napari_viewer)
        self._background = Background(self)
        self._show_of = SlideShow(napari_viewer, self._say, self)
        self._writer = ReviewWriter()
        self._journals: dict[tuple[Path, str], ReviewJournal] = {}
        self._link: LesionLink | None = None
        self._slide: RunSlide | None = None
        #: A row that is chosen for the layer's or the filter's sake moves nothing.
        self._silent = False
        self.who = default_reviewer()

        self.message = QLabel()
        self.message.setWordWrap(True)
        self.message.hide()
        self.chooser = RunSlideChooser(self._say)
        self.chooser.chosen.connect(self._load)
        self.chooser.show_button.clicked.connect(self.show_slide)
        self.filter = LesionFilter()
        self.filter.changed.connect(self._filter)
        self.model = LesionTable()
        self.table = QTableView()
        self.table.setAccessibleName("lesions")
        self.table.setModel(self.model)
        self.table.setSortingEnabled(True)
        self.table.sortByColumn(Column.SCORE, Qt.SortOrder.DescendingOrder)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.table.verticalHeader().hide()
        self.table.verticalHeader().setDefaultSectionSize(24)
        self.table.horizontalHeader().setStretchLastSection(True)
        # Rows beyond those that are seen are not asked for their width.
        self.table.horizontalHeader().setResizeContentsPrecision(50)
        self.table.selectionModel().currentRowChanged.connect(self._row_chosen)
        self.count = QLabel()

        self.comment = QLineEdit()
        self.comment.setPlaceholderText("comment on the lesion")
        self.comment.setAccessibleName("comment")
        self.comment.editingFinished.connect(self._keep_comment)
        self.outlines = OutlinePanel(napari_viewer, self._keep_outline, self._say)
        self.export_button = self._make_export_button()

        # Wide enough for the first columns and the filters.
        self.setMinimumWidth(380)
        layout = QVBoxLayout(self)
        layout.addWidget(self.chooser)
        layout.addWidget(self.filter)
        layout.addWidget(self.table, 1)
        layout.addWidget(self.count)
        layout.addLayout(self._make_buttons())
        layout.addWidget(self.comment)
        layout.addWidget(self.outlines)
        layout.addWidget(self.export_button)
        layout.addWidget(self.message)
        self._enable()
        self._state.chosen.connect(self.chooser.open_run)
        self._bind_keys()

    # Making

    def _make_buttons(self) -> QHBoxLayout:
        self.actions_by_name: dict[str, Callable[[], None]] = {
            "previous": self.previous,
            "next": self.next,
            "confirm": functools.partial(self.mark, Verdict.CONFIRMED),
            "reject": functools.partial(self.mark, Verdict.REJECTED),
            "unsure": functools.partial(self.mark, Verdict.UNSURE),
            "clear": functools.partial(self.mark, Verdict.UNREVIEWED),
        }
        keys = {name: key for key, (_, name) in KEYS.items()}
        self.buttons: dict[str, QPushButton] = {}
        row = QGridLayout()
        titles = {"previous": "◀", "next": "▶"}
        for position, (name, action) in enumerate(self.actions_by_name.items()):
            button = QPushButton(titles.get(name, name.capitalize()))
            help_text = name.capitalize()
            button.setToolTip(f"{help_text} ({keys[name]})" if name in keys else help_text)
            button.clicked.connect(lambda _=False, action=action: action())
            self.buttons[name] = button
            row.addWidget(button, *divmod(position, 3))
        outer = QHBoxLayout()
        outer.addLayout(row)
        return outer

    def _make_export_button(self) -> QPushButton:
        button = QPushButton("Export the reviewed lesions")
        menu = QMenu(button)
        for title, kind in _EXPORTS.items():
            menu.addAction(title, functools.partial(self.export, kind))
        button.setMenu(menu)
        return button

    def _bind_keys(self) -> None:
        for key, (_, name) in KEYS.items():
            action = self.actions_by_name[name]
            self._viewer.bind_key(key, lambda viewer, action=action: action(), overwrite=True)

    # Which slide

    def show_slide(self) -> None:
        """Show the layers of the slide whose lesions are listed."""
        if self.chooser.run is not None and self._slide is not None:
            self._show_of.show(self.chooser.run, self._slide.id)

    def _load(self) -> None:
        """Read the slide's lesions with their reviews, beside the window."""
        slide = self.chooser.slide
        if slide is None:
            self._show_lesions(LesionList(), None)
            return

        def then(lesions: LesionList) -> None:
            if self.chooser.slide is slide:
                self._show_lesions(lesions, slide)

        self._background.call(
            lambda: LesionList(*slide.lesion_numbers(), slide.entry.spacing_um),
            then,
            lambda error: self._say(f"⚠ {error}"),
        )

    def _show_lesions(self, lesions: LesionList, slide: RunSlide | None) -> None:
        key = self._current_key()
        if self._link is not None:
            self._link.close()
        self._slide = slide
        self._link = (
            LesionLink(self._viewer, slide.id, lesions, self._select) if slide is not None else None
        )
        self.model.set_lesions(lesions)
        self.filter.set_unit(lesions.unit)
        self.table.resizeColumnsToContents()
        if key in lesions.index_of:
            self._select(lesions.index_of[key])
        self._counted()
        self._enable()

    def _filter(self) -> None:
        current = self.current()
        self.model.set_filter(**self.filter.conditions())
        if current is not None:
            self._select(current)
        if self._link is not None:
            self._link.show_only(self.model.rows.tolist())
        self._counted()

    def _counted(self) -> None:
        lesions = self.model.lesions
        reviewed = sum(1 for v in lesions.verdicts.tolist() if v)
        self.count.setText(
            f"{len(self.model.rows):,} of {len(lesions):,} lesions, {reviewed:,} reviewed"
        )

    # Which lesion

    def current(self) -> int | None:
        """Index of the lesion that is looked at."""
        row = self.table.currentIndex().row()
        return int(self.model.rows[row]) if 0 <= row < len(self.model.rows) else None

    def _current_key(self) -> str | None:
        index = self.current()
        return None if index is None else self.model.lesions.keys[index]

    def _select(self, index: int) -> None:
        """Select a lesion in the table, without a jump."""
        row = self.model.row_of(index)
        if row >= 0 and self.current() != index:
            self._silent = True
            self.table.selectRow(row)
            self._silent = False

    def _row_chosen(self, *_: Any) -> None:
        index = self.current()
        self._enable()
        if index is None or self._slide is None:
            return
        self.comment.setText(self.model.lesions.comments[index])
        if self._silent:
            return
        if self._link is not None:
            self._link.select(index)
        self.jump()

    def jump(self) -> None:
        """Put the chosen lesion into the middle of the view."""
        index = self.current()
        if index is None or self._slide is None:
            return
        lesions = self.model.lesions
        spacing_um = self._slide.entry.spacing_um
        area = float(lesions.areas[index])
        area_px = area if spacing_um is None else area * 1e6 / (spacing_um[0] * spacing_um[1])
        go_to(self._viewer, World(spacing_um), lesions.place_px(index), area_px)

    def next(self) -> None:
        """Go to the lesion in the next row; to the first where none is chosen."""
        self._step(1)

    def previous(self) -> None:
        """Go to the lesion in the row before."""
        self._step(-1)

    def _step(self, by: int) -> None:
        if not len(self.model.rows):
            return
        row = self.table.currentIndex().row()
        row = 0 if row < 0 else min(max(row + by, 0), len(self.model.rows) - 1)
        self.table.selectRow(row)

    # What is said of it

    def mark(self, verdict: Verdict) -> None:
        """Say what the chosen lesion is; it is on disk a moment later."""
        index = self.current()
        if index is None:
            return
        lesions = self.model.lesions
        before = lesions.verdict(index), lesions.who[index]
        lesions.set_verdict(index, verdict, self.who)
        self.model.update(index)
        self._counted()
        key, place = lesions.keys[index], lesions.found_at_px(index)

        def undo() -> None:
            lesions.set_verdict(index, *before)
            self.model.update(index)

        self._write(lambda journal: journal.mark(key, verdict, place_px=place), undo)

    def _keep_comment(self) -> None:
        index = self.current()
        text = self.comment.text().strip()
        if index is None or text == self.model.lesions.comments[index]:
            return
        lesions = self.model.lesions
        before = lesions.comments[index]
        lesions.comments[index] = text
        self.model.update(index)
        key, place = lesions.keys[index], lesions.found_at_px(index)

        def undo() -> None:
            lesions.comments[index] = before
            self.model.update(index)

        self._write(lambda journal: journal.comment(key, text, place_px=place), undo)

    def _write(self, event: Callable[[ReviewJournal], Any], undo: Callable[[], None]) -> None:
        """Put an event into the slide's journal; take it back from the table if it cannot be."""
        slide, run = self._slide, self.chooser.run
        if slide is None or run is None:
            return
        journal = self._journals.setdefault((run.root, slide.id), slide.reviews(self.who))

        def failed(error: Exception) -> None:
            undo()
            self._say(f"⚠ Not kept: {error}")

        self._say("")
        self._writer.submit(
            lambda: event(journal),
            lambda error: self._background.call(_nothing, lambda _: failed(error)),
        )

    def _keep_outline(self, key: str | None, polygons: Sequence[Any]) -> None:
        """Keep what was drawn beside the run, and list it."""
        lesions = self.model.lesions
        place = lesions.found_at_px(lesions.index_of[key]) if key in lesions.index_of else None

        def keep(journal: ReviewJournal) -> None:
            if key is None:
                journal.add(polygons)
            else:
                journal.redraw(key, polygons, place_px=place)
            self._background.call(_nothing, lambda _: self._load())

        self._write(keep, lambda: None)

    # Export

    def export(self, kind: ExportFormat) -> None:
        """Write the reviewed lesions of the slide beside the run."""
        run, slide = self.chooser.run, self._slide
        if run is None or slide is None:
            return

        def write() -> Path:
            self._writer.flush()
            return export_run(run, kind, slides=[slide.id]).files[slide.id]

        self._background.call(
            write,
            lambda path: self._say(f"Written: {path}"),
            lambda error: self._say(f"⚠ {error}"),
        )

    def _say(self, text: str) -> None:
        self.message.setText(text)
        self.message.setVisible(bool(text))

    def _enable(self) -> None:
        chosen = self.current() is not None
        for name in ("confirm", "reject", "unsure", "clear"):
            self.buttons[name].setEnabled(chosen)
        self.comment.setEnabled(chosen)
        self.export_button.setEnabled(self._slide is not None)
        self.outlines.set_lesion(self._slide, self._current_key())


def _nothing() -> None:
    """Work that only brings its answer to the window's thread."""
