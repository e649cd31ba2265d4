"""The run-time report of a run: the paper's Tables I to III, and a timeline.

>>> from hpc_heatmap.runs.report import report_run
>>> report = report_run("RUN", {"tumor": ["tumor_*"]})  # doctest: +SKIP
>>> report.combined[-1].speed_up, report.combined[-1].cores  # doctest: +SKIP
(3526.1, 4000)

It needs the files of the run alone, so it can be made while the run goes on, or years later.
"""

from __future__ import annotations

from hpc_heatmap.runs.report.collecting import Report, parse_subsets, report_run
from hpc_heatmap.runs.report.pages import html_page, markdown_page
from hpc_heatmap.runs.report.rows import CombinedRow, DataRow, StageRow

__all__ = [
    "CombinedRow",
    "DataRow",
    "Report",
    "StageRow",
    "html_page",
    "markdown_page",
    "parse_subsets",
    "report_run",
]
