"""Model files: what is loaded, what is refused and why, and that nothing in a file is executed."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from models import Nan, Tiny, descriptor, save_exported, save_onnx, save_script

from hpc_heatmap.errors import ModelError, UnsafeModelError
from hpc_heatmap.model import Descriptor, FunctionClassifier, check_classifier, load_classifier
from hpc_heatmap.model.loading import check_file
from hpc_heatmap.model.torch import TorchNetwork

DESCRIPTOR = Descriptor(**descriptor())


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_script(folder / "model.pt", Tiny())
    save_exported(folder / "model.pt2", Tiny())
    save_onnx(folder / "model.onnx", Tiny())
    return folder


def windows_of(n: int, side: int = 32) -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    patches = rng.integers(0, 256, (n, 2 * side, 2 * side, 3), np.uint8)
    return [DESCRIPTOR.prepare(p)[:, 7 : 7 + side, 3 : 3 + side] for p in patches]


@pytest.mark.parametrize("suffix", [".pt", ".pt2", ".onnx"])
@pytest.mark.parametrize("n", [1, 2, 7])
def test_three_formats_give_the_scores_of_the_network(models: Path, suffix: str, n: int) -> None:
    windows = windows_of(n)
    with torch.inference_mode():
        expected = torch.softmax(Tiny()(torch.from_numpy(np.stack(windows))), 1)[:, 1].numpy()
    assert np.ptp(expected) > 1e-3 or n == 1
    scores = load_classifier(models / f"model{suffix}", DESCRIPTOR).scores(windows)
    assert scores.shape == (n,) and scores.dtype == np.float32
    np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.pt").mkdir()
    for name in ("none.pt", "folder.pt"):
        with pytest.raises(ModelError, match=f"There is no model file .*{name}"):
            check_file(tmp_path / name)


@pytest.mark.parametrize("suffix", [".pt", ".pt2", ".onnx"])
@pytest.mark.parametrize("content", [b"", b"hello", bytes(range(256)) * 9], ids=["0", "txt", "bin"])
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=rf"model\{suffix} is not a \{suffix} model"):
        check_file(path)


def test_a_model_of_an_unknown_format_is_refused(models: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    shutil.copyfile(models / "model.onnx", path)
    with pytest.raises(ModelError, match="give TorchScript"):
        check_file(path)


@pytest.mark.parametrize(
    ("true", "named"), [(".pt", ".pt2"), (".pt2", ".pt"), (".onnx", ".pt"), (".pt", ".onnx")]
)
def test_a_model_under_another_suffix_is_refused(
    models: Path, tmp_path: Path, true: str, named: str
) -> None:
    path = tmp_path / f"model{named}"
    shutil.copyfile(models / f"model{true}", path)
    with pytest.raises(ModelError, match=rf"is not a \{named} model"):
        check_file(path)


@pytest.mark.parametrize("suffix", [".pt", ".pt2", ".onnx"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_truncated_model_is_refused(
    models: Path, tmp_path: Path, suffix: str, share: float, capfd: pytest.CaptureFixture[str]
) -> None:
    content = (models / f"model{suffix}").read_bytes()
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ModelError) as error:
        load_classifier(path, DESCRIPTOR)
    assert "\n" not in str(error.value) and str(error.value).endswith(".")
    assert capfd.readouterr() == ("", "")


def test_an_archive_of_nonsense_is_refused_in_silence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    members = {"model.pt2": ("m/models/model.json", "{}"), "model.pt": ("m/code/x.py", "x")}
    for name, (member, text) in members.items():
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr(member, text)
        with pytest.raises(ModelError, match="cannot be loaded by torch"):
            load_classifier(tmp_path / name, DESCRIPTOR)
    assert capfd.readouterr() == ("", "")


def test_onnx_with_its_weights_elsewhere_is_refused(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.onnx"
    model = onnx.load(models / "model.onnx")
    onnx.save(
        model, str(path), save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    # Not from the working directory either: a run would not find them again.
    monkeypatch.chdir(tmp_path)
    assert (tmp_path / "weights.bin").stat().st_size > 0
    with pytest.raises(ModelError, match=r"keeps its weights in another file: save it in one"):
        load_classifier(path, DESCRIPTOR)
    onnx.save(onnx.load(path), tmp_path / "whole.onnx")
    check_classifier(load_classifier(tmp_path / "whole.onnx", DESCRIPTOR), 4)


# Models that load and cannot be used.


def check(path: Path, batch_size: int = 4, **changes: Any) -> None:
    check_classifier(load_classifier(path, Descriptor(**descriptor(**changes))), batch_size)


@pytest.mark.parametrize("suffix", [".pt", ".pt2", ".onnx"])
def test_a_good_model_passes(models: Path, suffix: str) -> None:
    check(models / f"model{suffix}")


@pytest.mark.parametrize("fixed", [1, 4])
@pytest.mark.parametrize("suffix", [".pt2", ".onnx"])
def test_a_fixed_batch_size_is_refused(tmp_path: Path, suffix: str, fixed: int) -> None:
    save = save_exported if suffix == ".pt2" else save_onnx
    path = save(tmp_path / f"model{suffix}", Tiny(), 32, batch=fixed)
    sentence = rf"scores {fixed} windows? at once and fails on {5 - fixed} \(.*\): export it with"
    with pytest.raises(ModelError, match=sentence):
        check(path)


@pytest.mark.parametrize("suffix", [".pt2", ".onnx"])
def test_another_input_size_is_refused(tmp_path: Path, suffix: str) -> None:
    save = save_exported if suffix == ".pt2" else save_onnx
    path = save(tmp_path / f"model{suffix}", Tiny(), 64)
    check(path, patch_size_pixels=64)
    with pytest.raises(ModelError, match=r"fails on windows of 32 x 32 px.*patch_size_pixels"):
        check(path)


class FixedSize(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(3 * 64 * 64, 2)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return self.linear(batch.flatten(1))


def test_a_script_of_another_input_size_is_refused(tmp_path: Path) -> None:
    path = save_script(tmp_path / "model.pt", FixedSize())
    check(path, patch_size_pixels=64)
    with pytest.raises(ModelError, match="fails on windows of 32 x 32 px"):
        check(path)


class PerPixel(torch.nn.Module):
    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return batch[:, :2]


class OneForAll(torch.nn.Module):
    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return batch.mean(dim=(0, 2, 3))[:2]


@pytest.mark.parametrize(
    ("network", "sentence"),
    [
        (Nan(), r"gives NaN or infinity for 1 of 1 windows"),
        (PerPixel(), r"gives an array of shape \(1, 2, 32, 32\) for 1 windows"),
        (OneForAll(), r"gives an array of shape \(2,\) for 1 windows"),
        (Tiny(outputs=3), r"gives an array of shape \(1, 3\) .* promises \(1, 2\)"),
    ],
    ids=["nan", "per-pixel", "one-for-all", "three-classes"],
)
def test_output_that_is_no_probability_is_refused(
    tmp_path: Path, network: torch.nn.Module, sentence: str
) -> None:
    with pytest.raises(ModelError, match=sentence):
        check(save_script(tmp_path / "model.pt", network))


def test_a_function_is_checked_too() -> None:
    check_classifier(FunctionClassifier(lambda w: w.mean(axis=(1, 2, 3)) / 255, 35), 4)
    with pytest.raises(ModelError, match=r"gives shape \(\) for 1 windows"):
        check_classifier(FunctionClassifier(lambda w: 0.5, 35), 4)
    with pytest.raises(ModelError, match="with NaN"):
        check_classifier(FunctionClassifier(lambda w: np.full(len(w), np.nan), 35), 4)
    with pytest.raises(ModelError, match=r"fails on windows of 35 x 35 px.*no luck"):
        check_classifier(FunctionClassifier(fail, 35), 4)


def fail(windows: np.ndarray) -> np.ndarray:
    raise KeyError("no luck")


# Files that would execute code.


class Evil:
    """Pickles to something that writes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self) -> Any:
        return exec, (f"open({self.marker!r}, 'w').close()",)


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """A file that is made if anything is executed; that the trap works is checked first."""
    path = tmp_path / "executed"
    pickle.loads(pickle.dumps(Evil(path)))
    assert path.exists()
    path.unlink()
    return path


