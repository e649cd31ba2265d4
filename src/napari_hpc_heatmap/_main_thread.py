"""From any thread to the one of the windows."""

from __future__ import annotations

import sys
from collections.abc import Callable

__all__ = ["in_main_thread"]


def in_main_thread(function: Callable[[], object]) -> Callable[[], None] | None:
    """Make a function that any thread may call to have another called by the event loop.

    None where there are no windows in this process: there is no event loop to call anything.
    """
    if "qtpy" not in sys.modules:
        return None
    from qtpy.QtCore import QObject, Qt, Signal
    from qtpy.QtWidgets import QApplication

    application = QApplication.instance()
    if application is None:
        return None

    class Caller(QObject):  # type: ignore[misc]
        # A call under way holds its caller: whoever made it may be gone by then.
        called = Signal(object)

        def call(self, _: object) -> None:
            function()

    caller = Caller()
    caller.moveToThread(application.thread())
    caller.called.connect(caller.call, Qt.ConnectionType.QueuedConnection)

    def emit() -> None:
        # The application may be closing.
        try:
            caller.called.emit(caller)
        except RuntimeError:
            return

    return emit
