"""Marks on slides as CAMELYON16's evaluation reads them."""

from __future__ import annotations

import numpy as np

from hpc_heatmap.evaluation.detections import read_detections
from hpc_heatmap.formats.camelyon_csv import (
    detections_of,
    write_camelyon_csv,
)
from hpc_heatmap.formats.lesion_files import Lesion, read_lesions_csv, write_lesions_csv


def test_the_evaluation_reads_what_is_written(tmp_path):
    lesions = [
        Lesion(1, 0.987654321, 1.0, 20041.4, 97499.6, 9, 2304.0, ()),
        Lesion(2, 0.5, 0.6, -0.4, 3.0, 1, 256.0, ()),
    ]
    write_camelyon_csv(tmp_path / "a.csv", detections_of(lesions))
    read = read_detections(tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text() == "0.987654,20041,97500\n0.500000,0,3\n"
    np.testing.assert_allclose(read.probability, [0.987654, 0.5])
    write_lesions_csv(tmp_path / "lesions.csv", lesions, None)
    write_camelyon_csv(
        tmp_path / "b.csv", detections_of(read_lesions_csv(tmp_path / "lesions.csv"))
    )
    assert (tmp_path / "b.csv").read_text() == (tmp_path / "a.csv").read_text()


def test_a_slide_without_lesions_has_an_empty_file(tmp_path):
    write_camelyon_csv(tmp_path / "a.csv", [])
    assert (tmp_path / "a.csv").read_bytes() == b""
    assert len(read_detections(tmp_path / "a.csv").probability) == 0
