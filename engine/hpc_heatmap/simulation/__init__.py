"""A run on a cluster that need not be there: a discrete-event simulation of master, scheduler,
nodes and file system, fed from measured times.

>>> from hpc_heatmap.simulation import ClusterModel, SlideLoad, simulate
>>> slides = [SlideLoad("a", grouping_s=60, group_s=[100.0] * 8, stitching_s=5)]
>>> run = simulate(slides, ClusterModel(nodes=4, slots_per_node=1))
>>> run.wall_s
265.0

docs/scale.md says how far it is from real runs, and what it says of very large ones.
"""

from __future__ import annotations

from hpc_heatmap.simulation.cluster import ClusterModel
from hpc_heatmap.simulation.events import SimulatedRun, simulate
from hpc_heatmap.simulation.load import SlideLoad, loads_from_records

__all__ = ["ClusterModel", "SimulatedRun", "SlideLoad", "loads_from_records", "simulate"]
