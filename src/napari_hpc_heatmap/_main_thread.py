"""From any thread to the one of the windows."""

from __future__ import annotations

import sys
from collections.abc import Callable
from weakref import WeakMethod

__all__ = ["in_main_thread"]


def in_main_thread(method: Callable[[], object]) -> Callable[[], None] | None:
    """Make a function that any thread may call to have a bound method called by the event loop.

    The method's object is not kept alive by it. None where no window is open in this process:
    there is no event loop to call anything.
    """
    if "qtpy" not in sys.modules:
        return None
    from qtpy.QtCore import QObject, Qt, Signal
    from qtpy.QtWidgets import QApplication

    application = QApplication.instance()
    if application is None:
        return None

    class Caller(QObject):  # type: ignore[misc]
        called = Signal()

        def call(self) -> None:
            if (alive := reference()) is not None:
                alive()

    reference = WeakMethod(method)
    caller = Caller()
    caller.moveToThread(application.thread())
    caller.called.connect(caller.call, Qt.ConnectionType.QueuedConnection)

    def emit() -> None:
        # The application may be closing.
        try:
            caller.called.emit()
        except RuntimeError:
            return

    return emit
