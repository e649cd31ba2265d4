"""The commands ``classify features``, ``fit`` and ``predict``: slide-level scores by a forest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from hpc_heatmap.cli.app import RunDirectory, console
from hpc_heatmap.errors import EvaluationError, SettingsError

__all__ = ["classify"]

classify = App(name="classify", help="Score slides by features of their heatmaps (random forest).")

Tables = Annotated[
    list[Path],
    Parameter(
        negative="", consume_multiple=True, help="CSV files of `classify features`, read as one."
    ),
]


@classify.command
def features(
    directory: RunDirectory,
    /,
    *,
    out: Annotated[Path, Parameter(help="CSV to write.")],
) -> int:
    """Write thirty features of each slide's heatmap, one slide a row."""
    from hpc_heatmap.evaluation.slide_features import write_features
    from hpc_heatmap.runs.run import open_run
    from hpc_heatmap.runs.slide_scores import run_features

    _refuse_folder(out)
    found = run_features(open_run(directory))
    write_features(out, found)
    console.print(f"Written: {out}, {len(found)} slides", markup=False)
    return 0


@classify.command
def fit(
    *,
    features: Tables,
    truth: Annotated[str, Parameter(help="Column with the truth: 1 or 0, tumor or normal.")],
    out: Annotated[Path, Parameter(help="Forest to write, .skops.")],
    labels: Annotated[
        Path | None,
        Parameter(help="CSV with the slides' names and the truth. Default: the features' own."),
    ] = None,
    seed: Annotated[int, Parameter(help="Of the trees.")] = 1,
) -> int:
    """Fit a random forest: 300 trees, 20 features a split, depth 10, as in the paper."""
    from hpc_heatmap.evaluation.score_table import read_score_table
    from hpc_heatmap.evaluation.slide_features import FEATURES
    from hpc_heatmap.evaluation.slide_forest import fit_forest

    if out.suffix != ".skops" or out.is_dir():
        raise SettingsError(f"{out}: the name of a forest must end with .skops.")
    if not 0 <= seed < 2**32:
        raise SettingsError("--seed must be 0 to 4294967295.")
    known = read_score_table(labels).labels(truth) if labels else None
    slides: dict[str, dict[str, float]] = {}
    positive: dict[str, bool] = {}
    for path in features:
        table = read_score_table(path)
        names, columns = table.slides(), [table.scores(name).tolist() for name in FEATURES]
        for number, name in enumerate(names):
            if name in slides:
                raise EvaluationError(f"{path}: the slide {name} stands in another table too.")
            if known is not None and name not in known:
                raise EvaluationError(f"{labels} has no row of the slide {name} of {path}.")
            slides[name] = {f: column[number] for f, column in zip(FEATURES, columns, strict=True)}
        here = table.labels(truth) if known is None else known
        positive |= {name: here[name] for name in names}
    # By name, so that the order of files and rows does not matter.
    ordered = sorted(slides)
    forest = fit_forest([slides[n] for n in ordered], [positive[n] for n in ordered], seed)
    forest.write(out)
    console.print(
        f"Written: {out}, fitted on {forest.n_positive} positive and {forest.n_negative} negative "
        "slides",
        markup=False,
    )
    return 0


@classify.command
def predict(
    forest: Annotated[Path, Parameter(help="Forest of `classify fit`.")],
    /,
    *,
    features: Tables,
    out: Annotated[Path, Parameter(help="CSV to write: slide, score.")],
) -> int:
    """Score slides by a forest: the probability of tumour of each row of features."""
    from hpc_heatmap.evaluation.score_table import read_score_table
    from hpc_heatmap.evaluation.slide_features import FEATURES, write_table
    from hpc_heatmap.evaluation.slide_forest import read_forest

    _refuse_folder(out)
    fitted = read_forest(forest)
    rows: list[tuple[str, float]] = []
    for path in features:
        table = read_score_table(path)
        columns = {name: table.scores(name).tolist() for name in FEATURES}
        slides = [
            {name: columns[name][number] for name in FEATURES}
            for number in range(len(table.slides()))
        ]
        rows += zip(table.slides(), fitted.scores(slides).tolist(), strict=True)
    write_table(out, ("slide", "score"), rows)
    console.print(f"Written: {out}, {len(rows)} slides", markup=False)
    return 0


def _refuse_folder(path: Path) -> None:
    if path.is_dir():
        raise SettingsError(f"{path} is a folder: give the name of a file.")
