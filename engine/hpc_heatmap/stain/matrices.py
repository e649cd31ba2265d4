"""Stain matrices: two optical-density vectors, haematoxylin first, estimated from pixels.

Macenko et al., "A method for normalizing histology slides for quantitative analysis", ISBI 2009;
Vahadane et al., "Structure-preserving color normalization and sparse stain separation for
histological images", IEEE TMI 2016.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hpc_heatmap.stain.colour import Floats

__all__ = ["concentrations", "macenko", "vahadane"]

Matrix = npt.NDArray[np.float64]

#: Percentile of the angles between which the stains lie.
ANGLE_PERCENTILE = 99.0
#: Weight of sparsity while stains are estimated, and while they are told apart.
SPARSITY, TELLING = 0.1, 0.01
#: Rounds at most, and the relative gain of a round below which the search ends.
_MOST_ROUNDS, _LEAST_GAIN = 100, 1e-3
#: Turns of the two stains in a round.
_TURNS = 10


def macenko(density: Floats) -> Matrix:
    """Stain matrix (2, 3) of optical densities (n, 3): the extreme angles in their main plane."""
    vectors = np.linalg.eigh(_covariance(density))[1][:, [2, 1]]
    vectors = vectors * np.where(vectors[0] < 0, -1.0, 1.0)
    first, second = (_project(density, vectors[:, k]) for k in (0, 1))
    angles = np.arctan2(second, first)
    low, high = np.percentile(angles, [100 - ANGLE_PERCENTILE, ANGLE_PERCENTILE])
    one, other = vectors.T
    return _ordered(np.array([one * np.cos(a) + other * np.sin(a) for a in (low, high)]))


def vahadane(density: Floats) -> Matrix:
    """Stain matrix (2, 3) of optical densities (n, 3): a sparse non-negative factorisation.

    Densities are concentrations times stains; both are non-negative, stains have unit length, and
    the sum of concentrations is kept small. Concentrations and stains are improved in turns, from
    Macenko's stains on, so that the same pixels give the same matrix.

    The search ends early, as the stochastic search of other programs does: near the minimum the
    objective is flat, and what is left of it trades the stain for sparsity.
    """
    stains, before = macenko(density), np.inf
    columns = [np.ascontiguousarray(density[:, c]) for c in range(3)]
    for _ in range(_MOST_ROUNDS):
        amounts = [np.ascontiguousarray(a) for a in concentrations(density, stains, SPARSITY).T]
        products = np.array([[(a * b).sum() for b in amounts] for a in amounts])
        pulls = np.array([[(a * column).sum() for column in columns] for a in amounts])
        objective = sum(
            (((column - amounts[0] * stains[0, c] - amounts[1] * stains[1, c]) ** 2) / 2).sum()
            for c, column in enumerate(columns)
        ) + SPARSITY * sum(a.sum() for a in amounts)
        if before - objective < _LEAST_GAIN * objective:
            break
        before = objective
        _improve(stains, products, pulls)
    return _ordered(stains)


def _improve(stains: Matrix, products: Matrix, pulls: Matrix) -> None:
    """Best stains for given concentrations, one after the other, in place."""
    for _ in range(_TURNS):
        for k in (0, 1):
            if products[k, k] > 0:
                rest = pulls[k] - products[k, 0] * stains[0] - products[k, 1] * stains[1]
                moved = np.maximum(stains[k] + rest / products[k, k], 0)
                stains[k] = moved / max(float(np.sqrt((moved * moved).sum())), 1e-12)


def concentrations(density: Floats, stains: Matrix, sparsity: float = TELLING) -> Floats:
    """Amounts (n, 2) of two stains in optical densities (n, 3): the non-negative lasso, exactly.

    It minimises |density - amounts . stains|^2 / 2 + sparsity * (sum of amounts); for two stains of
    unit length the minimum is one of three closed forms.
    """
    first, second = (_project(density, stain) - sparsity for stain in stains)
    common = float((stains[0] * stains[1]).sum())
    share = max(1 - common * common, 1e-12)
    alone, other = np.maximum(first, 0), np.maximum(second, 0)
    # A stain is alone where the other one would have to be negative.
    only_first = common * alone >= second
    only_second = ~only_first & (common * other >= first)
    both_first, both_second = (first - common * second) / share, (second - common * first) / share
    return np.stack(
        [
            np.where(only_first, alone, np.where(only_second, 0.0, both_first)),
            np.where(only_first, 0.0, np.where(only_second, other, both_second)),
        ],
        axis=-1,
    )


def _project(density: Floats, vector: Matrix) -> Floats:
    along: Floats = density[..., 0] * vector[0] + density[..., 1] * vector[1]
    along = along + density[..., 2] * vector[2]
    return along


def _covariance(density: Floats) -> Matrix:
    """Covariance with sums of a fixed order, whatever the number of threads."""
    away = density - density.mean(axis=0)
    columns = [np.ascontiguousarray(away[:, c]) for c in range(3)]
    sums = [[(a * b).sum() for b in columns] for a in columns]
    return np.array(sums) / max(len(density) - 1, 1)


def _ordered(stains: Matrix) -> Matrix:
    """Unit rows, haematoxylin first: it takes more of the red."""
    stains = stains / np.linalg.norm(stains, axis=1, keepdims=True)
    return stains if stains[0, 0] > stains[1, 0] else stains[::-1].copy()
