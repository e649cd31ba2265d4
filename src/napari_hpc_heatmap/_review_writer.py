"""What a reviewer says goes to disk in order, beside the window."""

from __future__ import annotations

import atexit
import queue
import threading
import weakref
from collections.abc import Callable

__all__ = ["ReviewWriter"]

#: How long the end of the program waits for a disk that is slow.
_PATIENCE_S = 1.0


class ReviewWriter:
    """Call functions one after another in one daemon thread.

    Where the program ends, what is still waiting is given a second to reach the disk.
    """

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._idle = threading.Condition()
        self._n_open = 0
        threading.Thread(target=_work, args=(self._waiting,), daemon=True).start()
        flush = weakref.WeakMethod(self.flush)
        atexit.register(_flush_if_alive, flush)

    def submit(self, write: Callable[[], None], failed: Callable[[Exception], None]) -> None:
        """Have a function called after all that came before."""
        with self._idle:
            self._n_open += 1

        def call() -> None:
            try:
                write()
            except Exception as error:
                failed(error)
            finally:
                with self._idle:
                    self._n_open -= 1
                    self._idle.notify_all()

        self._waiting.put(call)

    def flush(self, timeout_s: float = _PATIENCE_S) -> bool:
        """Wait until all is written; says whether it is."""
        with self._idle:
            return self._idle.wait_for(lambda: self._n_open == 0, timeout_s)


def _work(waiting: queue.SimpleQueue[Callable[[], None]]) -> None:
    while True:
        waiting.get()()


def _flush_if_alive(flush: weakref.WeakMethod[Callable[..., bool]]) -> None:
    if (method := flush()) is not None:
        method()
