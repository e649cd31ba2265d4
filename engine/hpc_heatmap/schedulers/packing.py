"""How many groups a scoring task takes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

__all__ = ["pack_groups"]

#: Length of a light task at least: what it costs beside its work is a small part of that.
_LIGHT_S = 1.0


def pack_groups(
    n_groups: int, group_s: float, task_s: float, slots: int, *, light: bool = False
) -> Iterator[tuple[int, int]]:
    """Cut groups into tasks of `task_s` at most, and into one a slot at least.

    Tasks get shorter towards the end, down to an eighth, so that no slot waits long for the last:
    each takes a slot's share of what is left. There are no more of them than that, since each costs
    seconds beside its work. Light ones, which do not, take half a share, down to a second.
    """
    longest = max(1, int(task_s / max(group_s, 1e-9)))
    shortest = max(1, min(longest, int(_LIGHT_S / max(group_s, 1e-9))) if light else longest // 8)
    if n_groups <= slots * shortest:
        n_tasks = max(1, min(slots, n_groups))
        borders = [n_groups * k // n_tasks for k in range(n_tasks + 1)]
        yield from ((a, b) for a, b in itertools.pairwise(borders) if a < b)
        return
    shares = 2 * slots if light else slots
    start = 0
    while start < n_groups:
        share = -(-(n_groups - start) // shares)
        stop = min(n_groups, start + min(longest, max(shortest, share)))
        yield start, stop
        start = stop
