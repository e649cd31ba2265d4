"""What a run would cost, before anything is submitted.

>>> from hpc_heatmap.runs.cost import estimate
>>> cost = estimate(["slides"], "tumour.pt2")  # doctest: +SKIP
>>> cost.cells, cost.core_hours, cost.wall_hours  # doctest: +SKIP
(41230, 12.4, 3.1)

Three steps, which a form that is filled in can take apart: :func:`survey` finds the tissue of the
slides (once), :func:`measure` makes a trial of the model on this machine (once for a model and a
stride), :func:`predict` is arithmetic and a simulation, and takes well under a second.
"""

from __future__ import annotations

from hpc_heatmap.runs.cost.estimate import estimate
from hpc_heatmap.runs.cost.pool import pool_of
from hpc_heatmap.runs.cost.prediction import Choice, Estimate, predict
from hpc_heatmap.runs.cost.sizes import read_sizes
from hpc_heatmap.runs.cost.survey import SlideSize, Survey, survey
from hpc_heatmap.runs.cost.trial import Speed, Trial, measure

__all__ = [
    "Choice",
    "Estimate",
    "SlideSize",
    "Speed",
    "Survey",
    "Trial",
    "estimate",
    "measure",
    "pool_of",
    "predict",
    "read_sizes",
    "survey",
]
