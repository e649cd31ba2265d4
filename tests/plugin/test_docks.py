"""The docks in a real napari: a run from its launch to a review, at the size of a study, and with a
file system that hangs.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs.support import make_slide
from schedulers import real

from hpc_heatmap import Run
from hpc_heatmap.formats.review_file import ReviewJournal, Verdict
from hpc_heatmap.runs.export import ExportFormat
from hpc_heatmap.runs.status import State
from hpc_heatmap.settings import Cluster, LaunchSettings, RunSettings

pytestmark = pytest.mark.gui


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Runs that other tests, or people, have launched are not known here."""
    monkeypatch.setenv("NAPARI_HPC_HEATMAP_CONFIG", str(tmp_path / "config"))
    return tmp_path / "config"


@pytest.fixture
def window(make_napari_viewer: Any) -> Iterator[Callable[[], tuple[Any, dict[str, Any]]]]:
    """Open napari with the three docks, as often as it is called."""
    from plugin.docks_support import NAMES, open_dock

    def open_it() -> tuple[Any, dict[str, Any]]:
        viewer = make_napari_viewer(show=True)
        return viewer, {name: open_dock(viewer, name) for name in NAMES}

    yield open_it


def review_a_real_run(
    window: Callable[[], tuple[Any, dict[str, Any]]], folder: Path, where: dict[str, str]
) -> None:
    """Choose, launch, watch, jump, reject, close, open again."""
    from plugin.docks_support import Heartbeat, darkness_model, wait_for

    slide, model = make_slide(folder / "a.tif"), darkness_model(folder)
    viewer, docks = window()
    heartbeat = Heartbeat()
    slides, monitor, lesions = docks.values()

    slides.slides.add([slide])
    slides.model.value = str(model)
    wait_for(lambda: slide in slides.slides.facts)
    assert slides.slides.facts[slide].size_px == (420, 360)
    wait_for(lambda: "windows of 32 px" in slides.about_model.text())
    for name, value in (("stride", "8"), ("patches_per_group", "4"), ("threshold", "0.5")):
        slides.request.set(name, value)
    for name, value in where.items():
        slides.where.set(name, value)
    root = folder / "RUN"
    slides.out.value = str(root)
    wait_for(lambda: "…" not in slides.cost.text(), 240)
    assert "patches in" in slides.cost.text() and "of one core" in slides.cost.text()
    assert slides.launch_button.isEnabled()
    slides.launch_button.click()

    wait_for(lambda: monitor.chosen == root or "⚠" in slides.message.text(), 180)
    assert monitor.chosen == root, slides.message.text()
    # The overlay is opened while the run goes, and fills in.
    wait_for(lambda: root in monitor.views)
    monitor.slides.setCurrentItem(monitor.slides.topLevelItem(0))
    monitor.open_button.click()
    wait_for(lambda: "a RUN" in viewer.layers)
    overlay = viewer.layers["a RUN"]
    wait_for(lambda: monitor.views[root].state is State.DONE, 240)
    wait_for(lambda: np.isfinite(np.asarray(overlay.data[0])).any(), 60)
    assert monitor.bars[next(iter(monitor.bars))].value() == 1
    assert "1 of 1 slides done" in monitor.sentence.text()

    wait_for(lambda: len(lesions.model.lesions) > 0, 60)
    lesions.chooser.show_button.click()
    wait_for(lambda: "a lesions" in viewer.layers)
    lesions.next()
    assert lesions.current() is not None
    assert set(viewer.layers["a lesions"].selected_data) == {lesions.current()}
    x_px, y_px = lesions.model.lesions.place_px(lesions.current())
    assert (x_px, y_px) == pytest.approx((180, 150), abs=16)
    spacing_um = 0.5
    center = viewer.scene.camera.center
    assert center[-2:] == pytest.approx((y_px * spacing_um, x_px * spacing_um))
    lesions.comment.setText("a fold")
    lesions.comment.editingFinished.emit()
    lesions.buttons["reject"].click()
    median_ms, worst_ms = heartbeat.stop()
    work_ms = max(heartbeat.worked_ms)
    print(
        f"event loop: median {median_ms:.0f} ms, worst {worst_ms:.0f} ms, {work_ms:.0f} ms of work"
    )
    assert median_ms < 100
    # 500 ms where the machine is free (benchmarks/docks.py).
    assert work_ms < 800
    viewer.close()

    _, docks = window()
    monitor, lesions = docks["Monitor"], docks["Lesions"]
    wait_for(lambda: root in monitor.views)
    assert monitor.chosen == root
    lesions._state.choose(root)
    wait_for(lambda: len(lesions.model.lesions) > 0, 60)
    assert lesions.model.lesions.verdict(0) is Verdict.REJECTED
    assert lesions.model.lesions.comments[0] == "a fold"
    review = ReviewJournal(Run(root).paths.reviews("a")).read()["1"]
    assert (review.verdict, review.comment) == (Verdict.REJECTED, "a fold")


