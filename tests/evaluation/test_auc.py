"""AUC against counting, naive variances and the reference table."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import reference

from hpc_heatmap.errors import EvaluationError
from hpc_heatmap.evaluation.auc import auc, compare, roc
from hpc_heatmap.evaluation.score_table import read_score_table

few = st.lists(st.integers(0, 6), min_size=2, max_size=12)


def kernel(positive, negative):
    return np.array(
        [[1.0 if p > n else 0.5 if p == n else 0.0 for n in negative] for p in positive]
    )


def data(positive, negative):
    return [1] * len(positive) + [0] * len(negative), [*positive, *negative]


@settings(deadline=None)
@given(few, few)
def test_it_equals_counting_and_the_naive_variances(positive, negative):
    truth, score = data(positive, negative)
    k = kernel(positive, negative)
    n, m = k.shape
    assert auc(truth, score).auc == pytest.approx(k.mean(), abs=1e-12)
    delong = k.mean(1).var(ddof=1) / n + k.mean(0).var(ddof=1) / m
    assert auc(truth, score).se ** 2 == pytest.approx(delong, abs=1e-12)
    msa, msb, mst = m * k.mean(1).var(ddof=1), n * k.mean(0).var(ddof=1), k.var(ddof=1)
    e = ((n * m - 1) * mst - (n - 1) * msa - (m - 1) * msb) / ((n - 1) * (m - 1))
    unbiased = max(0, (msa + msb - e) / (m * n))
    assert auc(truth, score, "unbiased").se ** 2 == pytest.approx(unbiased, abs=1e-12)
    low, high = auc(truth, score).ci
    assert 0 <= low <= high <= 1


@settings(deadline=None)
@given(few, few)
def test_a_monotone_transform_changes_nothing(positive, negative):
    truth, score = data(positive, negative)
    for method in ("delong", "unbiased"):
        assert auc(truth, score, method) == auc(truth, np.exp(score), method)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=6, max_size=20))
def test_the_paired_covariance_equals_the_naive_one(pairs):
    first, second = np.array(pairs, float).T
    truth = np.arange(len(pairs)) % 2
    a, b = (kernel(s[truth == 1], s[truth == 0]) for s in (first, second))
    n, m = a.shape
    naive = np.cov(a.mean(1), b.mean(1))[0, 1] / n + np.cov(a.mean(0), b.mean(0))[0, 1] / m
    assert compare(truth, first, second).covariance == pytest.approx(naive, abs=1e-12)
    for method in ("delong", "unbiased"):
        same = compare(truth, first, first, method)
        assert (same.difference, same.se) == (0, pytest.approx(0, abs=1e-7))


def test_the_unbiased_variance_is_unbiased():
    random = np.random.default_rng(1)
    found = []
    for _ in range(2000):
        truth, score = data(random.normal(1, 1, 6), random.normal(0, 1, 8))
        found.append((auc(truth, score).auc, auc(truth, score, "unbiased").se ** 2))
    areas, variances = np.array(found).T
    assert variances.mean() == pytest.approx(areas.var(ddof=1), rel=0.1)


def test_the_roc_has_the_area():
    truth, score = data([0.9, 0.4, 0.4], [0.4, 0.1])
    _, false, true = roc(truth, score)
    assert np.trapezoid(true, false) == pytest.approx(auc(truth, score).auc)


@pytest.mark.parametrize(
    ("column", "area", "sd"),
    [
        ("Method_I", 0.91556122, 0.02576999),
        ("Method_II_noise_norm", 0.98392857, 0.00855298),
    ],
)
def test_the_reference_table(column, area, sd):
    table = read_score_table(reference("slide_level/reference_all_final_results_0515.csv"))
    got = auc(table.truth("truth"), table.scores(column), "unbiased")
    assert got.auc == pytest.approx(area, abs=1e-7)
    assert got.se == pytest.approx(sd, abs=1e-7)
    assert (table.truth("truth") == table.truth("is_tumor")).all()


def test_too_little_is_refused():
    with pytest.raises(EvaluationError, match="each class needs two"):
        auc([1, 0, 0], [1, 2, 3])
    with pytest.raises(EvaluationError, match="not finite"):
        auc([1, 1, 0, 0], [1, 2, 3, np.nan])
