"""Suppresses debugging lines that HiGHS prints regardless of its options."""

import ctypes
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

_STRAY = b"Highs"  # its debugging lines start with the name of a C++ class


@contextmanager
def quiet() -> Iterator[None]:
    """Keep HiGHS' debugging lines off standard output.

    HiGHS prints them with C's printf, bypassing Python's `sys.stdout`, so the file descriptor meanwhile points to a
    temporary file. Output of other threads during that time is printed afterwards.
    """
    printed = ctypes.CDLL(None)
    sys.stdout.flush()
    printed.fflush(None)
    real = os.dup(1)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 1)
        try:
            yield
        finally:
            printed.fflush(None)
            os.dup2(real, 1)
            os.close(real)
            file.seek(0)
            os.write(1, b"".join(line for line in file if not line.startswith(_STRAY)))
