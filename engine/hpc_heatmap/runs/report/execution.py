"""What the report says of how the model was done, and of what was not scored."""

from __future__ import annotations

from collections.abc import Sequence

from hpc_heatmap.formats.run_file import RunFile
from hpc_heatmap.formats.task_files import TaskRecord

__all__ = ["execution_notes"]


def execution_notes(run: RunFile, records: Sequence[TaskRecord]) -> list[str]:
    """Sentences on the way that was chosen for the model, its exactness, and skipped windows."""
    execution, notes = run.model.execution, []
    if execution.reason:
        notes.append(execution.reason)
    if execution.difference is not None:
        asked = "" if run.settings.tolerance is None else f" ({run.settings.tolerance:g} allowed)"
        notes.append(
            f"On {execution.compared_windows} windows of the run's slides a score differs by "
            f"{execution.difference:.1e} at most from the model as its library runs it, in "
            f"{execution.precision}{' and int8' if execution.levels else ''}{asked}."
        )
    if run.settings.adaptive:
        windows = sum(record.windows for record in records)
        skipped = sum(record.skipped for record in records)
        coarse = run.settings.coarse_stride_px(run.stride_px, run.model.window_px)
        threshold = run.settings.threshold
        notes.append(
            f"Adaptive stride: {skipped:,} of {windows:,} windows "
            f"({skipped / windows if windows else 0:.1%}) were not scored and took the nearest "
            f"score at stride {coarse}, where none reached {threshold:g}, nor two neighbours "
            f"{threshold - run.settings.adaptive_margin:g}."
        )
    return notes
