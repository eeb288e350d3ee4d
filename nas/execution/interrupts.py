"""Ctrl-C in two steps: the first lets running evaluations finish, the second ends the command at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_asked = False


def stopping() -> bool:
    """Return whether the user pressed Ctrl-C: callers then raise KeyboardInterrupt instead of starting new work."""
    return _asked


@contextmanager
def gracefully(tell: Callable[[], None]) -> Iterator[None]:
    """Within the block, the first Ctrl-C calls `tell` and makes `stopping` true; the second raises KeyboardInterrupt.

    Raises:
        KeyboardInterrupt: at the end of the block, if Ctrl-C was pressed once.
    """
    global _asked

    def asked(number: int, frame: FrameType | None) -> None:
        global _asked
        _asked = True
        signal.signal(signal.SIGINT, before)
        tell()

    if threading.current_thread() is not threading.main_thread():  # only the main thread receives signals
        yield
        return
    before = signal.signal(signal.SIGINT, asked)
    try:
        yield
        if _asked:
            raise KeyboardInterrupt
    finally:
        _asked = False
        signal.signal(signal.SIGINT, before)