@pytest.mark.slow
def test_a_run_here_from_its_launch_to_its_review(window: Any, tmp_path: Path) -> None:
    review_a_real_run(window, tmp_path, {"workers": "2"})
    assert Run(tmp_path / "RUN").last_launch() == LaunchSettings(workers=2)


@pytest.mark.slow
def test_a_run_on_slurm_from_its_launch_to_its_review(window: Any, tmp_path: Path) -> None:
    real.need(Cluster.SLURM)
    profile = tmp_path / "slurm.toml"
    profile.write_text(
        'cluster = "slurm"\ncores_per_task = 1\nmemory_gb = 0.5\ntime_minutes = 15\npoll_s = 1\n'
    )
    review_a_real_run(window, tmp_path, {"profile": str(profile)})
    assert Run(tmp_path / "RUN").last_launch().profile == profile


def test_settings_are_the_engines_own_and_mistakes_are_told(window: Any, tmp_path: Path) -> None:
    from plugin.docks_support import darkness_model, wait_for

    _, docks = window()
    slides = docks["Slides and Runs"]
    assert set(slides.request.fields) == set(RunSettings.model_fields)
    assert set(slides.where.fields) == set(LaunchSettings.model_fields)
    help_text = RunSettings.model_fields["stride"].description
    assert help_text in slides.request.fields["stride"].toolTip()
    assert slides.request.values() == slides.where.values() == {}
    assert "Add slides" in slides.cost.text()

    blank = tmp_path / "blank.tif"
    make_blank(blank)
    bad = tmp_path / "bad.svs"
    bad.write_bytes(b"no slide")
    slides.slides.add([make_slide(tmp_path / "a.tif"), blank, bad])
    wait_for(lambda: len(slides.slides.facts) == 3)
    facts = slides.slides.facts
    assert facts[tmp_path / "a.tif"].warnings == ()
    assert facts[tmp_path / "a.tif"].spacing_words == "0.5 µm"
    assert "no spacing" in facts[blank].warnings[0]
    assert "no tissue" in facts[blank].warnings[1]
    assert "OpenSlide" in facts[bad].warnings[0]
    assert not slides.launch_button.isEnabled()

    slides.model.value = str(tmp_path / "none.onnx")
    wait_for(lambda: "no descriptor" in slides.about_model.text())
    slides.model.value = str(darkness_model(tmp_path))
    assert slides.launch_button.isEnabled()
    # A flag is a choice, and what is chosen is what the engine's command takes.
    slides.request.set("adaptive", "yes")
    assert slides.request.values() == {"adaptive": "yes"}
    assert RunSettings(**slides.request.values()).adaptive
    wait_for(lambda: "patches in" in slides.cost.text(), 240)
    slides.request.set("adaptive", "no")
    assert slides.request.values() == {}
    slides.request.set("threshold", "1.5")
    assert "--threshold 1.5" in slides.cost.text()
    assert not slides.launch_button.isEnabled()


