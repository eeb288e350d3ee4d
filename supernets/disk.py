"""What a disk that refuses makes of writing a file."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Removes the file where writing it fails, and raises what safetensors makes of a full disk as the OSError it is.

    Raises:
        OSError: the disk refuses; it names the file.
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
