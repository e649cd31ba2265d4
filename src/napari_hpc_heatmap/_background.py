"""Work beside the window: answers come back to the thread of the window, or never.

Threads are daemons: one that hangs on a dead file system holds neither the window nor its closing.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QObject, QTimer, Signal

__all__ = ["Background", "Poller"]


class Background(QObject):  # type: ignore[misc]
    """Call functions in threads and give their answers in the thread that made this object."""

    _answered = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._answered.connect(self._deliver)

    def _deliver(self, answer: Callable[[], None]) -> None:
        answer()

    def call(
        self,
        function: Callable[[], Any],
        then: Callable[[Any], None],
        failed: Callable[[Exception], None] | None = None,
    ) -> None:
        """Call `function` in a thread of its own, then `then` or `failed` in the window's."""

        def work() -> None:
            try:
                answer: Callable[[], None] = functools.partial(then, function())
            except Exception as error:
                answer = functools.partial(failed or _ignore, error)
            try:
                self._answered.emit(answer)
            except RuntimeError:
                # The window is closed.
                return

        threading.Thread(target=work, name="hpc-heatmap-work", daemon=True).start()


def _ignore(error: Exception) -> None:
    """Nobody asked."""


class Poller(QObject):  # type: ignore[misc]
    """Look at something again and again: one look at a time, however long it takes.

    Parameters
    ----------
    look
        Called in a thread; what it gives goes to `then`, what it raises to `failed`.
    then, failed
        Called in the window's thread.
    silent
        Called in the window's thread with the seconds that a look has taken so far, once it takes
        longer than `patience_s`.
    every_s
        Pause between looks.
    """

    def __init__(
        self,
        look: Callable[[], Any],
        then: Callable[[Any], None],
        failed: Callable[[Exception], None],
        silent: Callable[[float], None],
        *,
        every_s: float = 1.0,
        patience_s: float = 5.0,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._look, self._then, self._failed, self._silent = look, then, failed, silent
        self.patience_s = patience_s
        self._background = Background(self)
        self._begun_at: float | None = None
        self._timer = QTimer(self)
        self._timer.setInterval(max(1, int(1000 * every_s)))
        self._timer.timeout.connect(self.poll)

    def set_interval(self, every_s: float) -> None:
        """Change the pause between looks."""
        self._timer.setInterval(max(1, int(1000 * every_s)))

    def start(self) -> None:
        """Look now and then again and again."""
        self._timer.start()
        self.poll()

    def stop(self) -> None:
        """Look no more; an answer that is still to come is dropped."""
        self._timer.stop()
        self._then = self._failed = _drop

    def poll(self) -> None:
        """Look now, unless a look is still under way."""
        if self._begun_at is not None:
            taken_s = time.monotonic() - self._begun_at
            if taken_s > self.patience_s:
                self._silent(taken_s)
            return
        self._begun_at = time.monotonic()
        self._background.call(self._look, self._answer, self._error)

    def _answer(self, value: Any) -> None:
        self._begun_at = None
        self._then(value)

    def _error(self, error: Exception) -> None:
        self._begun_at = None
        self._failed(error)


def _drop(value: Any) -> None:
    """An answer that came too late."""