def make_blank(path: Path) -> None:
    from slides import GLASS_RGB, write_slide

    def glass(x: int, y: int, w: int, h: int, downsample: int) -> np.ndarray:
        return np.full((h, w, 3), GLASS_RGB, np.uint8)

    write_slide(path, glass, 600, 500, spacing_um=None, downsamples=(1,))


def test_a_study_of_200_slides_and_100000_lesions_stays_usable(window: Any, tmp_path: Path) -> None:
    from plugin.docks_support import Heartbeat, make_run, wait_for
    from qtpy.QtCore import Qt

    root = make_run(tmp_path / "STUDY", 200, 100_000).root
    _, docks = window()
    heartbeat = Heartbeat()
    monitor, lesions = docks["Monitor"], docks["Lesions"]
    lesions._state.choose(root)
    wait_for(lambda: len(lesions.model.lesions) == 100_000)
    wait_for(lambda: root in monitor.views)
    assert monitor.slides.topLevelItemCount() == 200
    taken: dict[str, float] = {}

    def timed(name: str, act: Callable[[], Any]) -> None:
        began = time.process_time()
        act()
        taken[name] = time.process_time() - began

    timed("sort", lambda: lesions.table.sortByColumn(2, Qt.SortOrder.AscendingOrder))
    timed("filter", lambda: lesions.filter.least_score.setValue(0.5))
    timed("search", lambda: lesions.filter.text.setText("77"))
    lesions.filter.text.clear()
    timed("next", lesions.next)
    timed("mark", lambda: lesions.mark(Verdict.CONFIRMED))
    assert 45_000 < len(lesions.model.rows) < 55_000
    median_ms, worst_ms = heartbeat.stop()
    print({name: f"{1000 * s:.0f} ms" for name, s in taken.items()})
    print(f"event loop: median {median_ms:.0f} ms, worst {worst_ms:.0f} ms")
    # Of processor time, with room for a machine that is busy with other things; beats are few.
    assert np.median(heartbeat.worked_ms) < 100
    assert max(heartbeat.worked_ms) < 800
    assert max(taken.values()) < 2


def test_a_dead_file_system_is_told_and_holds_nothing(window: Any, tmp_path: Path) -> None:
    """A file that never answers, as on a server that is gone: a pipe that nobody writes to."""
    from plugin.docks_support import Heartbeat, make_run, wait_for

    alive = make_run(tmp_path / "ALIVE", 2, 5).root
    dead = make_run(tmp_path / "DEAD", 2, 5)
    summary = dead.slide("slide_001").summary
    summary.unlink()
    os.mkfifo(summary)
    viewer, docks = window()
    monitor, lesions = docks["Monitor"], docks["Lesions"]
    monitor._state.add(alive)
    wait_for(lambda: alive in monitor.views)
    lesions._state.choose(dead.root)
    heartbeat = Heartbeat()
    monitor._pollers[dead.root].patience_s = 0.5
    wait_for(lambda: dead.root in monitor.unreachable, 30)
    assert "unreachable" in monitor.sentence.text()
    assert not monitor.cancel_button.isEnabled()
    # The other run is followed all the same.
    monitor.views.clear()
    monitor.runs.setCurrentItem(monitor._item(alive))
    wait_for(lambda: alive in monitor.views, 30)
    median_ms, worst_ms = heartbeat.stop()
    print(f"event loop: median {median_ms:.0f} ms, worst {worst_ms:.0f} ms")
    assert median_ms < 100
    assert any(thread.name == "hpc-heatmap-work" for thread in threading.enumerate())
    began = time.monotonic()
    viewer.close()
    closed_s = time.monotonic() - began
    print(f"closed in {closed_s:.2f} s")
    # Let the readers go, for the tests that follow.
    os.close(os.open(summary, os.O_RDWR))
    # Two seconds, and half of that again for a machine that is busy; a thread that is waited for
    # would hold it for ever.
    assert closed_s < 3


