"""Grid Engine's ways to write durations and sizes."""

from __future__ import annotations

import re

__all__ = ["read_bytes", "read_seconds"]

_POWERS = {"": 0, "B": 0, "K": 1, "M": 2, "G": 3, "T": 4}


def read_seconds(text: int | str) -> int:
    """Seconds of ``90``, ``"90"`` or ``"0:1:30"``.

    Raises
    ------
    ValueError
        It is neither.
    """
    if isinstance(text, int) and text >= 0:
        return int(text)
    if not re.fullmatch(r"\d+|\d*:\d*:\d*", str(text)):
        raise ValueError(f"{text!r} is no duration: give seconds or HH:MM:SS.")
    seconds = 0
    for part in str(text).split(":"):
        seconds = 60 * seconds + int(part or 0)
    return seconds


def read_bytes(text: str) -> float:
    """Bytes of ``500M``, ``8.8MB``, ``1073741824``; 0 for what is none of these.

    ``k``, ``m``, ``g`` are powers of 1000 and ``K``, ``M``, ``G`` of 1024.
    """
    match = re.fullmatch(r"([\d.]+)\s*([KkMmGgTt]?)B?s?", text.strip())
    if not match:
        return 0.0
    unit = match[2]
    power: int = _POWERS[unit.upper()]
    return float(match[1]) * float((1000 if unit.islower() else 1024) ** power)
