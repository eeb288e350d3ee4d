"""A folder that one training has to itself, for two in one folder would tidy away each other's checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from supernets.checkpoints import CheckpointError

LOCK = ".training"
"""The file that is locked; it stays, its lock ends with the process that holds it."""


@contextmanager
def occupied(directory: Path | str) -> Iterator[None]:
    """Keeps a folder for the training that runs in the block, and makes it where it is missing.

    Raises:
        CheckpointError: another training has it.
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
