"""The picture of a tuning, like the paper's Fig. 5."""

from __future__ import annotations

import io

from hpc_heatmap.runs.tuning.measuring import Tuning

__all__ = ["draw_tuning"]


def draw_tuning(found: Tuning) -> bytes:
    """PNG: time to read a group against its size, and a task's start beside it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.4), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2)
    sizes = [r.patches for r in found.readings]
    left.loglog(sizes, [r.one_by_one_s for r in found.readings], "s-", label="patch by patch")
    left.loglog(sizes, [r.whole_s for r in found.readings], "o-", label="the group at once")
    left.axhline(found.start_s, color="0.6", linestyle=":", label="start of a task")
    left.set_xlabel("patches in a group")
    left.set_ylabel("time, s")
    left.set_xticks(sizes, [str(n) for n in sizes], minor=False)
    left.minorticks_off()
    left.tick_params("x", labelsize=7)
    left.legend(frameon=False, fontsize=8, loc="lower right")
    left.set_title("reading a group", fontsize=10)
    per_patch = [1000 * r.whole_s / r.patches for r in found.readings]
    started = [1000 * found.start_s / r.patches for r in found.readings]
    right.loglog(sizes, per_patch, "o-", color="C1", label="reading, the group at once")
    right.loglog(sizes, started, ":", color="0.4", label="start of a task of one group")
    right.axvline(found.recommended, color="C2", linewidth=1, label=f"N_p = {found.recommended}")
    right.set_xlabel("patches in a group")
    right.set_ylabel("ms a patch")
    right.set_xticks(sizes, [str(n) for n in sizes], minor=False)
    right.minorticks_off()
    right.tick_params("x", labelsize=7)
    right.legend(frameon=False, fontsize=8)
    right.set_title("cost of a patch", fontsize=10)
    figure.suptitle(f"{found.directory}: {found.file_system}", fontsize=9)
    with io.BytesIO() as file:
        figure.savefig(file, format="png")
        return file.getvalue()
