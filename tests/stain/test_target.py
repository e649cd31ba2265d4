"""Targets of stain normalization from pictures and JSON, and the command that makes them."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from reference import reference

from hpc_heatmap.cli.app import main
from hpc_heatmap.errors import SettingsError
from hpc_heatmap.settings import StainMethod
from hpc_heatmap.stain.target import read_target


@pytest.fixture
def picture(tmp_path):
    name = "target_camelyon_tumor_001_256.png"
    return shutil.copy(reference("stain_reference") / name, tmp_path / name)


@pytest.mark.parametrize("method", ["vahadane", "macenko", "reinhard"])
def test_the_stored_target_is_that_of_the_picture(method, picture, tmp_path, capfd):
    out = tmp_path / "target.json"
    assert main(["stain", str(picture), "--method", method, "--out", str(out)]) == 0
    assert "Written" in capfd.readouterr().out
    assert read_target(out, StainMethod(method)) == read_target(picture, StainMethod(method))


def test_what_is_no_target_is_refused(picture, tmp_path):
    out = tmp_path / "target.json"
    assert main(["stain", str(picture), "--out", str(out)]) == 0
    cases = {
        out: (StainMethod.MACENKO, "made by the method vahadane"),
        tmp_path / "none.png": (StainMethod.MACENKO, "There is no stain target"),
    }
    values = json.loads(out.read_text())
    for name, change in (("empty", {"stains": None}), ("nan", {"strongest": [-1.0, 2.0]})):
        (tmp_path / f"{name}.json").write_text(json.dumps(values | change))
        cases[tmp_path / f"{name}.json"] = (StainMethod.VAHADANE, "is no stain target")
    (tmp_path / "text.png").write_text("no picture")
    cases[tmp_path / "text.png"] = (StainMethod.REINHARD, "cannot be read as a stain target")
    Image.fromarray(np.full((200, 200, 3), 250, np.uint8)).save(tmp_path / "glass.png")
    cases[tmp_path / "glass.png"] = (StainMethod.VAHADANE, "only 0 pixels are tissue")
    for path, (method, words) in cases.items():
        with pytest.raises(SettingsError, match=words) as caught:
            read_target(path, method)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--method", "none", "--out", "a.json"], "estimates nothing"),
        (["--out", "a.png"], "must end with .json"),
    ],
)
def test_bad_requests(more, words, picture, capfd):
    assert main(["stain", str(picture), *more]) == 2
    assert words in capfd.readouterr().err
