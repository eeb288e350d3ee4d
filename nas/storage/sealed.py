"""Digests of what rows say, compared when they are read: a flipped bit on the disk is found and changes no result."""

from __future__ import annotations

import hashlib
import struct
from typing import Any

from nas.errors import NasError
from search_spaces.reading import MalformedError, json_value

_HEAD = struct.Struct("<3qd?").pack
_sha256 = hashlib.sha256


class DamageError(NasError):
    """A row is not what was stored."""


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
    """Of an evaluation, its key included: 8 bytes. A revision in `nas.migrations` holds a copy of this."""
    text = "\0".join((architecture, error or "", worker)).encode()
    return _sha256(_HEAD(context_id, attempt, metric_set_id, seconds, error is not None) + values + text).digest()[:8]


def text_digest(text: str) -> str:
    """Of a text, 16 hexadecimal digits, as those of architectures are."""
    return _sha256(text.encode()).hexdigest()[:16]


def damaged(what: str, url: str) -> DamageError:
    """The error that says so."""
    remedy = f"bring the database back from a copy, or see what else is: nas storage check --storage {url}"
    return DamageError(f"{what} in {url} is not what was stored, so the file is damaged: {remedy}")


def loads(text: str, kind: type, what: str, url: str) -> Any:
    """JSON that a row holds; DamageError, naming it as `what`, where it is none, too large or of another kind."""
    try:
        value = json_value(text)
    except MalformedError:
        raise damaged(what, url) from None
    if not isinstance(value, kind):
        raise damaged(what, url)
    return value
