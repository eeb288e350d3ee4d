"""Ctrl-C in two steps: the first lets finish what is being evaluated, the second ends the command at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_asked = False


def stopping() -> bool:
    """Whether the user has asked for an end: begin nothing new, and raise KeyboardInterrupt in its place."""
    return _asked


@contextmanager
def gracefully(tell: Callable[[], None]) -> Iterator[None]:
    """Within it, the first Ctrl-C calls `tell` and makes `stopping` true; the second raises KeyboardInterrupt.

    Raises:
        KeyboardInterrupt: at its end, if it came to that after the first one.
    """
    global _asked

    def asked(number: int, frame: FrameType | None) -> None:
        global _asked
        _asked = True
        signal.signal(signal.SIGINT, before)
        tell()

    if threading.current_thread() is not threading.main_thread():  # which alone receives signals
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
