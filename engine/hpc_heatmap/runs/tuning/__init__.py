"""How fast a file system gives groups, and how large they should be (the paper's Fig. 5).

>>> from hpc_heatmap.runs.tuning import tune
>>> found = tune("/scratch")  # doctest: +SKIP
>>> found.recommended  # doctest: +SKIP
256
"""

from __future__ import annotations

from hpc_heatmap.runs.tuning.measuring import Reading, Tuning, tune
from hpc_heatmap.runs.tuning.picture import draw_tuning

__all__ = ["Reading", "Tuning", "draw_tuning", "tune"]
