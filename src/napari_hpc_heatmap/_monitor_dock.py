"""The dock Monitor: runs with live progress, what failed and why, cancel, resume, retry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QFileDialog,
    QGridLayout,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QPlainTextEdit,
    QProgressBar,
    QPushButton,
    QSplitter,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from hpc_heatmap import open_run
from hpc_heatmap.runs.status import State
from hpc_heatmap.stages.task import Stage
from napari_hpc_heatmap._background import Background, Poller
from napari_hpc_heatmap._dock_state import dock_state
from napari_hpc_heatmap._engine_command import run_command
from napari_hpc_heatmap._run_view import RunView, RunWatch, SlideRow
from napari_hpc_heatmap._shown_slide import SlideShow

if TYPE_CHECKING:
    import napari

__all__ = ["MonitorDock"]

_CHOSEN_EVERY_S = 1.0
_OTHERS_EVERY_S = 5.0
_ROOT = Qt.ItemDataRole.UserRole


class MonitorDock(QWidget):  # type: ignore[misc]
    """Follow runs. It looks at their files in threads, so a dead disk stops nothing here."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self._state = dock_state(napari_viewer)
        self._background = Background(self)
        self._show_of = SlideShow(napari_viewer, self._say, self)
        self._pollers: dict[Path, Poller] = {}
        self.views: dict[Path, RunView] = {}
        self.unreachable: dict[Path, str] = {}
        self._busy: set[Path] = set()
        self._rows: tuple[SlideRow, ...] = ()

        self.runs = _tree("runs", ["Run", "State", "Slides"])
        self.runs.setMaximumHeight(160)
        self.runs.currentItemChanged.connect(self._choose)
        self.slides = _tree("slides of the run", ["Slide", "State", "Groups"])
        self.slides.currentItemChanged.connect(self._show_reason)
        self.slides.itemDoubleClicked.connect(self._open)
        self.bars = {stage: QProgressBar() for stage in Stage}
        bars = QGridLayout()
        for row, (stage, bar) in enumerate(self.bars.items()):
            bar.setTextVisible(True)
            bars.addWidget(QLabel(stage.value.capitalize()), row, 0)
            bars.addWidget(bar, row, 1)
        self.sentence = QLabel()
        self.sentence.setWordWrap(True)
        self.message = QLabel()
        self.message.setWordWrap(True)
        self.message.hide()
        self.reason = QPlainTextEdit()
        self.reason.setReadOnly(True)
        self.reason.setPlaceholderText("Why a slide failed, and the end of the run's log")
        self.reason.setAccessibleName("reason and log")

        self.open_button = self._button("Open", self._open, "Show the chosen slide, or the first")
        self.cancel_button = self._button(
            "Cancel", self._cancel, "Stop its jobs, keep what is done"
        )
        self.resume_button = self._button("Resume", self._resume, "Do what is missing")
        self.add_button = self._button("Add run…", self._ask, "Follow a run of this file system")
        self.forget_button = self._button("Forget", self._forget, "Off this list; files stay")
        buttons, more = QHBoxLayout(), QHBoxLayout()
        for button in (self.open_button, self.cancel_button, self.resume_button):
            buttons.addWidget(button)
        for button in (self.add_button, self.forget_button):
            more.addWidget(button)

        lower = QSplitter(Qt.Orientation.Vertical)
        lower.addWidget(self.slides)
        lower.addWidget(self.reason)
        lower.setStretchFactor(0, 3)
        lower.setStretchFactor(1, 1)
        self.setMinimumWidth(340)
        layout = QVBoxLayout(self)
        layout.addWidget(self.runs)
        layout.addLayout(more)
        layout.addWidget(self.sentence)
        layout.addLayout(bars)
        layout.addLayout(buttons)
        layout.addWidget(self.message)
        layout.addWidget(lower, 1)

        self._state.added.connect(self._added)
        for root in self._state.runs.paths():
            self._follow(root)
        if self.runs.topLevelItemCount():
            self.runs.setCurrentItem(self.runs.topLevelItem(0))
        self._show()

    @staticmethod
    def _button(title: str, action: object, help_text: str) -> QPushButton:
        button = QPushButton(title)
        button.setToolTip(help_text)
        button.clicked.connect(action)
        return button

    @property
    def chosen(self) -> Path | None:
        """The run that is looked at."""
        item = self.runs.currentItem()
        return None if item is None else Path(item.data(0, _ROOT))

    def _item(self, root: Path) -> QTreeWidgetItem | None:
        for row in range(self.runs.topLevelItemCount()):
            item = self.runs.topLevelItem(row)
            if item.data(0, _ROOT) == str(root):
                return item
        return None

    def _added(self, root: Path) -> None:
        """A run was launched or opened: show it."""
        item = self._item(root) or self._follow(root, first=True)
        self.runs.setCurrentItem(item)

    def _follow(self, root: Path, *, first: bool = False) -> QTreeWidgetItem:
        item = QTreeWidgetItem([root.name, "…", ""])
        item.setData(0, _ROOT, str(root))
        item.setToolTip(0, str(root))
        self.runs.insertTopLevelItem(0 if first else self.runs.topLevelItemCount(), item)
        self._watch(root, _OTHERS_EVERY_S)
        return item

    def _watch(self, root: Path, every_s: float) -> None:
        """Look at a run at intervals, however many looks at others hang."""
        if root not in self._pollers:
            self._pollers[root] = Poller(
                RunWatch(root).look,
                lambda view: self._seen(root, view),
                lambda error: self._lost(root, str(error)),
                lambda taken_s: self._lost(
                    root, f"unreachable: its file system has not answered for {taken_s:.0f} s"
                ),
                parent=self,
            )
            self._pollers[root].start()
        self._pollers[root].set_interval(every_s)

    def _seen(self, root: Path, view: RunView) -> None:
        self.views[root] = view
        self.unreachable.pop(root, None)
        self._refresh(root)

    def _lost(self, root: Path, why: str) -> None:
        self.unreachable[root] = why
        self._refresh(root)

    def _refresh(self, root: Path) -> None:
        item, view = self._item(root), self.views.get(root)
        if item is None:
            return
        lost = self.unreachable.get(root)
        state = ("unreachable" if "unreachable" in lost else "cannot be read") if lost else ""
        item.setText(1, state or (view.state.value if view else "…"))
        item.setToolTip(1, lost or "")
        item.setText(2, f"{view.n_done}/{len(view.slides)}" if view else "")
        if root == self.chosen:
            self._show()

    def _choose(self) -> None:
        for root in self._pollers:
            self._watch(root, _CHOSEN_EVERY_S if root == self.chosen else _OTHERS_EVERY_S)
        self._rows = ()
        self.slides.clear()
        if self.chosen is not None:
            self._pollers[self.chosen].poll()
        self._show()

    def _show(self) -> None:
        root = self.chosen
        view = self.views.get(root) if root else None
        lost = self.unreachable.get(root) if root else None
        if root is None:
            self.sentence.setText("No runs yet: launch one in Slides and Runs, or add one.")
        else:
            self.sentence.setText(f"⚠ {lost}" if lost else view.sentence if view else "…")
        for progress in view.stages if view else ():
            bar = self.bars[progress.stage]
            bar.setMaximum(max(1, progress.total))
            bar.setValue(progress.done)
            bar.setFormat(f"{progress.done:,} of {progress.total:,} {progress.unit}")
        if view is None:
            for bar in self.bars.values():
                bar.reset()
                bar.setFormat("")
        self._show_slides(view.slides if view else ())
        self._show_reason()
        busy, state = root in self._busy, view.state if view and not lost else None
        self.open_button.setEnabled(bool(view) and not lost)
        self.cancel_button.setEnabled(state is State.RUNNING and not busy)
        self.resume_button.setEnabled(
            state in (State.PLANNED, State.FAILED, State.CANCELLED) and not busy
        )
        self.resume_button.setText("Retry" if state is State.FAILED else "Resume")
        self.forget_button.setEnabled(root is not None)

    def _show_slides(self, rows: tuple[SlideRow, ...]) -> None:
        """Change what has changed: a run may have hundreds of slides."""
        if len(rows) != self.slides.topLevelItemCount():
            self.slides.clear()
            self.slides.addTopLevelItems([QTreeWidgetItem([row.id]) for row in rows])
            self._rows = ()
        for index, row in enumerate(rows):
            if self._rows and self._rows[index] == row:
                continue
            item = self.slides.topLevelItem(index)
            words = row.state.value + (f", {row.stage}" if row.stage else "")
            item.setText(1, words)
            item.setText(2, f"{row.groups_done:,}/{row.groups:,}" if row.groups else "")
            item.setToolTip(0, f"<p>{row.reason}</p>" if row.reason else row.id)
        self._rows = rows

    def _show_reason(self) -> None:
        index = self.slides.indexOfTopLevelItem(self.slides.currentItem())
        view = self.views.get(self.chosen) if self.chosen else None
        rows = [self._rows[index]] if 0 <= index < len(self._rows) else list(self._rows)
        parts = [f"{row.id}: {row.reason}\n{row.log}".strip() for row in rows if row.reason]
        if view is not None and view.log:
            parts.append(f"End of the run's log:\n{view.log.strip()}")
        text = "\n\n".join(parts)
        if text != self.reason.toPlainText():
            self.reason.setPlainText(text)

    def _do(self, arguments: list[str], doing: str) -> None:
        """Have the engine do something with the chosen run, beside the window."""
        root = self.chosen
        if root is None:
            return
        self._busy.add(root)
        self._say(doing)

        def ended(said: str) -> None:
            self._busy.discard(root)
            self._say(said)
            self._pollers[root].poll()
            self._show()

        command = [arguments[0], str(root), *arguments[1:]]
        self._background.call(
            lambda: run_command(command), lambda _: ended(""), lambda error: ended(f"⚠ {error}")
        )
        self._show()

    def _say(self, text: str) -> None:
        self.message.setText(text)
        self.message.setVisible(bool(text))

    def _cancel(self) -> None:
        self._do(["cancel"], "Being cancelled …")

    def _resume(self) -> None:
        self._do(["resume", "--detach", "--quiet"], "Being resumed …")

    def _open(self) -> None:
        """Show the chosen slide of the run, or its first where none is chosen."""
        root, item = self.chosen, self.slides.currentItem() or self.slides.topLevelItem(0)
        if root is None or item is None:
            return
        slide_id = item.text(0)
        self._background.call(
            lambda: open_run(root),
            lambda run: self._show_of.show(run, slide_id),
            lambda error: self._say(f"⚠ {error}"),
        )
        self._state.choose(root)

    def _ask(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Run directory")
        if folder:
            self._state.add(Path(folder))

    def _forget(self) -> None:
        root = self.chosen
        if root is None:
            return
        self._state.runs.forget(root)
        self._pollers.pop(root).stop()
        self.runs.takeTopLevelItem(self.runs.indexOfTopLevelItem(self._item(root)))


def _tree(name: str, columns: list[str]) -> QTreeWidget:
    tree = QTreeWidget()
    tree.setAccessibleName(name)
    tree.setHeaderLabels(columns)
    tree.setRootIsDecorated(False)
    tree.setUniformRowHeights(True)
    header = tree.header()
    header.setStretchLastSection(False)
    header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
    for column in range(1, len(columns)):
        header.setSectionResizeMode(column, QHeaderView.ResizeMode.ResizeToContents)
    return tree
