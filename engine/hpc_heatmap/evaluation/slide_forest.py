"""From a slide's features to its score: a random forest with the paper's settings.

It is kept with skops, which stores arrays and names and no pickled code.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hpc_heatmap.errors import EvaluationError, brief
from hpc_heatmap.evaluation.slide_features import FEATURES
from hpc_heatmap.formats.atomic import writing

__all__ = ["SlideForest", "fit_forest", "read_forest"]

#: The paper's settings.
TREES, MAX_FEATURES, MAX_DEPTH = 300, 20, 10
#: Holds the nodes of a tree as an array, which is checked before it is used.
_TRUSTED = {"sklearn.tree._tree.Tree"}


class SlideForest:
    """A fitted forest with what it was fitted on.

    Parameters
    ----------
    forest
        scikit-learn's RandomForestClassifier.
    n_positive, n_negative
        Slides that it was fitted on.
    seed
        Of its trees.
    """

    def __init__(self, forest: Any, n_positive: int, n_negative: int, seed: int) -> None:
        self._forest = forest
        self.n_positive, self.n_negative, self.seed = n_positive, n_negative, seed

    def scores(self, slides: Sequence[Mapping[str, float]]) -> npt.NDArray[np.float64]:
        """Probability of tumour of each slide, from its features."""
        return np.asarray(self._forest.predict_proba(_matrix(slides))[:, 1], np.float64)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Keep it as a ``.skops`` file."""
        from skops.io import dumps

        values = {
            "format": "hpc-heatmap slide forest 1",
            "features": list(FEATURES),
            "forest": self._forest,
            "n_positive": self.n_positive,
            "n_negative": self.n_negative,
            "seed": self.seed,
        }
        with writing(Path(path)) as partial:
            partial.write_bytes(dumps(values))


def fit_forest(
    slides: Sequence[Mapping[str, float]], truth: Sequence[bool], seed: int = 0
) -> SlideForest:
    """Fit a forest; the same slides, order and seed give the same forest.

    Raises
    ------
    EvaluationError
        There are not two slides of each class.
    """
    from sklearn.ensemble import RandomForestClassifier

    positive = np.asarray(truth, bool)
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    if min(n_positive, n_negative) < 2:
        raise EvaluationError(
            f"{n_positive} positive and {n_negative} negative slides are not enough to fit a "
            "forest: each class needs two, and a useful forest many more."
        )
    forest = RandomForestClassifier(
        n_estimators=TREES, max_features=MAX_FEATURES, max_depth=MAX_DEPTH, random_state=seed
    )
    forest.fit(_matrix(slides), positive)
    return SlideForest(forest, n_positive, n_negative, seed)


def read_forest(path: str | os.PathLike[str]) -> SlideForest:
    """Read a forest; a file that holds anything but scikit-learn's own types is refused.

    Raises
    ------
    EvaluationError
        The file is missing, is no forest, or holds other types.
    """
    from skops.io import get_untrusted_types, loads

    try:
        data = Path(path).read_bytes()
        strange = sorted(set(get_untrusted_types(data=data)) - _TRUSTED)
        if strange:
            raise EvaluationError(
                f"{path} holds the types {', '.join(strange[:3])}, which a forest does not: it is "
                "not loaded."
            )
        values = loads(data, trusted=sorted(_TRUSTED))
        if not isinstance(values, dict) or values.get("features") != list(FEATURES):
            raise ValueError("it has other contents")
        forest, known = values["forest"], ("n_positive", "n_negative", "seed")
        if not all(_is_sound(one.tree_) for one in forest.estimators_):
            raise ValueError("its trees are damaged")
        return SlideForest(forest, *(int(values[name]) for name in known))
    except EvaluationError:
        raise
    except Exception as error:  # whatever a damaged archive makes of itself
        raise EvaluationError(
            f"{path} is no forest of `hpc-heatmap classify fit` ({brief(error)}): fit one."
        ) from error


def _is_sound(tree: Any) -> bool:
    """Whether every branch of a tree leads to a later node of it, and asks for a known feature."""
    nodes = np.arange(tree.node_count)
    inner = tree.children_left != -1
    branches = np.stack([tree.children_left[inner], tree.children_right[inner]])
    features = tree.feature[inner]
    return bool(
        (branches > nodes[inner]).all()
        and (branches < tree.node_count).all()
        and ((features >= 0) & (features < len(FEATURES))).all()
    )


def _matrix(slides: Sequence[Mapping[str, float]]) -> npt.NDArray[np.float64]:
    return np.array([[slide[name] for name in FEATURES] for slide in slides], np.float64)