def torch_bytes(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".pt2", ".onnx", ".pkl"])
def test_pickles_are_never_opened(tmp_path: Path, marker: Path, suffix: str) -> None:
    legacy = io.BytesIO()
    torch.save(Evil(marker), legacy, _use_new_zipfile_serialization=False)
    pickles = {
        "raw": pickle.dumps(Evil(marker)),
        "oldest": pickle.dumps(Evil(marker), protocol=0),
        "module": torch_bytes(Tiny()),
        "state_dict": torch_bytes(Tiny().state_dict()),
        "evil": torch_bytes({"weight": Evil(marker)}),
        "legacy": legacy.getvalue(),
    }
    for name, content in pickles.items():
        path = tmp_path / f"{name}{suffix}"
        path.write_bytes(content)
        with pytest.raises(ModelError) as error:
            load_classifier(path, DESCRIPTOR)
        if name != "oldest":
            assert isinstance(error.value, UnsafeModelError)
            assert str(error.value).startswith(f"{path} holds a pickled Python object. Loading it")
            assert "torch.export.save" in str(error.value)
    assert not marker.exists()


def rewritten(
    source: Path, target: Path, change: Callable[[str, bytes], bytes], **more: Any
) -> Path:
    """Copy an archive with its members changed, and with more members of the same root."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        root = old.namelist()[0].partition("/")[0]
        for name in old.namelist():
            new.writestr(name, change(name.partition("/")[2], old.read(name)))
        for name, content in more.items():
            new.writestr(f"{root}/{name}", content)
    return target


def edited(key: str, value: Any) -> Callable[[str, bytes], bytes]:
    """Replace the value of a key wherever it stands in the program."""

    def walk(node: Any) -> Any:
        if isinstance(node, dict):
            return {k: value if k == key else walk(v) for k, v in node.items()}
        return [walk(v) for v in node] if isinstance(node, list) else node

    def change(name: str, content: bytes) -> bytes:
        if name != "models/model.json":
            return content
        text = json.dumps(walk(json.loads(content)))
        assert text.encode() != content
        return text.encode()

    return change


def test_the_tool_for_changed_archives_keeps_a_good_one_good(models: Path, tmp_path: Path) -> None:
    path = rewritten(models / "model.pt2", tmp_path / "model.pt2", lambda name, content: content)
    check(path)


def with_pickled_weights(marker: Path) -> Callable[[str, bytes], bytes]:
    def change(name: str, content: bytes) -> bytes:
        if name == "data/weights/weight_0":
            return torch_bytes(Evil(marker))
        if name.endswith("weights_config.json"):
            return content.replace(b'"use_pickle": false', b'"use_pickle": true')
        return content

    return change


def with_pickled_constant(marker: Path, kind: str) -> Callable[[str, bytes], bytes]:
    def change(name: str, content: bytes) -> bytes:
        if name.endswith("constants_config.json"):
            entry = {"path_name": kind, "is_param": False, "use_pickle": True, "tensor_meta": None}
            return json.dumps({"config": {"c": entry}}).encode()
        return content

    return change


@pytest.mark.parametrize("kind", ["tensor_0", "opaque_obj_0", "custom_obj_0"])
def test_an_archive_with_pickled_constants_is_refused(
    models: Path, tmp_path: Path, marker: Path, kind: str
) -> None:
    evil = pickle.dumps(Evil(marker)) if "opaque" in kind else torch_bytes(Evil(marker))
    change = with_pickled_constant(marker, kind)
    more = {f"data/constants/{kind}": evil}
    path = rewritten(models / "model.pt2", tmp_path / "model.pt2", change, **more)
    with pytest.raises(UnsafeModelError, match="holds a pickled Python object"):
        load_classifier(path, DESCRIPTOR)
    assert not marker.exists()


def test_an_archive_with_pickled_weights_is_refused(
    models: Path, tmp_path: Path, marker: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = rewritten(models / "model.pt2", tmp_path / "model.pt2", with_pickled_weights(marker))
    with pytest.raises(UnsafeModelError, match="holds a pickled Python object"):
        load_classifier(path, DESCRIPTOR)
    # Behind the look at the archive stands torch's own lock.
    with pytest.raises(UnsafeModelError, match="holds a pickled Python object"):
        TorchNetwork(path, threads=1)
    assert not marker.exists()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "member", ["data/sample_inputs/model.pt", "data/weights/model.pt", "data/constants/model.pt"]
)
def test_other_pickles_in_an_archive_are_not_executed(
    models: Path, tmp_path: Path, marker: Path, member: str
) -> None:
    evil = torch_bytes((Evil(marker),))

    def change(name: str, content: bytes) -> bytes:
        return evil if name == member else content

    more = {} if "sample" in member else {member: evil}
    path = rewritten(models / "model.pt2", tmp_path / "model.pt2", change, **more)
    with pytest.raises(UnsafeModelError, match="holds a pickled Python object"):
        load_classifier(path, DESCRIPTOR)
    assert not marker.exists()


def test_the_lock_is_taken_off_again(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    for before in (None, "0"):
        if before is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, before)
        load_classifier(models / "model.pt2", DESCRIPTOR)
        assert os.environ.get(name) == before


def attacks(marker: Path) -> dict[str, tuple[str, Any]]:
    """Keys of a program whose values torch evaluates or looks up, and what would misuse them."""
    code = f"open({str(marker)!r}, 'w').close()"
    evaluated = f"__import__('builtins').exec({code!r})"
    tree = {"type": "collections.defaultdict", "context": "{}", "children_spec": []}
    return {
        "expression": ("expr_str", evaluated),
        "call": ("expr_str", code),
        "attribute": ("expr_str", "Symbol('a').__class__"),
        "guard": ("guards_code", [f"{evaluated} or True"]),
        "function": ("target", "torch.serialization.os.system"),
        "library": ("target", "torch.ops.load_library"),
        "method caller": ("target", "_operator.methodcaller"),
        "class": ("in_spec", json.dumps([1, tree])),
    }


@pytest.mark.parametrize("attack", list(attacks(Path())))
def test_a_program_that_would_execute_code_is_refused(
    models: Path, tmp_path: Path, marker: Path, attack: str
) -> None:
    change = edited(*attacks(marker)[attack])
    path = rewritten(models / "model.pt2", tmp_path / "model.pt2", change)
    with pytest.raises(UnsafeModelError, match="Loading it would execute code"):
        load_classifier(path, DESCRIPTOR)
    assert not marker.exists()


def test_an_archive_with_a_compiled_library_is_refused(models: Path, tmp_path: Path) -> None:
    more = {"data/aotinductor/model/model.so": b"\x7fELF"}
    path = rewritten(models / "model.pt2", tmp_path / "model.pt2", lambda n, c: c, **more)
    with pytest.raises(UnsafeModelError, match="holds a compiled library"):
        load_classifier(path, DESCRIPTOR)


class Varied(torch.nn.Module):
    """Layers whose export needs expressions, constants and scalar functions."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = torch.nn.Conv2d(3, 8, 8, 8)
        self.norm = torch.nn.BatchNorm2d(8)
        self.register_buffer("scale", torch.ones(1))
        self.places = torch.arange(17)
        self.first = torch.nn.Parameter(torch.zeros(1, 1, 8))
        layer = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.encoder = torch.nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = torch.nn.Linear(8, 2)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        n = batch.shape[0]
        tokens = self.norm(self.patches(batch)).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.first.expand(n, -1, -1), tokens], 1)
        with torch.no_grad():
            tokens = tokens + self.scale * self.places[None, :, None] / n
        tokens = self.encoder(tokens).reshape(n * 17, 8).reshape(n, 17, 8)
        return self.head(torch.nn.functional.dropout(tokens[:, 0], training=False))


@pytest.mark.slow
def test_a_program_of_many_layers_is_not_refused(tmp_path: Path) -> None:
    check(save_exported(tmp_path / "model.pt2", Varied()))
