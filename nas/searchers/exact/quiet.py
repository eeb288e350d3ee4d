"""HiGHS without the lines that it prints whatever its options say."""

import ctypes
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

_STRAY = b"Highs"  # how its debugging lines begin, which name one of its C++ classes


@contextmanager
def quiet() -> Iterator[None]:
    """Keep HiGHS' debugging lines off standard output.

    HiGHS prints them with C's printf, which Python's `sys.stdout` knows nothing of, so the file descriptor points to a
    temporary file meanwhile. What other threads print in the same moment is passed on afterwards.
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
