"""A dark disc on the slide: the heatmap's peak lies on it, whatever the stride and the spacing."""

from __future__ import annotations

import numpy as np
import pytest
from chain import heatmap_of
from slides import LANDMARK_RGB, TISSUE_RGB, landmark_slide, write_slide

from hpc_heatmap import FunctionClassifier, RunSettings, start_run
from hpc_heatmap.formats import heatmap as heatmap_format

RADIUS_PX = 9


def centred_darkness(windows):
    """How dark a window is in its centre; nothing but the disc is dark."""
    side = windows.shape[1]
    offsets = np.arange(side) - (side - 1) / 2
    weight = np.exp(-((offsets / (side / 5)) ** 2) / 2).astype(np.float32)
    # Of green, glass has 245, tissue 117 and the disc 39.
    dark = np.clip((100 - windows[..., 1].astype(np.float32)) / 50, 0, 1)
    response = dark @ weight @ weight
    return response / (response + 40)


def classifier(window_px, spacing_um=None):
    return FunctionClassifier(centred_darkness, window_px, spacing_um)


def nine_landmarks(width, height, margin):
    """In the middle, at all four edges and in all four corners."""
    columns = (margin, width / 2 + 3.25, width - 1 - margin)
    rows = (margin, height / 2 - 5.5, height - 1 - margin)
    return [(x, y) for y in rows for x in columns]


def write_nine(path, width, height, landmarks, **options):
    def pixels_at(x, y, w, h, downsample):
        column = (x + np.arange(w) + 0.5)[None, :] * downsample - 0.5
        row = (y + np.arange(h) + 0.5)[:, None] * downsample - 0.5
        pixels = np.full((h, w, 3), TISSUE_RGB, np.uint8)
        for a, b in landmarks:
            pixels[np.hypot(column - a, row - b) <= RADIUS_PX] = LANDMARK_RGB
        return pixels

    return write_slide(path, pixels_at, width, height, compression="zlib", **options)


def positions(heatmap, level):
    """Level-0 positions of the samples of a level, from its own attributes."""
    (x0, y0), (step_x, step_y) = heatmap.placement_px(level)
    rows, columns = heatmap.dataset(level).shape
    return x0 + step_x * np.arange(columns), y0 + step_y * np.arange(rows)


def assert_peaks_on(heatmap, landmarks, size):
    """Each landmark's peak is within half a step, on every level that can show it as a peak.

    Where the slide goes on beyond the last lattice point, no sample can be nearer than that point.
    The last sample of a coarser level, where it has only one sample of the finer level to show,
    stands half a finer step beside it.
    """
    thirds = [np.array([-np.inf, n / 3, 2 * n / 3, np.inf]) - 0.5 for n in size]
    finest, finest_step = positions(heatmap, 0), heatmap.step_px
    window = heatmap.attributes["window_px"]
    for level in range(heatmap.n_levels):
        samples, step = positions(heatmap, level), heatmap.placement_px(level)[1]
        if level and max(step) > window / 2:
            break
        scores = heatmap.dataset(level)[:]
        for landmark in landmarks:
            near = []
            for axis, limits in enumerate(thirds):
                third = np.searchsorted(limits, landmark[axis]) - 1
                near.append((samples[axis] > limits[third]) & (samples[axis] < limits[third + 1]))
            here = np.where(near[1][:, None] & near[0], scores, -1)
            row, column = np.unravel_index(here.argmax(), here.shape)
            assert here[row, column] > 0, (level, landmark)
            for axis, index in ((0, column), (1, row)):
                lattice = finest[axis]
                beyond = max(lattice[0] - landmark[axis], landmark[axis] - lattice[-1], 0.0)
                allowed = step[axis] / 2 + max(0.0, beyond - finest_step[axis] / 2)
                last = level and index == len(samples[axis]) - 1
                if last and heatmap.dataset(level - 1).shape[1 - axis] % 2:
                    allowed += step[axis] / 4
                error = abs(samples[axis][index] - landmark[axis])
                assert error <= allowed + 1e-6, (level, landmark, axis, samples[axis][index], step)
    return level


@pytest.mark.parametrize("stride", [16, 32, 37, 48, 64, 112, 224])
def test_the_peak_is_on_the_landmark_at_every_stride(tmp_path, stride, monkeypatch):
    monkeypatch.setattr(heatmap_format, "COARSEST", 4)
    size = 804, 790
    landmarks = nine_landmarks(*size, margin=14)
    path = write_nine(tmp_path / "slide.tiff", *size, landmarks)
    with heatmap_of(path, tmp_path, classifier(224), stride, tissue_method="all") as heatmap:
        assert_peaks_on(heatmap, landmarks, size)


SPACINGS = {
    "level 0": (0.5, None),
    "twice as coarse": (0.5, 1.0),
    "1.7 times": (0.5, 0.85),
    "0.8 times, finer than level 0": (0.5, 0.4),
    "x and y differ": ((0.5, 0.4), 0.6),
    "a level of the slide as it is": (0.25, 1.0),
}


@pytest.mark.parametrize("window", [64, 35])
@pytest.mark.parametrize("stride", [8, 21, 32])
@pytest.mark.parametrize("spacing", SPACINGS)
def test_the_peak_is_on_the_landmark_at_every_spacing(
    tmp_path, window, stride, spacing, monkeypatch
):
    monkeypatch.setattr(heatmap_format, "COARSEST", 4)
    size = 644, 516
    slide_um, requested_um = SPACINGS[spacing]
    landmarks = nine_landmarks(*size, margin=13)
    path = write_nine(tmp_path / "slide.tiff", *size, landmarks, spacing_um=slide_um)
    model = classifier(window, requested_um)
    with heatmap_of(path, tmp_path, model, stride, tissue_method="all") as heatmap:
        spacing_um = np.broadcast_to(slide_um, 2)
        scale = (requested_um / spacing_um) if requested_um else (1, 1)
        assert heatmap.step_px == pytest.approx(tuple(stride * s for s in scale))
        assert_peaks_on(heatmap, landmarks, size)


@pytest.mark.parametrize("window", [32, 35])
@pytest.mark.parametrize("stride", [7, 16, 31])
def test_a_landmark_within_half_a_window_of_the_edge_of_a_whole_run(tmp_path, window, stride):
    """The same through `start_run`, with tissue detected and a slide that is not divisible."""
    where = (598.5, 9.75)
    path = landmark_slide(tmp_path / "s.tiff", 613, 501, where, 5, glass_px=(80, 0, 0, 80))
    model = classifier(window)
    run = start_run([path], model, tmp_path / "run", settings=RunSettings(stride=stride))
    run.resume(model=model)
    with run.slides["s"].heatmap as heatmap:
        scores = heatmap.scores.compute()
        row, column = np.unravel_index(np.nanargmax(scores), scores.shape)
        x, y = positions(heatmap, 0)
        found = x[column], y[row]
        assert np.abs(np.array(found) - where).max() <= stride / 2
        assert heatmap.at(*where) == scores[row, column] > 0
        assert np.isnan(heatmap.at(20, 480))
