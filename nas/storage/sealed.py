"""Digests of rows, checked on every read, so that corrupted data raises an error and never changes a result."""

from __future__ import annotations

import hashlib
import struct
from typing import Any

from nas.errors import NasError
from search_spaces.reading import MalformedError, json_value

_HEAD = struct.Struct("<3qd?").pack
_sha256 = hashlib.sha256


class DamageError(NasError):
    """A row does not match its digest or cannot be parsed."""


def evaluation_digest(
    architecture: str,
    context_id: int,
    attempt: int,
    metric_set_id: int,
    values: bytes,
    error: str | None,
    seconds: float,
    worker: str,
) -> bytes:
    """Return the digest of an evaluation and its key, 8 bytes. A revision in `nas.migrations` has a copy of this."""
    text = "\0".join((architecture, error or "", worker)).encode()
    return _sha256(_HEAD(context_id, attempt, metric_set_id, seconds, error is not None) + values + text).digest()[:8]


def text_digest(text: str) -> str:
    """Return the digest of a text, 16 hexadecimal digits, as architectures have."""
    return _sha256(text.encode()).hexdigest()[:16]


def damaged(what: str, url: str) -> DamageError:
    """Return the error for a damaged row, with the remedy."""
    remedy = f"bring the database back from a copy, or see what else is: nas storage check --storage {url}"
    return DamageError(f"{what} in {url} is not what was stored, so the file is damaged: {remedy}")


def loads(text: str, kind: type, what: str, url: str) -> Any:
    """Parse the JSON of a row; raise DamageError, which calls it `what`, if it is malformed, too large or no `kind`."""
    try:
        value = json_value(text)
    except MalformedError:
        raise damaged(what, url) from None
    if not isinstance(value, kind):
        raise damaged(what, url)
    return value
