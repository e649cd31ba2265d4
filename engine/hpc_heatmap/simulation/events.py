"""Events of a simulated run: the master's loop, the scheduler's queue, tasks on nodes."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import simpy

from hpc_heatmap.formats.task_files import TaskRecord
from hpc_heatmap.schedulers.packing import pack_groups
from hpc_heatmap.simulation.cluster import ClusterModel
from hpc_heatmap.simulation.load import SlideLoad
from hpc_heatmap.stages.task import Stage

__all__ = ["SimulatedRun", "simulate"]

_Events = Generator[simpy.Event, Any, None]
_Piece = tuple[Stage, int, int, int]


@dataclass
class SimulatedRun:
    """What a simulated run took.

    Attributes
    ----------
    records
        A record of each task, as a real run would have left them; times count from the start.
    wall_s
        From the master's start to its end.
    tasks, arrays
        Tasks that were done, arrays that were submitted.
    killed
        Tasks that a node's failure killed, and that started anew.
    lost_s
        Seconds of slots that these took with them.
    peak_queued
        Largest number of tasks that waited or ran at once.
    master_s, dispatch_s
        Seconds in which the master and the scheduler were busy.
    read_bytes
        Bytes read from the file system.
    """

    records: list[TaskRecord] = field(default_factory=list)
    wall_s: float = 0.0
    tasks: int = 0
    arrays: int = 0
    killed: int = 0
    lost_s: float = 0.0
    peak_queued: int = 0
    master_s: float = 0.0
    dispatch_s: float = 0.0
    read_bytes: float = 0.0


def simulate(
    slides: Sequence[SlideLoad],
    cluster: ClusterModel,
    on_task: Callable[[TaskRecord], None] | None = None,
) -> SimulatedRun:
    """Run slides through a simulated cluster with the master's own rules.

    Parameters
    ----------
    slides
        What there is to do; earlier slides go first.
    cluster
        Where.
    on_task
        Takes each record when its task ends; without it, records are kept in the result.

    Returns
    -------
    SimulatedRun
        The same for the same seed.
    """
    simulation = _Simulation(slides, cluster, on_task)
    simulation.env.run(simulation.env.process(simulation.master()))
    simulation.run.wall_s = simulation.env.now
    return simulation.run


class _Simulation:
    def __init__(
        self,
        slides: Sequence[SlideLoad],
        cluster: ClusterModel,
        on_task: Callable[[TaskRecord], None] | None,
    ) -> None:
        self.run = SimulatedRun()
        self.env = simpy.Environment()
        self._slides = slides
        self._cluster = cluster
        self._keep = on_task or self.run.records.append
        self._rng = np.random.default_rng(cluster.seed)
        self._slots = simpy.Store(self.env)
        for _ in range(cluster.slots_per_node):
            self._slots.items += range(cluster.nodes)
        self._controller = simpy.Resource(self.env) if cluster.dispatch_s else None
        self._streams: simpy.Resource | None = None
        self._stream_bytes_per_s = cluster.client_bytes_per_s
        if cluster.bandwidth_bytes_per_s:
            streams = max(1, int(cluster.bandwidth_bytes_per_s // cluster.client_bytes_per_s))
            self._stream_bytes_per_s = cluster.bandwidth_bytes_per_s / streams
            self._streams = simpy.Resource(self.env, streams)
        #: When each node is back; tasks that run on it until then.
        self._away_until = [0.0] * cluster.nodes
        self._on_node: list[dict[simpy.Process, None]] = [{} for _ in range(cluster.nodes)]
        #: What waits to be submitted: pieces of a slide and stage, cut as they are taken.
        self._queue: list[tuple[int, int, Stage, Iterator[_Piece]]] = []
        self._order = itertools.count()
        self._left = [0] * len(slides)
        self._n_queued = 0
        self._ended: list[_Piece] = []
        self._news = self.env.event()

    # The master.

    def master(self) -> _Events:
        """Submit what waits, see what has ended, until nothing is left."""
        cluster, env = self._cluster, self.env
        if cluster.node_mtbf_h:
            for node in range(cluster.nodes):
                env.process(self._fail(node))
        for index in range(len(self._slides)):
            self._push(index, Stage.GROUPING, iter([(Stage.GROUPING, index, 0, 0)]))
        while self._queue or self._n_queued:
            while self._queue and self._n_queued < cluster.max_queued:
                pieces = self._next_array()
                took = cluster.submit_s * (1 + len(pieces) / 1000)
                self.run.master_s += took
                if took:
                    yield env.timeout(took)
                self._submit(pieces)
            if not self._ended:
                yield self._news
            if cluster.poll_s:
                yield env.timeout(cluster.poll_s)
            self._news = env.event()
            ended, self._ended = self._ended, []
            took = cluster.master_task_s * len(ended)
            self.run.master_s += took
            if took:
                yield env.timeout(took)
            self._n_queued -= len(ended)
            for stage, index, start, stop in ended:
                self._after(stage, index, stop - start)

    def _push(self, index: int, stage: Stage, pieces: Iterator[_Piece]) -> None:
        heapq.heappush(self._queue, (index, next(self._order), stage, pieces))

    def _next_array(self) -> list[_Piece]:
        """Pieces of one stage, and of scoring those of one slide, while there is room."""
        cluster = self._cluster
        room = min(cluster.max_array, cluster.max_queued - self._n_queued)
        index, _, stage, pieces = heapq.heappop(self._queue)
        array = list(itertools.islice(pieces, room))
        if stage is Stage.SCORING:
            following = next(pieces, None)
            if following is not None:
                self._push(index, stage, itertools.chain([following], pieces))
            return array
        while len(array) < room and self._queue and self._queue[0][2] is stage:
            array += heapq.heappop(self._queue)[3]
        return array

    def _submit(self, pieces: list[_Piece]) -> None:
        cluster, env = self._cluster, self.env
        self.run.arrays += 1
        self._n_queued += len(pieces)
        self.run.peak_queued = max(self.run.peak_queued, self._n_queued)
        throttle = simpy.Resource(env, cluster.throttle) if cluster.throttle else None
        opens = env.now
        if cluster.queue_wait_s:
            opens += float(self._rng.exponential(cluster.queue_wait_s))
        for piece in pieces:
            env.process(self._task(piece, env.now, opens, throttle))

    def _after(self, stage: Stage, index: int, n_groups: int) -> None:
        slide = self._slides[index]
        if stage is Stage.GROUPING:
            self._left[index] = slide.n_groups
            packs = pack_groups(
                slide.n_groups,
                slide.mean_group_s,
                60 * self._cluster.task_minutes,
                min(self._cluster.slots, self._cluster.throttle or self._cluster.slots),
                light=self._cluster.light_tasks,
            )
            self._push(index, Stage.SCORING, ((Stage.SCORING, index, a, b) for a, b in packs))
        elif stage is Stage.SCORING:
            self._left[index] -= n_groups
            if not self._left[index]:
                self._push(index, Stage.STITCHING, iter([(Stage.STITCHING, index, 0, 0)]))

    # The scheduler and the nodes.

    def _task(
        self, piece: _Piece, submitted: float, opens: float, throttle: simpy.Resource | None
    ) -> _Events:
        env, cluster = self.env, self._cluster
        if opens > env.now:
            yield env.timeout(opens - env.now)
        turn = throttle.request() if throttle else None
        if turn:
            yield turn
        while True:
            node = yield self._slots.get()
            if self._away_until[node] > env.now:
                env.process(self._return_slot(node))
                continue
            if self._controller:
                with self._controller.request() as mine:
                    yield mine
                    yield env.timeout(cluster.dispatch_s)
                self.run.dispatch_s += cluster.dispatch_s
            began = env.now
            work = env.process(self._work(piece, submitted, node))
            self._on_node[node][work] = None
            done = yield work
            del self._on_node[node][work]
            if done:
                self._slots.put(node)
                break
            self.run.killed += 1
            self.run.lost_s += env.now - began
            env.process(self._return_slot(node))
            yield env.timeout(cluster.kill_s)
        if throttle and turn:
            throttle.release(turn)
        self._ended.append(piece)
        if not self._news.triggered:
            self._news.succeed()

    def _work(
        self, piece: _Piece, submitted: float, node: int
    ) -> Generator[simpy.Event, Any, bool]:
        """A task on a node; False where the node fails under it."""
        env, cluster = self.env, self._cluster
        stage, index, start, stop = piece
        slide = self._slides[index]
        try:
            if cluster.start_s:
                yield env.timeout(cluster.start_s)
            started = env.now
            n_bytes = slide.group_bytes * (stop - start)
            if stage is Stage.GROUPING:
                n_bytes = slide.slide_bytes
            if n_bytes and self._streams:
                with self._streams.request() as mine:
                    yield mine
                    yield env.timeout(n_bytes / self._stream_bytes_per_s)
            busy_s = self._seconds(piece)
            yield env.timeout(busy_s)
            wall_s = env.now - started
            if cluster.end_s:
                yield env.timeout(cluster.end_s)
        except simpy.Interrupt:
            return False
        self.run.tasks += 1
        self.run.read_bytes += n_bytes
        self._keep(
            TaskRecord(
                stage=stage.value,
                slide=slide.name,
                groups=list(range(start, stop)),
                job="",
                host=f"n{node}",
                pid=0,
                started_at=started,
                wall_s=wall_s,
                cpu_s=busy_s * cluster.cores_per_task,
                model_s=0.0,
                peak_memory_bytes=0,
                bytes_read=int(n_bytes),
                windows=0,
                submitted_at=submitted,
                threads=cluster.cores_per_task,
                cluster="simulated",
            )
        )
        return True

    def _seconds(self, piece: _Piece) -> float:
        """How long a task takes on the hardware that it met."""
        cluster = self._cluster
        stage, index, start, stop = piece
        slide = self._slides[index]
        if stage is Stage.GROUPING:
            seconds = slide.grouping_s
        elif stage is Stage.STITCHING:
            seconds = slide.stitching_s
        else:
            seconds = cluster.model_s + slide.scoring_s(start, stop)
        if cluster.straggler_share and self._rng.random() < cluster.straggler_share:
            seconds *= cluster.straggler_factor
        if cluster.spread:
            seconds *= math.exp(self._rng.normal(-(cluster.spread**2) / 2, cluster.spread))
        return seconds

    def _return_slot(self, node: int) -> _Events:
        yield self.env.timeout(max(0.0, self._away_until[node] - self.env.now))
        self._slots.put(node)

    def _fail(self, node: int) -> _Events:
        """Failures of a node, at random."""
        cluster = self._cluster
        while True:
            yield self.env.timeout(float(self._rng.exponential(3600 * (cluster.node_mtbf_h or 1))))
            self._away_until[node] = self.env.now + cluster.repair_s
            for work in list(self._on_node[node]):
                work.interrupt("the node has failed")
            yield self.env.timeout(cluster.repair_s)
