"""Where the command starts: ctrl-C is answered with one sentence, also while modules are loaded."""

from __future__ import annotations

import os
import signal
import sys
import threading
import types
from typing import NoReturn

__all__ = ["script"]


def script() -> NoReturn:
    """Entry point of the installed command."""
    interrupted = False

    def interrupt(signum: int, frame: types.FrameType | None) -> None:
        nonlocal interrupted
        interrupted = True
        raise KeyboardInterrupt

    def not_raised(lost: sys.UnraisableHookArgs) -> None:
        if not isinstance(lost.exc_value, KeyboardInterrupt):
            sys.__unraisablehook__(lost)
            return
        # It came up in a callback, which swallows it: once more, when that is over.
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()

    # Where a parent has it ignored, it stays so.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)
        sys.unraisablehook = not_raised
    try:
        from hpc_heatmap.cli.app import main

        sys.exit(main())
    except (KeyboardInterrupt, Exception):
        # A library that is interrupted while it is loaded may raise an error of its own.
        if not (interrupted or isinstance(sys.exc_info()[1], KeyboardInterrupt)):
            raise
        # A second one must not disturb the end.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        sys.stderr.write("hpc-heatmap: Stopped. What is complete is kept.\n")
        sys.exit(1)
