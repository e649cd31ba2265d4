"""Threads that decode tiles: daemons, since one that hangs on a dead disk must not hold an exit."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

__all__ = ["DecodingThreads"]

Work = tuple[Future[Any], Callable[[], Any]]


class DecodingThreads:
    """Run functions on a few threads, in the order of submission.

    Parameters
    ----------
    n_threads
        How many; they start with the first work.
    """

    def __init__(self, n_threads: int) -> None:
        self.n_threads = n_threads
        self._work: queue.SimpleQueue[Work] = queue.SimpleQueue()
        self._started = False
        self._lock = threading.Lock()

    def submit(self, function: Callable[[], Any]) -> Future[Any]:
        """Have a function called; its future can be cancelled until it starts."""
        with self._lock:
            if not self._started:
                self._started = True
                for number in range(self.n_threads):
                    name = f"hpc-heatmap-tiles-{number}"
                    threading.Thread(target=self._run, name=name, daemon=True).start()
        future: Future[Any] = Future()
        self._work.put((future, function))
        return future

    def _run(self) -> None:
        while True:
            future, function = self._work.get()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)
            # Nothing is kept alive while the thread waits for more.
            del future, function
