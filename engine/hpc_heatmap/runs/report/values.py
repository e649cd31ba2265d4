"""Values as people read them."""

from __future__ import annotations

from typing import Any

from hpc_heatmap.runs.report.rows import Kind

__all__ = ["duration", "shown"]


def shown(value: Any, kind: Kind) -> str:
    """A value for people, with its unit; a dash where it is not known."""
    if value is None:
        return "-"
    match kind:
        case Kind.COUNT:
            return f"{value:,}"
        case Kind.NUMBER:
            return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
        case Kind.BYTES:
            return _bytes(value)
        case Kind.HOURS:
            return duration(3600 * value)
        case Kind.SECONDS:
            return duration(value)
        case Kind.SHARE:
            return f"{100 * value:.1f} %"
    return str(value)


def duration(seconds: float) -> str:
    """Seconds in the unit that fits."""
    if seconds >= 3600:
        hours = seconds / 3600
        return f"{hours:,.0f} h" if hours >= 1000 else f"{hours:.3g} h"
    if seconds >= 60:
        return f"{seconds / 60:.3g} min"
    return f"{seconds:.3g} s" if seconds >= 0.001 or seconds == 0 else "< 1 ms"


def _bytes(value: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:,.0f} TB" if value >= 1000 else f"{value:.3g} TB"
