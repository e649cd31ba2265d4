"""Scores of the engine against a plain sliding window that shares no code with it.

Run with ``pytest -s`` to see the figures.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import openslide
import pytest
import torch
from chain import group, heatmap_of, real_slide, score_and_stitch
from slides import big_slide, big_slide_blobs

import hpc_heatmap
from hpc_heatmap.cli.app import main
from hpc_heatmap.formats.group_file import open_groups
from hpc_heatmap.model import load_classifier, read_descriptor
from hpc_heatmap.stages.scoring import score_group

WINDOW = 224
MEAN, STD = (0.70, 0.54, 0.69), (0.24, 0.28, 0.21)
TOLERANCE = 1e-5


# ---- the plain sliding window ------------------------------------------------------------------


def read_on_white(slide_path, x, y, w, h):
    """A level-0 rectangle, white outside of the slide."""
    with openslide.OpenSlide(slide_path) as slide:
        rgba = np.asarray(slide.read_region((x, y), 0, (w, h))).astype(float)
    alpha = rgba[..., 3:] / 255
    return np.rint(rgba[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)


def plain_positions(size, stride, window=WINDOW):
    """x_k = half a window + k * stride, for every whole k that falls on the slide."""
    return [x for x in (window // 2 + k * stride for k in range(-window, size)) if 0 <= x < size]


def plain_score(network, window, mean=MEAN, std=STD):
    """Softmax of the second class of one normalised window."""
    normalised = (window / 255 - np.array(mean)) / np.array(std)
    batch = torch.from_numpy(normalised.transpose(2, 0, 1)[None].astype(np.float32))
    with torch.inference_mode():
        logits = network(batch)[0].double().numpy()
    powers = np.exp(logits - logits.max())
    return powers[1] / powers.sum()


class PaddedSlide:
    """All of a slide in memory with white around it."""

    def __init__(self, slide_path):
        with openslide.OpenSlide(slide_path) as slide:
            self.width, self.height = slide.dimensions
        self.border = WINDOW
        self.pixels = read_on_white(
            slide_path,
            -WINDOW,
            -WINDOW,
            self.width + 2 * WINDOW,
            self.height + 2 * WINDOW,
        )

    def window(self, x, y, side=WINDOW):
        top, left = y - side // 2 + self.border, x - side // 2 + self.border
        return self.pixels[top : top + side, left : left + side]


def plain_heatmap(network, slide, stride):
    """The plain double loop."""
    rows, columns = plain_positions(slide.height, stride), plain_positions(slide.width, stride)
    scores = np.empty((len(rows), len(columns)))
    for i, y in enumerate(rows):
        for j, x in enumerate(columns):
            scores[i, j] = plain_score(network, slide.window(x, y))
    return scores


# ---- models and slides -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network():
    """A small network with random but fixed weights; its scores spread over 0 to 1."""
    torch.manual_seed(3)
    torch.set_num_threads(1)
    layers = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 32, stride=32),
        torch.nn.ReLU(),
        torch.nn.Conv2d(8, 2, 7),
        torch.nn.Flatten(),
    )
    with torch.no_grad():
        for layer in (layers[0], layers[2]):
            layer.weight *= 4
    return layers.eval()


@pytest.fixture(scope="module")
def model_file(network, tmp_path_factory):
    """The network as TorchScript with a WSInfer descriptor beside it."""
    path = tmp_path_factory.mktemp("model") / "tiny.pt"
    torch.jit.trace(network, torch.zeros(2, 3, WINDOW, WINDOW)).save(str(path))
    descriptor = {
        "spec_version": "1.0",
        "architecture": "tiny",
        "num_classes": 2,
        "class_names": ["normal", "tumor"],
        "patch_size_pixels": WINDOW,
        "spacing_um_px": None,
        "transform": [
            {"name": "ToTensor"},
            {"name": "Normalize", "arguments": {"mean": MEAN, "std": STD}},
        ],
        "lesion_class": "tumor",
    }
    path.with_suffix(".json").write_text(json.dumps(descriptor))
    return path


@pytest.fixture(scope="module")
def classifier(model_file):
    return load_classifier(model_file, read_descriptor(model_file.with_suffix(".json")))


@pytest.fixture(scope="module")
def svs():
    return real_slide("svs")


@pytest.fixture(scope="module")
def svs_pixels(svs):
    return PaddedSlide(svs)


@pytest.fixture(scope="module")
def svs_groups(svs, tmp_path_factory):
    """Every cell of the real slide, grouped once; the groups serve every stride."""
    folder = tmp_path_factory.mktemp("svs-groups")
    return group(svs, folder, WINDOW, 16, None, tissue_method="all")


@pytest.fixture(scope="module")
def finest(svs_groups, classifier):
    """The stride-16 heatmap of the real slide."""
    with score_and_stitch(svs_groups, classifier, 16) as heatmap:
        return heatmap.dataset()[:]


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    return big_slide(tmp_path_factory.mktemp("big") / "big.tiff")


def run_command(slides, model, out, stride):
    """`hpc-heatmap run`, to its end; gives the slides of the run."""
    arguments = ["run", *map(str, slides), "--model", str(model), "--out", str(out)]
    assert main([*arguments, "--stride", str(stride), "--quiet"]) == 0
    return list(hpc_heatmap.open_run(out).slides.values())


# ---- the small real slide ----------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("stride", [48, 64, 224])
def test_every_score_of_the_real_slide_is_the_plain_loops(
    svs_pixels, svs_groups, network, classifier, stride
):
    expected = plain_heatmap(network, svs_pixels, stride)
    with score_and_stitch(svs_groups, classifier, stride) as heatmap:
        scores = heatmap.dataset()[:]
        first = plain_positions(svs_pixels.width, stride)[0]
        assert heatmap.origin_px == (first - 0.5, first - 0.5)
        assert heatmap.step_px == (stride, stride)
    assert scores.shape == expected.shape
    worst = np.abs(scores - expected).max()
    print(
        f"\nstride {stride}: {scores.size} scores from {expected.min():.3f} to "
        f"{expected.max():.3f}, largest difference {worst:.1e}"
    )
    assert np.ptp(expected) > 0.3
    assert worst <= TOLERANCE


@pytest.mark.slow
def test_stride_16_is_the_plain_loops_at_random_points_and_in_all_cells_of_the_edge(
    svs_pixels, network, finest
):
    rows, columns = (plain_positions(n, 16) for n in (svs_pixels.height, svs_pixels.width))
    assert finest.shape == (len(rows), len(columns))
    rng = np.random.default_rng(5)
    points = {(int(rng.integers(len(rows))), int(rng.integers(len(columns)))) for _ in range(600)}
    # Two points of every cell that touches an edge: its outermost on either axis.
    for i in range(0, len(rows), 7):
        points |= {(i, 0), (i, 13), (i, len(columns) - 1)}
    for j in range(0, len(columns), 7):
        points |= {(0, j), (13, j), (len(rows) - 1, j)}
    differences = [
        abs(finest[i, j] - plain_score(network, svs_pixels.window(columns[j], rows[i])))
        for i, j in points
    ]
    print(f"\nstride 16: {len(points)} points, largest difference {max(differences):.1e}")
    assert len(points) >= 500
    assert max(differences) <= TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("stride", [32, 48, 64, 112, 224])
def test_a_coarser_stride_has_a_subset_of_the_finest_points(svs_groups, classifier, finest, stride):
    with score_and_stitch(svs_groups, classifier, stride) as heatmap:
        scores, first = heatmap.dataset()[:], heatmap.origin_px[0]
    assert (first + 0.5) % 16 == 0
    start, every = int(first + 0.5) // 16, stride // 16
    same = finest[start::every, start::every]
    assert scores.shape == same.shape
    print(f"\nstride {stride} in stride 16: largest difference {np.abs(scores - same).max():.1e}")
    assert np.abs(scores - same).max() <= 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["svs", "dicom"])
def test_the_tissue_of_a_real_slide_is_scored_by_whole_cells(tmp_path, classifier, network, kind):
    slide = real_slide(kind)
    pixels = PaddedSlide(slide)
    rows, columns = (plain_positions(n, 64) for n in (pixels.height, pixels.width))
    with heatmap_of(slide, tmp_path, classifier, 64) as heatmap:
        scores = heatmap.dataset()[:]
    assert scores.shape == (len(rows), len(columns))
    scored = np.argwhere(~np.isnan(scores))
    assert 0.3 < len(scored) / scores.size < 0.9
    per_cell = {}
    for i, j in np.ndindex(scores.shape):
        cell = rows[i] // WINDOW, columns[j] // WINDOW
        per_cell.setdefault(cell, set()).add(bool(np.isnan(scores[i, j])))
    assert all(len(kinds) == 1 for kinds in per_cell.values())
    sample = np.random.default_rng(1).permutation(scored)[:250]
    worst = max(
        abs(scores[i, j] - plain_score(network, pixels.window(columns[j], rows[i])))
        for i, j in sample
    )
    print(f"\n{kind}, tissue alone: {len(scored)} of {scores.size} scored, difference {worst:.1e}")
    assert worst <= TOLERANCE


# ---- a slide of 40,000 x 40,000 px -------------------------------------------------------------


def _blob_points(scores, columns, rows, blob, n_points):
    """Scored points within 1.2 radii of a blob's centre, some of them, and what lies outside."""
    x, y, radius = blob
    away = np.hypot(np.array(columns)[None] - x, np.array(rows)[:, None] - y) / radius
    near = np.argwhere((away < 1.2) & ~np.isnan(scores))
    return np.random.default_rng(2).permutation(near)[:n_points], away


