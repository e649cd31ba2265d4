"""`evaluate froc` and `evaluate auc`: keys, files, and one sentence for each mistake."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile
from PIL import Image

from hpc_heatmap.cli.app import main

SQUARE = [[1600, 1600], [4800, 1600], [4800, 4800], [1600, 4800]]
BOW_TIE = [[1600, 1600], [4800, 4800], [4800, 1600], [1600, 4800]]


@pytest.fixture
def case(tmp_path):
    """Two lesions at 0.9 and 0.3 on slide a; b is normal."""
    detections, masks = tmp_path / "detections", tmp_path / "masks"
    detections.mkdir()
    masks.mkdir()
    mask = np.zeros((200, 200), np.uint8)
    mask[20:80, 20:80] = mask[120:180, 120:180] = 1
    Image.fromarray(mask).save(masks / "a.png")
    (detections / "a.csv").write_text("0.9,1600,1600\n0.3,4800,4800\n")
    (detections / "b.csv").write_text("")
    return detections, masks


def froc(capfd, case, *more):
    capfd.readouterr()
    arguments = ["evaluate", "froc", "--detections", case[0], "--masks", case[1], "--quiet", *more]
    return main([str(a) for a in arguments]), *capfd.readouterr()


def auc(capfd, path, *more):
    capfd.readouterr()
    arguments = ["evaluate", "auc", "--scores", path, "--truth", "t", "--score", "s", *more]
    return main([str(a) for a in arguments]), *capfd.readouterr()


def refused(result, words):
    code, out, err = result
    assert (code, out) == (2, "")
    assert err.startswith("hpc-heatmap: ")
    assert err.count("\n") == 1
    assert words in err


def test_froc_by_both_rules(capfd, case, tmp_path):
    for rule, score in (("official", 0.5), ("corrected", 1.0)):
        code, out, err = froc(capfd, case, "--rule", rule, "--json")
        answer = json.loads(out)
        assert code == 0
        assert answer["score"] == score
        assert set(answer["sensitivity"]) == {"0.25", "0.5", "1", "2", "4", "8"}
        assert (answer["n_slides"], answer["n_lesions"]) == (2, 2)
        assert "differ" in err
    curve, picture = tmp_path / "c.csv", tmp_path / "c.png"
    assert froc(capfd, case, "--csv", curve, "--picture", picture)[0] == 0
    assert curve.read_text().startswith("threshold,false_positives_per_slide,sensitivity\n")
    with Image.open(picture) as drawn:
        assert drawn.size == (1120, 840)


def test_kinds_of_truth_agree(capfd, case):
    with Image.open(case[1] / "a.png") as picture:
        mask = np.asarray(picture)
    expected = json.loads(froc(capfd, case, "--json")[1])
    (case[1] / "a.png").unlink()
    squares = [[[x, x], [x + 1888, x], [x + 1888, x + 1888], [x, x + 1888]] for x in (640, 3840)]
    camelyon = {"positive": [{"name": "1", "vertices": s} for s in squares], "negative": []}
    features = [
        {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [s]}}
        for s in squares
    ]
    places = [
        "".join(f'<Coordinate Order="{i}" X="{x}" Y="{y}"/>' for i, (x, y) in enumerate(s))
        for s in squares
    ]
    xml = "".join(f'<Annotation Type="Polygon">{p}</Annotation>' for p in places)
    texts = {
        "a.json": json.dumps(camelyon),
        "a.geojson": json.dumps({"type": "FeatureCollection", "features": features}),
        "a.xml": f"<ASAP_Annotations>{xml}</ASAP_Annotations>",
    }
    for name, text in texts.items():
        (case[1] / name).write_text(text)
        assert json.loads(froc(capfd, case, "--json")[1]) == expected, name
        (case[1] / name).unlink()
    tifffile.imwrite(case[1] / "a.tif", mask * 255)
    assert json.loads(froc(capfd, case, "--json")[1]) == expected


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("prob,x,y\n0.9,1,1\n", "header"),
        ("0,9,1600,1600\n", "comma as decimal point"),
        ("0,9;1600;1600\n", "comma as decimal point"),
        ("nan,1,1\n", "not finite"),
        ("1600,1600,0.9\n", "not in [0, 1]"),
        ("0.9,99999,1\n", "do not match"),
        ("0.9,1600\n", "not prob,x,y"),
    ],
)
def test_bad_detections(capfd, case, rows, words):
    (case[0] / "a.csv").write_text(rows)
    refused(froc(capfd, case), words)


@pytest.mark.parametrize("value", [1, 255])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_masks_of_0_and_1_and_of_0_and_255_are_the_same(capfd, case, value, suffix):
    """Neither is one lesion of the whole slide."""
    expected = json.loads(froc(capfd, case, "--json")[1])
    with Image.open(case[1] / "a.png") as picture:
        mask = np.asarray(picture) * np.uint8(value)
    (case[1] / "a.png").unlink()
    Image.fromarray(mask).save(case[1] / f"a.{suffix}")
    answer = json.loads(froc(capfd, case, "--json")[1])
    assert answer == expected and answer["n_lesions"] == 2


def test_duplicate_slides_are_refused(capfd, case):
    (case[0] / "A.csv").write_text("0.9,1600,1600\n")
    refused(froc(capfd, case), "are both of the slide")
    (case[0] / "A.csv").unlink()
    (case[1] / "A_mask.png").write_bytes((case[1] / "a.png").read_bytes())
    refused(froc(capfd, case), "are both of one slide")


def test_slides_of_one_class_have_no_sensitivity(capfd, case):
    (case[1] / "a.png").unlink()
    refused(froc(capfd, case), "no lesion that counts")


def test_bad_truth(capfd, case):
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(case[1] / "b.png")
    refused(froc(capfd, case), "empty mask")
    (case[1] / "b.png").write_bytes(b"no picture")
    refused(froc(capfd, case), "cannot be read as a mask")
    (case[1] / "b.png").rename(case[1] / "c.png")
    refused(froc(capfd, case), "no CSV of its name")
    (case[1] / "c.png").rename(case[1] / "a.tif")
    refused(froc(capfd, case), "both of one slide")


@pytest.mark.parametrize(
    ("vertices", "words"),
    [
        (BOW_TIE, "crosses itself"),
        ([[-500, 0], *SQUARE], "outside of the slide"),
        ([[9000, 1700], *SQUARE], "outside of the slide"),
        (SQUARE[:2], "3 points or more"),
    ],
)
def test_bad_outlines(capfd, case, tmp_path, vertices, words):
    (case[1] / "a.png").unlink()
    document = {"positive": [{"name": "1", "vertices": vertices}], "negative": []}
    (case[1] / "a.json").write_text(json.dumps(document))
    sizes = tmp_path / "sizes.csv"
    sizes.write_text("slide,width,height\na,6400,6400\n")
    refused(froc(capfd, case, "--slide-sizes", sizes), words)


def test_auc(capfd, tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text("slide,t,s,u\na,1,0.9,1\nb,1,0.4,3\nc,0,0.4,2\nd,0,0.1,2\n")
    picture = tmp_path / "roc.svg"
    code, out, _ = auc(capfd, path, "--json", "--compare", "u", "--picture", picture)
    answer = json.loads(out)
    assert code == 0
    assert {"auc", "se", "ci", "n_positive", "n_negative", "compare"} <= set(answer)
    assert answer["auc"] == 0.875
    assert answer["compare"]["difference"] == 0.375
    drawn = picture.read_text()
    assert drawn.startswith("<svg")
    assert "s: AUC 0.8750" in drawn and "u: AUC 0.5000" in drawn
    assert auc(capfd, path)[0] == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("slide,t,s\na,1,1\nb,1,2\n", "both classes"),
        ("slide,t,s\na,1,1\na,0,2\n", "stands in lines 2 and 3"),
        ("slide,t,s\na,1,nan\nb,0,2\n", "leave that slide out"),
        ('slide,t,s\na,1,"0,9"\nb,0,2\n', "comma as decimal point"),
        ("slide,t,s\na,1,0,9\nb,0,2\n", "comma as"),
        ("slide,t,x\na,1,1\n", "no column s"),
        ("slide,t,s\na,2,1\nb,0,2\n", "neither 0 nor"),
    ],
)
def test_bad_scores(capfd, tmp_path, text, words):
    path = tmp_path / "scores.csv"
    path.write_text(text)
    refused(auc(capfd, path), words)
