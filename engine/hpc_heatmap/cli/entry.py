"""Where the command starts: ctrl-C is answered with one sentence, also while modules are loaded."""

from __future__ import annotations

import signal
import sys
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

    # Where a parent has it ignored, it stays so.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)
    try:
        from hpc_heatmap.cli.app import main

        sys.exit(main())
    except (KeyboardInterrupt, Exception):
        # A library that is interrupted while it is loaded may raise an error of its own.
        if not interrupted:
            raise
        sys.stderr.write("hpc-heatmap: Stopped. What is complete is kept.\n")
        sys.exit(1)