def test_table_and_layer_select_each_other_and_reviews_are_drawn_and_exported(
    window: Any, landmark_run: Run, tmp_path: Path
) -> None:
    import shutil

    from plugin.docks_support import square, wait_for

    from napari_hpc_heatmap._lesion_layer import lesion_layers

    root = tmp_path / "RUN"
    shutil.copytree(landmark_run.root, root)
    run = Run(root)
    (slide,) = run.slides.values()
    viewer, docks = window()
    lesions = docks["Lesions"]
    for layer in lesion_layers(slide):
        viewer.add_layer(layer)
    points = viewer.layers[f"{slide.id} lesions"]
    lesions._state.choose(root)
    wait_for(lambda: len(lesions.model.lesions) > 0)
    lesions.who = "anna"

    # By the keys of the window; the layer follows the table, and the table the layer.
    press(viewer, "]")
    assert lesions.current() == 0
    assert set(points.selected_data) == {0}
    lesions.table.clearSelection()
    lesions.table.setCurrentIndex(lesions.model.index(-1, -1))
    assert lesions.current() is None
    points.selected_data = set()
    points.selected_data = {0}
    assert lesions.current() == 0
    lesions.filter.least_score.setValue(1.0)
    assert not points.shown.any()
    lesions.filter.least_score.setValue(0.0)
    assert points.shown.all()

    # What is filtered out is not looked at any more.
    assert lesions.current() is None
    press(viewer, "]")
    press(viewer, "Shift-C")
    assert lesions.model.lesions.verdict(0) is Verdict.CONFIRMED

    # A new outline, then another one for the machine's lesion.
    lesions.outlines.draw_button.click()
    drawn = viewer.layers["outline being drawn"]
    drawn.add_polygons(square(100, 200, 40)[:, ::-1])
    assert lesions.outlines.keep_button.isVisibleTo(lesions)
    lesions.outlines.keep_button.click()
    wait_for(lambda: len(lesions.model.lesions) == 2)
    assert "outline being drawn" not in viewer.layers
    assert lesions.model.lesions.place_px(1) == pytest.approx((100, 200))
    lesions.table.selectRow(lesions.model.row_of(0))
    lesions.outlines.redraw_button.click()
    wait_for(lambda: "outline being drawn" in viewer.layers)
    drawn = viewer.layers["outline being drawn"]
    assert len(drawn.data) == len(slide.lesions()[0].lesion.polygons)
    drawn.data = [square(300, 310, 60)[:, ::-1]]
    lesions.outlines.keep_button.click()
    wait_for(lambda: lesions.model.lesions.place_px(0) == pytest.approx((300, 310)))
    # What is said after it still belongs to the machine's lesion.
    lesions.table.selectRow(lesions.model.row_of(0))
    lesions.buttons["unsure"].click()
    lesions.export(ExportFormat.REVIEW_CSV)
    wait_for(lambda: "Written" in lesions.message.text())
    table = (run.paths.exports / "review-csv" / f"{slide.id}.csv").read_text().splitlines()
    assert table[1].startswith("1,redrawn,") and ",unsure,,anna," in table[1]
    assert table[2].startswith("drawn-") and ",confirmed,,anna," in table[2]


def press(viewer: Any, key: str) -> None:
    """Do what the window does where a key is pressed and no layer takes it."""
    from napari.utils.key_bindings import coerce_keybinding

    viewer.keymap[coerce_keybinding(key)](viewer)


def test_a_run_that_cannot_be_written_takes_no_review(window: Any, tmp_path: Path) -> None:
    from plugin.docks_support import make_run, wait_for

    paths = make_run(tmp_path / "RUN", 1, 5)
    # A file stands where the folder of reviews would be.
    (paths.root / "reviews").touch()
    _, docks = window()
    lesions = docks["Lesions"]
    lesions._state.choose(paths.root)
    wait_for(lambda: len(lesions.model.lesions) == 5)
    lesions.next()
    lesions.mark(Verdict.REJECTED)
    wait_for(lambda: "Not kept" in lesions.message.text())
    assert lesions.model.lesions.verdict(0) is Verdict.UNREVIEWED
