"""The dock Lesions: a table to look through, jump, mark, comment, draw and export."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QDoubleSpinBox,
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

from hpc_heatmap import Run
from hpc_heatmap.formats.review_file import ReviewJournal, Verdict, default_reviewer
from hpc_heatmap.runs.export import ExportFormat, export_run
from hpc_heatmap.runs.run import RunSlide
from hpc_heatmap.runs.status import State
from napari_hpc_heatmap._background import Background, Poller
from napari_hpc_heatmap._dock_state import dock_state
from napari_hpc_heatmap._lesion_links import LesionLink, go_to
from napari_hpc_heatmap._lesion_list import Column, LesionList
from napari_hpc_heatmap._lesion_table import LesionTable
from napari_hpc_heatmap._outline_drawing import OutlineDrawing
from napari_hpc_heatmap._review_writer import ReviewWriter
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
        self._writer = ReviewWriter()
        self._journals: dict[tuple[Path, str], ReviewJournal] = {}
        self._run: Run | None = None
        self._poller: Poller | None = None
        self._done: frozenset[str] = frozenset()
        self._shown: tuple[Path, str] | None = None
        self._link: LesionLink | None = None
        self._drawing: tuple[OutlineDrawing, str | None] | None = None
        self.who = default_reviewer()

        self.title = QLabel("Open a run in the Monitor.")
        self.title.setWordWrap(True)
        self.slides = QComboBox()
        self.slides.setAccessibleName("slide")
        self.slides.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.slides.setMinimumContentsLength(12)
        self.slides.currentTextChanged.connect(self._load)

        self.verdict_filter = QComboBox()
        self.verdict_filter.addItems(["all", *(verdict.value for verdict in Verdict)])
        self.least_score = QDoubleSpinBox()
        self.least_score.setRange(0, 1)
        self.least_score.setSingleStep(0.05)
        self.least_score.setPrefix("score ≥ ")
        self.least_area = QDoubleSpinBox()
        self.least_area.setRange(0, 1e9)
        self.least_area.setDecimals(3)
        self.text_filter = QLineEdit()
        self.text_filter.setPlaceholderText("number or comment")
        self.text_filter.setClearButtonEnabled(True)
        self.verdict_filter.currentTextChanged.connect(self._filter)
        self.least_score.valueChanged.connect(self._filter)
        self.least_area.valueChanged.connect(self._filter)
        self.text_filter.textChanged.connect(self._filter)
        filters = QGridLayout()
        filters.addWidget(self.verdict_filter, 0, 0)
        filters.addWidget(self.least_score, 0, 1)
        filters.addWidget(self.text_filter, 1, 0)
        filters.addWidget(self.least_area, 1, 1)

        self.model = LesionTable()
        self.table = QTableView()
        self.table.setAccessibleName("lesions")
        self.table.setModel(self.model)
        self.table.setSortingEnabled(True)
        self.table.sortByColumn(Column.SCORE, Qt.SortOrder.DescendingOrder)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.table.setAlternatingRowColors(True)
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
        self.message = QLabel()
        self.message.setWordWrap(True)
        self.message.hide()

        layout = QVBoxLayout(self)
        layout.addWidget(self.title)
        layout.addWidget(self.slides)
        layout.addLayout(filters)
        layout.addWidget(self.table, 1)
        layout.addWidget(self.count)
        layout.addLayout(self._make_buttons())
        layout.addWidget(self.comment)
        layout.addLayout(self._make_drawing_buttons())
        layout.addWidget(self.message)
        self._enable()
        self._state.chosen.connect(self._choose)
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

    def _make_drawing_buttons(self) -> QGridLayout:
        self.draw_button = QPushButton("Draw new")
        self.draw_button.setToolTip("Outline a lesion that was not found")
        self.draw_button.clicked.connect(self.draw)
        self.redraw_button = QPushButton("Redraw")
        self.redraw_button.setToolTip("Change the outline of the lesion; the machine's is kept")
        self.redraw_button.clicked.connect(self.redraw)
        self.keep_button = QPushButton("Keep outline")
        self.keep_button.clicked.connect(self.keep_outline)
        self.discard_button = QPushButton("Discard")
        self.discard_button.clicked.connect(self.discard_outline)
        self.export_button = QPushButton("Export")
        menu = QMenu(self.export_button)
        for title, kind in _EXPORTS.items():
            menu.addAction(title, functools.partial(self.export, kind))
        self.export_button.setMenu(menu)
        row = QGridLayout()
        for column, button in enumerate((self.draw_button, self.redraw_button, self.export_button)):
            row.addWidget(button, 0, column)
        row.addWidget(self.keep_button, 1, 0)
        row.addWidget(self.discard_button, 1, 1)
        return row

    def _bind_keys(self) -> None:
        for key, (_, name) in KEYS.items():
            action = self.actions_by_name[name]
            self._viewer.bind_key(key, lambda viewer, action=action: action(), overwrite=True)

    # Which run and slide

    def _choose(self, root: Path) -> None:
        """Look at another run, and again until it is done."""
        if self._poller is not None:
            self._poller.stop()
        self._run, self._done, self._shown = None, frozenset(), None
        self.title.setText(str(root))
        self.slides.blockSignals(True)
        self.slides.clear()
        self.slides.blockSignals(False)
        self._show_lesions(LesionList([]), None)

        def look() -> tuple[Run, frozenset[str], bool]:
            run = self._run or Run(root)
            status = run.status()
            done = frozenset(k for k, s in status.slides.items() if s.state is State.DONE)
            return run, done, status.state is State.RUNNING

        self._poller = Poller(
            look,
            self._looked,
            lambda error: self._say(f"⚠ {error}"),
            lambda s: self._say(f"⚠ unreachable: the run's disk has not answered for {s:.0f} s"),
            every_s=3.0,
            parent=self,
        )
        self._poller.start()

    def _looked(self, found: tuple[Run, frozenset[str], bool]) -> None:
        run, done, running = found
        self._run = run
        if done != self._done or not self.slides.count():
            self._done = done
            current = self.slides.currentText()
            names = [name for name in run.slides if name in done]
            self.slides.blockSignals(True)
            self.slides.clear()
            self.slides.addItems(names)
            if current in names:
                self.slides.setCurrentText(current)
            self.slides.blockSignals(False)
            words = f"{len(names)} of {len(run.slides)} slides are done"
            self.title.setText(f"{run.root.name}: {words}")
            self.title.setToolTip(str(run.root))
            self._load(self.slides.currentText())
        if not running and self._poller is not None and len(done) == len(run.slides):
            self._poller.stop()

    def _load(self, slide_id: str, *, again: bool = False) -> None:
        """Read a slide's lesions with their reviews, beside the window."""
        run = self._run
        if run is None or not slide_id or (self._shown == (run.root, slide_id) and not again):
            return
        slide = run.slides[slide_id]
        wanted = (run.root, slide_id)
        self._shown = wanted

        def then(lesions: LesionList) -> None:
            if self._shown == wanted:
                self._show_lesions(lesions, slide)

        self._background.call(
            lambda: LesionList(slide.lesions(outlines=False), slide.entry.spacing_um),
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
        self.least_area.setPrefix("area ≥ ")
        self.least_area.setSuffix(f" {lesions.unit}")
        self.table.resizeColumnsToContents()
        if key in lesions.index_of:
            self._select(lesions.index_of[key])
        self._counted()
        self._enable()

    def _filter(self) -> None:
        chosen = self.verdict_filter.currentText()
        current = self.current()
        self.model.set_filter(
            verdict=None if chosen == "all" else Verdict(chosen),
            least_score=self.least_score.value(),
            least_area=self.least_area.value(),
            text=self.text_filter.text().strip(),
        )
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

    _silent = False
    _slide: RunSlide | None = None

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
        key, place = lesions.keys[index], lesions.found_at_px[index]

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
        key, place = lesions.keys[index], lesions.found_at_px[index]

        def undo() -> None:
            lesions.comments[index] = before
            self.model.update(index)

        self._write(lambda journal: journal.comment(key, text, place_px=place), undo)

    def _write(self, event: Callable[[ReviewJournal], Any], undo: Callable[[], None]) -> None:
        """Put an event into the slide's journal; take it back from the table if it cannot be."""
        slide, run = self._slide, self._run
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

    # Outlines

    def draw(self) -> None:
        """Begin an outline of a lesion that was not found."""
        if self._slide is not None and self._drawing is None:
            world = World(self._slide.entry.spacing_um)
            self._drawing = OutlineDrawing(self._viewer, world), None
            self._say("Draw a polygon on the slide, then keep it.")
            self._enable()

    def redraw(self) -> None:
        """Change the outline of the chosen lesion."""
        slide, key = self._slide, self._current_key()
        if slide is None or key is None or self._drawing is not None:
            return

        def begin(polygons: Any) -> None:
            if self._drawing is None and self._slide is slide:
                drawing = OutlineDrawing(self._viewer, World(slide.entry.spacing_um), polygons)
                self._drawing = drawing, key
                self._say(f"Move the points of lesion {key}, then keep it.")
                self._enable()

        self._background.call(
            lambda: next(e.lesion.polygons for e in slide.lesions() if e.key == key),
            begin,
            lambda error: self._say(f"⚠ {error}"),
        )

    def keep_outline(self) -> None:
        """Keep what was drawn beside the run."""
        if self._drawing is None:
            return
        drawing, key = self._drawing
        polygons = drawing.polygons() if drawing.is_there else []
        if not polygons:
            self._say("⚠ Nothing is drawn: draw a polygon, or discard it.")
            return
        lesions = self.model.lesions
        place = lesions.found_at_px[lesions.index_of[key]] if key in lesions.index_of else None
        slide_id = self._slide.id if self._slide is not None else ""
        self.discard_outline()

        def keep(journal: ReviewJournal) -> None:
            if key is None:
                journal.add(polygons)
            else:
                journal.redraw(key, polygons, place_px=place)
            self._background.call(_nothing, lambda _: self._load(slide_id, again=True))

        self._write(keep, lambda: None)

    def discard_outline(self) -> None:
        """Forget what was drawn."""
        if self._drawing is not None:
            self._drawing[0].close()
        self._drawing = None
        self._say("")
        self._enable()

    # Export

    def export(self, kind: ExportFormat) -> None:
        """Write the reviewed lesions of the slide beside the run."""
        run, slide = self._run, self._slide
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
        chosen, drawing = self.current() is not None, self._drawing is not None
        for name in ("confirm", "reject", "unsure", "clear"):
            self.buttons[name].setEnabled(chosen)
        self.comment.setEnabled(chosen)
        self.draw_button.setEnabled(self._slide is not None and not drawing)
        self.redraw_button.setEnabled(chosen and not drawing)
        self.export_button.setEnabled(self._slide is not None)
        self.keep_button.setVisible(drawing)
        self.discard_button.setVisible(drawing)


def _nothing() -> None:
    """Work that only brings its answer to the window's thread."""
