"""Exclusive use of a folder by one training, because two would delete each other's checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from supernets.checkpoints import CheckpointError

LOCK = ".training"
"""Name of the lock file; the file remains, but the lock ends with the process that holds it."""


@contextmanager
def occupied(directory: Path | str) -> Iterator[None]:
    """Lock a folder for the training that runs within the context; create it if it is missing.

    Raises:
        CheckpointError: another training holds the lock.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    lock = FileLock(directory / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise CheckpointError(f"another process is training in {directory}: stop it or wait for it") from None
    try:
        yield
    finally:
        lock.release()
