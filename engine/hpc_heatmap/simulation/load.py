"""What a simulated run has to do: seconds and bytes of each slide's stages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from hpc_heatmap.formats.task_files import TaskRecord
from hpc_heatmap.stages.task import Stage

__all__ = ["SlideLoad", "loads_from_records"]


@dataclass(frozen=True)
class SlideLoad:
    """Work of one slide.

    Attributes
    ----------
    name
        The slide.
    grouping_s, stitching_s
        Seconds of its grouping and of its stitching on a task's cores.
    group_s
        (n,) seconds of scoring each of its groups on a task's cores.
    slide_bytes
        Bytes that grouping reads.
    group_bytes
        Bytes that scoring reads for one group.
    """

    name: str
    grouping_s: float
    group_s: Sequence[float] | npt.NDArray[np.float64]
    stitching_s: float
    slide_bytes: float = 0.0
    group_bytes: float = 0.0
    _until: npt.NDArray[np.float64] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        until = np.concatenate([[0.0], np.cumsum(np.asarray(self.group_s, np.float64))])
        object.__setattr__(self, "_until", until)

    @property
    def n_groups(self) -> int:
        """Number of groups."""
        return len(self._until) - 1

    @property
    def mean_group_s(self) -> float:
        """Mean seconds of scoring a group."""
        return float(self._until[-1] / self.n_groups) if self.n_groups else 0.0

    def scoring_s(self, start: int, stop: int) -> float:
        """Seconds of scoring the groups from `start` up to `stop`."""
        return float(self._until[stop] - self._until[start])


def loads_from_records(records: Iterable[TaskRecord], fixed_s: float = 0.0) -> list[SlideLoad]:
    """What a real run had to do, from its task records.

    Parameters
    ----------
    records
        All records of a run in which nothing was done twice.
    fixed_s
        Seconds of a scoring task that do not depend on its groups, such as loading the model.
    """
    slides: dict[str, dict[str, list[TaskRecord]]] = {}
    for record in records:
        slides.setdefault(record.slide, {}).setdefault(record.stage, []).append(record)
    loads = []
    for name, stages in slides.items():
        scoring = stages.get(Stage.SCORING, [])
        seconds = {
            g: max(0.0, r.wall_s - fixed_s) / len(r.groups) for r in scoring for g in r.groups
        }
        n_groups = max(1, len(seconds))
        loads.append(
            SlideLoad(
                name=name,
                grouping_s=sum(r.wall_s for r in stages.get(Stage.GROUPING, [])),
                group_s=[seconds[g] for g in sorted(seconds)],
                stitching_s=sum(r.wall_s for r in stages.get(Stage.STITCHING, [])),
                group_bytes=sum(r.bytes_read for r in scoring) / n_groups,
            )
        )
    return loads
