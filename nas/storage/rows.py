"""Converts records to rows and back: helpers that several tables share."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

import sqlalchemy as sa

from nas.errors import NasError
from search_spaces.reading import MOST_BYTES

T = TypeVar("T")

_CHUNK = 500  # digests per query: below every database's limit on parameters, and more are not faster


def expanding(column: sa.Column[Any]) -> sa.ColumnElement[bool]:
    """Return the condition that the column is one of the parameter `digests`."""
    return column.in_(sa.bindparam("digests", expanding=True))


def chunks(digests: Iterable[str]) -> Iterator[list[str]]:
    """Yield distinct digests in lists of at most one query's size."""
    distinct = list(dict.fromkeys(digests))
    for start in range(0, len(distinct), _CHUNK):
        yield distinct[start : start + _CHUNK]


def row_of(record: Any) -> dict[str, Any]:
    """Return the fields of a record by name."""
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


def dumps(name: str, value: Any, *, sort_keys: bool = True) -> str:
    """Return JSON text; raise NasError, which calls the value `name`, if the value has none or it is too long."""
    try:
        text = json.dumps(value, allow_nan=False, sort_keys=sort_keys)
    except (TypeError, ValueError) as error:
        raise NasError(
            f"{name} cannot be stored as JSON: {error}; use finite numbers, strings, lists and dicts"
        ) from error
    if len(text) > MOST_BYTES:
        raise NasError(f"{name} has {len(text):,} characters as JSON, and {MOST_BYTES:,} are read: store less")
    return text


def named(known: Mapping[str, T], name: str, what: str, url: str) -> T:
    """Return the value of a name; raise NasError, with the known names, if there is none."""
    if name in known:
        return known[name]
    there = ", ".join(map(repr, known)) if known else "none"
    raise NasError(f"there is no {what} {name!r} in {url}; there is: {there}")
