"""Clean failure of a file write, for example on a full disk."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Remove the file if writing it fails, and turn safetensors' errors for a full disk into an OSError.

    Raises:
        OSError: the write failed; the error names the file.
    """
    try:
        yield
    except BaseException as error:
        path.unlink(missing_ok=True)
        if isinstance(error, SafetensorError) and (told := re.search(r"\(os error (\d+)\)", str(error))):
            number = int(told[1])
            raise OSError(number, os.strerror(number), str(path)) from error
        if isinstance(error, OSError) and error.filename is None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