@pytest.mark.slow
@pytest.mark.parametrize("stride", [16, 48, 64, 224])
def test_the_command_scores_a_big_slide(tmp_path, big, model_file, network, stride):
    (found,) = run_command([big], model_file, tmp_path / "run", stride)
    positions = plain_positions(40_000, stride)
    with found.heatmap as heatmap:
        scores = heatmap.dataset()[:]
    assert scores.shape == (len(positions), len(positions))
    worst, n_points = 0.0, 0
    far = np.ones(scores.shape, bool)
    for blob in big_slide_blobs(40_000, 40_000):
        points, away = _blob_points(scores, positions, positions, blob, 60)
        assert not np.isnan(scores[away < 0.95]).any()
        far &= away > 1 + 2 * WINDOW / blob[2]
        n_points += len(points)
        for i, j in points:
            x, y = positions[j], positions[i]
            window = read_on_white(big, x - WINDOW // 2, y - WINDOW // 2, WINDOW, WINDOW)
            worst = max(worst, abs(scores[i, j] - plain_score(network, window)))
    assert np.isnan(scores[far]).all()
    print(f"\nbig slide by command, stride {stride}: {n_points} points, worst error {worst:.1e}")
    assert worst <= TOLERANCE


@pytest.mark.slow
def test_other_strides_on_a_big_slide(tmp_path, big, network, classifier):
    """One group, where the smallest blob ends."""
    paths = group(big, tmp_path, WINDOW, 16, None, patches_per_group=12)
    with open_groups(paths.groups) as groups:
        some = groups.read(groups.header.n_groups - 1)
        header = groups.header
    for stride in (16, 48, 64, 224):
        geometry = header.geometry(stride)
        scores, _ = score_group(some, geometry, classifier)
        checked, worst = 0, 0.0
        for number, (row, column) in enumerate(some.cells.tolist()):
            rows = [y for y in plain_positions(40_000, stride) if y // WINDOW == row]
            columns = [x for x in plain_positions(40_000, stride) if x // WINDOW == column]
            for i, y in list(enumerate(rows))[:: 1 if stride > 16 else 4]:
                for j, x in list(enumerate(columns))[:: 1 if stride > 16 else 5]:
                    window = read_on_white(big, x - WINDOW // 2, y - WINDOW // 2, WINDOW, WINDOW)
                    score = scores.scores[number, i, j]
                    worst = max(worst, abs(score - plain_score(network, window)))
                    checked += 1
        print(f"\nbig slide, stride {stride}: {checked} points, largest difference {worst:.1e}")
        assert worst <= TOLERANCE


# ---- the demo model: a requested spacing, so that slides are resampled ---------------------------

DEMO_WINDOW, DEMO_SPACING, SLIDE_SPACING = 96, 0.972, 0.499


@pytest.fixture(scope="module")
def demo_model():
    return Path(hpc_heatmap.__file__).parent / "demo_model" / "model.pt2"


@pytest.fixture(scope="module")
def demo_classifier(demo_model):
    return load_classifier(demo_model, read_descriptor(demo_model.with_suffix(".json")))


def triangle_matrix(first, last, source_first, n_source, factor):
    """Weights (read px, source px): a triangle one read pixel wide on each side, of sum 1."""
    centres = (np.arange(first, last) + 0.5) * factor
    source = source_first + np.arange(n_source) + 0.5
    weights = np.maximum(0, 1 - np.abs(source[None] - centres[:, None]) / max(factor, 1))
    return weights / weights.sum(axis=1, keepdims=True)


def plain_resampled(slide_path, border):
    """The whole slide at the demo model's spacing with `border` read pixels of white around.

    Exact halves of grey levels go up; 1e-9 is far above what their sums are rounded by.
    """
    factor = DEMO_SPACING / SLIDE_SPACING
    with openslide.OpenSlide(slide_path) as slide:
        width, height = slide.dimensions
    margin = math.ceil((border + 4) * factor)
    source = read_on_white(slide_path, -margin, -margin, width + 2 * margin, height + 2 * margin)
    size = math.floor(width / factor), math.floor(height / factor)
    across = triangle_matrix(-border, size[0] + border, -margin, source.shape[1], factor)
    down = triangle_matrix(-border, size[1] + border, -margin, source.shape[0], factor)
    channels = [down @ source[..., c].astype(float) @ across.T for c in range(3)]
    return np.floor(np.stack(channels, axis=-1) + 0.5 + 1e-9).astype(np.uint8), size


@pytest.mark.slow
def test_the_demo_model_on_a_resampled_slide_is_the_plain_loop(
    tmp_path, svs, demo_model, demo_classifier
):
    stride = 40
    border = DEMO_WINDOW
    pixels, (width, height) = plain_resampled(svs, border)
    with heatmap_of(svs, tmp_path, demo_classifier, stride, tissue_method="all") as heatmap:
        scores = heatmap.dataset()[:]
        assert heatmap.step_px[0] == pytest.approx(stride * DEMO_SPACING / SLIDE_SPACING)
    rows, columns = (plain_positions(n, stride, DEMO_WINDOW) for n in (height, width))
    assert scores.shape == (len(rows), len(columns))
    network = torch.export.load(str(demo_model)).module()
    descriptor = json.loads(demo_model.with_suffix(".json").read_text())
    given = descriptor["transform"][1]["arguments"]
    differences = np.empty(scores.shape)
    half = DEMO_WINDOW // 2
    for i, y in enumerate(rows):
        for j, x in enumerate(columns):
            top, left = y - half + border, x - half + border
            window = pixels[top : top + DEMO_WINDOW, left : left + DEMO_WINDOW]
            differences[i, j] = abs(
                scores[i, j] - plain_score(network, window, given["mean"], given["std"])
            )
    print(
        f"\ndemo model, stride {stride}: {scores.size} scores, difference {differences.max():.1e}"
    )
    assert differences.max() <= TOLERANCE


@pytest.mark.slow
def test_svs_and_its_dicom_twin_give_nearly_the_same_heatmap(tmp_path, demo_model):
    """The twin's JPEG is another one (0.4 grey levels of difference), so scores differ a little."""
    slides = [real_slide("svs"), real_slide("dicom")]
    found = run_command(slides, demo_model, tmp_path / "run", 48)
    with found[0].heatmap as a, found[1].heatmap as b:
        assert (a.origin_px, a.step_px) == (b.origin_px, b.step_px)
        one, other = a.dataset()[:], b.dataset()[:]
    assert one.shape == other.shape
    same_cells = (np.isnan(one) == np.isnan(other)).mean()
    both = ~np.isnan(one) & ~np.isnan(other)
    difference = np.abs(one[both] - other[both])
    correlation = np.corrcoef(one[both], other[both])[0, 1]
    print(
        f"\nSVS and DICOM: {both.sum()} scores in both, {same_cells:.2%} agree on tissue; "
        f"difference max {difference.max():.4f}, mean {difference.mean():.5f}, 99th percentile "
        f"{np.percentile(difference, 99):.4f}; correlation {correlation:.6f}"
    )
    assert same_cells > 0.99
    assert difference.mean() < 0.025
    assert np.percentile(difference, 99) < 0.15
    assert correlation > 0.995
