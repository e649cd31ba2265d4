"""The command ``evaluate slides``: slide-level AUC of one run, or of two on the same slides."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
from cyclopts import Parameter

from hpc_heatmap.cli.app import RunDirectory
from hpc_heatmap.cli.evaluate import (
    Csv,
    Json,
    Picture,
    answer_areas,
    check_classes,
    check_targets,
)
from hpc_heatmap.errors import EvaluationError
from hpc_heatmap.evaluation.auc import Method
from hpc_heatmap.runs.run import Run, open_run

__all__ = ["slides"]


def slides(
    directory: RunDirectory,
    other: Annotated[
        Path | None, Parameter(help="Another run of the same slides, compared as paired.")
    ] = None,
    /,
    *,
    labels: Annotated[Path, Parameter(help="CSV with a header: slides and their truth.")],
    truth: Annotated[str, Parameter(help="Column with the truth: 1 or 0, tumor or normal.")],
    forest: Annotated[
        Path | None, Parameter(help="Score by this forest of `classify fit` instead of --score.")
    ] = None,
    score: Annotated[
        str, Parameter(help="Score a slide by this: max, or a feature of `classify features`.")
    ] = "max",
    method: Annotated[Method, Parameter(help="Of the variance.")] = "delong",
    scores_out: Annotated[
        Path | None, Parameter(help="Write slides, truth and scores to this CSV.")
    ] = None,
    csv_file: Csv = None,
    picture: Picture = None,
    as_json: Json = False,
) -> int:
    """Slide-level AUC of a run's heatmaps with its 95 % interval, and paired comparison of two."""
    from hpc_heatmap.evaluation.score_table import read_score_table
    from hpc_heatmap.evaluation.slide_features import write_table
    from hpc_heatmap.evaluation.slide_forest import read_forest
    from hpc_heatmap.runs.slide_scores import (
        check_measure,
        labels_of_run,
        run_features,
        slide_scores,
    )

    check_targets(csv_file, picture)
    check_targets(scores_out, None)
    check_measure(score)
    fitted = read_forest(forest) if forest else None
    runs = [open_run(path) for path in (directory, other) if path is not None]
    _check_same_slides(runs)
    positive = np.array(labels_of_run(runs[0], read_score_table(labels).labels(truth)), bool)
    check_classes(positive, labels, truth)
    names = _names(runs)
    values = {}
    for name, run in zip(names, runs, strict=True):
        found = run_features(run)
        in_order = {slide: found[slide] for slide in runs[0].slides}
        values[name] = slide_scores(in_order, score, fitted)
    if scores_out:
        columns = [positive.astype(int).tolist(), *(v.tolist() for v in values.values())]
        rows = list(zip(runs[0].slides, *columns, strict=True))
        write_table(scores_out, ("slide", "truth", *values), rows)
    answer_areas(positive, values, method, csv_file, picture, as_json=as_json)
    return 0


def _check_same_slides(runs: list[Run]) -> None:
    first = set(runs[0].slides)
    for run in runs[1:]:
        alone = sorted(first.symmetric_difference(run.slides))
        if alone:
            raise EvaluationError(
                f"{runs[0].root} and {run.root} are not of the same slides: {alone[0]} is in one "
                "of them alone; a paired comparison needs both."
            )


def _names(runs: list[Run]) -> list[str]:
    """Names of the runs' folders, or their paths where those are the same."""
    names = [run.root.name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.root) for run in runs]
