"""The paper's slide-level classification on its authors' own features."""

from __future__ import annotations

import numpy as np
import pytest
from reference import reference
from skops.io import dumps

from hpc_heatmap.errors import EvaluationError
from hpc_heatmap.evaluation.auc import auc
from hpc_heatmap.evaluation.score_table import read_score_table
from hpc_heatmap.evaluation.slide_features import FEATURES
from hpc_heatmap.evaluation.slide_forest import fit_forest, read_forest


def slides_of(name):
    table = read_score_table(reference("slide_level") / name)
    columns = {feature: table.scores(feature).tolist() for feature in FEATURES}
    names = table.slides()
    return names, [{f: columns[f][k] for f in FEATURES} for k in range(len(names))]


def table_iv(kind, seed):
    """AUC at stride 16 on the 129 test slides, slides in the order of their names."""
    _, normal = slides_of(f"features_{kind}_normalization_thr05_normal.csv")
    _, tumour = slides_of(f"features_{kind}_normalization_thr05_tumor.csv")
    names, test = slides_of(f"features_{kind}_normalization_thr05_test.csv")
    path = reference("slide_level") / "reference_all_final_results_0515.csv"
    known = read_score_table(path).labels("truth")
    positive = [False] * len(normal) + [True] * len(tumour)
    scores = fit_forest(normal + tumour, positive, seed).scores(test)
    return auc([known[name] for name in names], scores).auc


RANGES = [("without", 0.889, 0.908), ("with", 0.962, 0.972)]


@pytest.mark.parametrize(("kind", "low", "high"), RANGES)
def test_stride_16_of_the_papers_table_iv(kind, low, high):
    assert low <= table_iv(kind, seed=1) <= high


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "low", "high"), RANGES)
def test_table_iv_in_the_mean_of_five_seeds(kind, low, high):
    areas = [table_iv(kind, seed) for seed in range(5)]
    assert low <= np.mean(areas) <= high
    assert np.ptp(areas) < 0.02


def made_up(n=12):
    rng = np.random.default_rng(3)
    truth = [bool(k % 2) for k in range(n)]
    return [{f: float(rng.random() + t) for f in FEATURES} for t in truth], truth


def test_a_forest_comes_back_as_it_was(tmp_path):
    slides, truth = made_up()
    forest = fit_forest(slides, truth, seed=4)
    forest.write(tmp_path / "f.skops")
    again = read_forest(tmp_path / "f.skops")
    np.testing.assert_array_equal(again.scores(slides), forest.scores(slides))
    np.testing.assert_array_equal(
        fit_forest(slides, truth, seed=4).scores(slides), forest.scores(slides)
    )
    assert (again.n_positive, again.n_negative, again.seed) == (6, 6, 4)


class Stranger:
    """A type that no forest holds."""


def test_what_is_no_forest_is_refused(tmp_path):
    path = tmp_path / "f.skops"
    with pytest.raises(EvaluationError, match="is no forest"):
        read_forest(path)
    path.write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(EvaluationError, match="is no forest"):
        read_forest(path)
    path.write_bytes(dumps({"features": list(FEATURES), "forest": Stranger()}))
    with pytest.raises(EvaluationError, match="is not loaded"):
        read_forest(path)
    path.write_bytes(dumps({"features": ["area"]}))
    with pytest.raises(EvaluationError, match="is no forest"):
        read_forest(path)


def test_one_class_cannot_be_fitted():
    slides, _ = made_up(4)
    with pytest.raises(EvaluationError, match="each class needs two"):
        fit_forest(slides, [True, True, True, False])
