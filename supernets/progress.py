"""Progress reports and clean interruption of long trainings."""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

logger = logging.getLogger("supernets")

LOG_EVERY_S = 30.0

Report = Callable[[int, float], None]
"""A function that receives the number of completed steps and the last loss."""


@contextmanager
def reporting(title: str, done: int, total: int, *, wanted: bool) -> Iterator[Report]:
    """Provide a report function: a progress bar if stderr is a terminal, otherwise a log line every half minute."""
    if not wanted:
        yield lambda step, loss: None
    elif sys.stderr.isatty():
        with _bar(title, done, total) as report:
            yield report
    else:
        yield _lines(title, done, total)


@contextmanager
def _bar(title: str, done: int, total: int) -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("loss {task.fields[loss]:.4f}"),
    )
    began = time.monotonic()
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=total, completed=done, loss=float("nan"), rate="")

        def report(step: int, loss: float) -> None:
            rate = (step - done) / max(time.monotonic() - began, 1e-9)
            bar.update(task, completed=step, loss=loss, rate=f"{rate:.1f} steps/s")

        yield report


def _lines(title: str, done: int, total: int) -> Report:
    began = last = time.monotonic()

    def report(step: int, loss: float) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= LOG_EVERY_S or step == total:
            last = now
            rate = (step - done) / max(now - began, 1e-9)
            left = (total - step) / max(rate, 1e-9)
            logger.info("%s: step %d of %d, loss %.4f, %.1f steps/s, %.0f s left", title, step, total, loss, rate, left)

    return report


class Interruption:
    """Records a SIGINT or SIGTERM; a second signal has its usual effect immediately."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._usual: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python allows no handlers
            for number in (signal.SIGINT, signal.SIGTERM):
                self._usual[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._usual.items():
            signal.signal(number, handler)
        self._usual.clear()

    def leave(self) -> None:
        """Let the signal that came do what it would have done; KeyboardInterrupt if that was nothing."""
        assert self.signal is not None
        self.__exit__()
        signal.raise_signal(self.signal)
        raise KeyboardInterrupt

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            self.leave()
        self.signal = number
