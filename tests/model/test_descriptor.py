"""Descriptors: read as WSInfer's zoo ships them, refused in one sentence where they are wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import NORMALIZE, descriptor, write_descriptor
from PIL import Image

from hpc_heatmap.errors import ModelError
from hpc_heatmap.model import Descriptor, find_descriptor, read_descriptor


def read(folder: Path, **changes: Any) -> Descriptor:
    return read_descriptor(write_descriptor(folder / "model.json", **changes))


def test_a_descriptor_of_the_zoo_is_read(tmp_path: Path) -> None:
    # From WSInfer's zoo, breast-tumor-resnet34.tcga-brca: it names no lesion class.
    path = tmp_path / "config.json"
    path.write_text(
        """{
          "spec_version": "1.0", "architecture": "resnet34", "num_classes": 2,
          "class_names": ["Other", "Tumor"], "patch_size_pixels": 350, "spacing_um_px": 0.25,
          "transform": [
            {"name": "Resize", "arguments": {"size": 224}},
            {"name": "ToTensor"},
            {"name": "Normalize", "arguments":
              {"mean": [0.7238, 0.5716, 0.6779], "std": [0.112, 0.1459, 0.1089]}}
          ]
        }"""
    )
    found = read_descriptor(path)
    assert found.class_names == ("Other", "Tumor")
    assert (found.patch_size_pixels, found.spacing_um_px, found.resize_px) == (350, 0.25, 224)
    assert found.lesion_class is None
    assert found.lesion_index("Tumor") == 1


def test_pixels_are_normalised_as_torchvision_does(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    expected = (pixels / 255 - NORMALIZE["mean"]) / NORMALIZE["std"]
    prepared = read(tmp_path).prepare(pixels)
    assert prepared.dtype == np.float32
    np.testing.assert_allclose(prepared, expected.transpose(2, 0, 1), atol=2e-6)
    plain = read(tmp_path, transform=[{"name": "ToTensor"}]).prepare(pixels)
    np.testing.assert_allclose(plain, pixels.transpose(2, 0, 1) / 255, atol=1e-7)
    absent = read(tmp_path, transform=None).prepare(pixels)
    np.testing.assert_array_equal(absent, plain)


@pytest.mark.parametrize("size", [32, [32, 32]])
def test_windows_are_resized_as_pillow_does(tmp_path: Path, size: Any) -> None:
    steps = [{"name": "Resize", "arguments": {"size": size}}, {"name": "ToTensor"}]
    found = read(tmp_path, patch_size_pixels=70, transform=steps)
    window = np.random.default_rng(1).integers(0, 256, (70, 70, 3), np.uint8)
    expected = np.asarray(Image.fromarray(window).resize((32, 32), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(found.resize(window), expected)


def test_a_resize_to_the_same_size_is_none(tmp_path: Path) -> None:
    steps = [{"name": "Resize", "arguments": {"size": 32}}, {"name": "ToTensor"}]
    assert read(tmp_path, transform=steps).resize_px is None


@pytest.mark.parametrize("key", ["num_classes", "class_names", "patch_size_pixels"])
def test_a_missing_key_is_named(tmp_path: Path, key: str) -> None:
    with pytest.raises(ModelError, match=rf"model\.json cannot be used .*: {key}: Field required"):
        read(tmp_path, **{key: None})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"class_names": ["tumor"]}, "num_classes 2 but names 1 classes"),
        ({"class_names": ["a", "b", "c"]}, "num_classes 2 but names 3 classes"),
        ({"class_names": ["a", "a"]}, "names a class twice"),
        ({"num_classes": 0}, "num_classes"),
        ({"patch_size_pixels": 4}, "patch_size_pixels"),
        ({"patch_size_pixels": "large"}, "patch_size_pixels"),
        ({"spacing_um_px": 0}, "spacing_um_px"),
        ({"spacing_um_px": -0.5}, "spacing_um_px"),
        ({"spacing_um_px": "NaN"}, "spacing_um_px"),
        ({"spacing_um_px": "inf"}, "spacing_um_px"),
        ({"transform": [{"name": "CenterCrop"}]}, r"transform\.0\.name"),
        ({"transform": [{"name": "Resize"}]}, "Resize needs one whole number"),
        ({"transform": [{"name": "Resize", "arguments": {"size": [3, 4]}}]}, "Resize needs one"),
        ({"transform": [{"name": "Resize", "arguments": {"size": []}}]}, "Resize needs one"),
        ({"transform": [{"name": "Resize", "arguments": {"size": 0}}]}, "Resize needs one"),
        ({"transform": [{"name": "Normalize"}]}, "Normalize needs three numbers"),
        (
            {"transform": [{"name": "Normalize", "arguments": {"mean": [1, 2], "std": [1, 2]}}]},
            "Normalize needs three numbers",
        ),
        (
            {"transform": [{"name": "Normalize", "arguments": {"mean": 0.5, "std": [1, 1, 0]}}]},
            "std above zero",
        ),
        ({"activation": "relu"}, "activation"),
        ({"lesion_class": "tumour"}, "no class 'tumour': choose one of 'normal', 'tumor'"),
    ],
)
def test_a_wrong_value_is_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words) as error:
        read(tmp_path, **changes).lesion_index()
    assert "\n" not in str(error.value)
    assert str(tmp_path / "model.json") in str(error.value) or "lesion_class" in changes


@pytest.mark.parametrize(
    "content", [b"", b"{", b"not json", b"\xff\xfe", b"[1]", b"null", b'"text"', b"[" * 5000]
)
def test_what_is_not_json_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.json"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.json is not a model descriptor") as error:
        read_descriptor(path)
    assert "\n" not in str(error.value)


def test_the_lesion_class_must_be_named() -> None:
    unnamed = Descriptor(**descriptor(lesion_class=None))
    with pytest.raises(ModelError, match="Name one of 'normal', 'tumor' with --lesion-class"):
        unnamed.lesion_index()
    assert unnamed.lesion_index("normal") == 0
    with pytest.raises(ModelError, match="no class 'Tumor': choose one of 'normal', 'tumor'"):
        unnamed.lesion_index("Tumor")
    named = Descriptor(**descriptor())
    assert named.lesion_index() == 1
    assert named.lesion_index("normal") == 0
    single = Descriptor(**descriptor(num_classes=1, class_names=["tumor"], lesion_class=None))
    assert single.lesion_index() == 0


def test_where_a_descriptor_is_looked_for(tmp_path: Path) -> None:
    model = tmp_path / "net.v2.pt"
    with pytest.raises(ModelError, match=r"has no descriptor: put net\.v2\.json or config\.json"):
        find_descriptor(model)
    (tmp_path / "config.json").write_text("{}")
    assert find_descriptor(model) == tmp_path / "config.json"
    (tmp_path / "net.v2.json").write_text("{}")
    assert find_descriptor(model) == tmp_path / "net.v2.json"
    (tmp_path / "other.json").write_text("{}")
    assert find_descriptor(model, tmp_path / "other.json") == tmp_path / "other.json"
    with pytest.raises(ModelError, match=r"There is no model descriptor .*none\.json"):
        find_descriptor(model, tmp_path / "none.json")


def test_the_example_in_the_message_is_a_good_descriptor() -> None:
    with pytest.raises(ModelError) as error:
        find_descriptor(Path("/nowhere/model.pt"))
    text = str(error.value)
    example = Descriptor(**json.loads(text[text.index("{") : text.rindex("}") + 1]))
    assert example.lesion_index() == 1
    assert example.normalization()[0].shape == (3, 1, 1)
