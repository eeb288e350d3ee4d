"""Runs jobs in this process or in several, and reports progress."""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from nas.errors import NasError
from supernets.errors import SupernetError

Job = TypeVar("Job")
Outcome = TypeVar("Outcome")

Say = Callable[[str], None]
"""Told a line when a job has ended."""


def exit_status(command: Callable[[], None]) -> int:
    """Run a command and return its exit status, 0 or 2; an error that its user can fix is one line."""
    try:
        command()
    except (SupernetError, NasError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def done(
    jobs: Sequence[Job], processes: int, run: Callable[[Job], Outcome], died: Callable[[str], Outcome]
) -> Iterator[tuple[Job, Outcome]]:
    """Yield each job with its outcome when it ends; with one process, everything runs in this one.

    Args:
        run: runs a job and returns an error as an outcome; a module-level function, so that other processes find it.
        died: makes the outcome of a job whose process died, from the reason.
    """
    if processes == 1:
        yield from ((job, run(job)) for job in jobs)
        return
    waiting = list(jobs)
    while waiting:
        yield from _pooled(waiting, processes, run, died)


def _pooled(
    waiting: list[Job], processes: int, run: Callable[[Job], Outcome], died: Callable[[str], Outcome]
) -> Iterator[tuple[Job, Outcome]]:
    """Run jobs until none is left or a process died; jobs running at that time have failed."""
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_leave_with_parent)
    running: dict[Future[Outcome], Job] = {}
    try:
        while waiting or running:
            while waiting and len(running) < processes:
                future = pool.submit(run, waiting[0])  # which fails where a process died meanwhile
                running[future] = waiting.pop(0)
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                outcome = future.result()
                yield running.pop(future), outcome
    except BrokenProcessPool:
        yield from ((job, died("a process ended while it ran: killed, or out of memory")) for job in running.values())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _leave_with_parent() -> None:
    """End a worker whose parent was killed; it would otherwise wait for work forever."""
    logging.disable(logging.WARNING)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


# --- progress -----------------------------------------------------------------------------------------------------


@contextmanager
def reporting(title: str, total: int) -> Iterator[Say]:
    """Show a bar with rate and remaining time on a terminal, and one line per job."""
    began = time.monotonic()
    count = 0

    def pace() -> str:
        per_job = (time.monotonic() - began) / max(count, 1)
        return f"{3600 / per_job:.0f} runs an hour, {(total - count) * per_job / 60:.0f} min left" if count else ""

    if not sys.stderr.isatty():

        def plain(line: str) -> None:
            nonlocal count
            count += 1
            print(f"{title} {count} of {total}: {line}; {pace()}", file=sys.stderr, flush=True)

        yield plain
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[pace]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=total, pace="")

        def above(line: str) -> None:
            nonlocal count
            count += 1
            bar.console.print(line, highlight=False)
            bar.update(task, completed=count, pace=pace())

        yield above
