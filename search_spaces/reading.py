"""JSON from an untrusted file or database: a value within limits, or one error that says why not.

Every reader of this project's files and rows goes through here. `MalformedError` says in a few words what is wrong; who
reads adds the place and the remedy: ``except MalformedError as error: raise NasError(f"{path} {error}; ...")``.
"""

import json
import os
import stat
from pathlib import Path
from typing import Any

from search_spaces.values import show

MOST_BYTES = 16 * 2**20
"""Default limit of the size of a JSON text."""
MOST_DEPTH = 100
"""Largest depth of nested lists and objects. Code that walks a value may recurse this deep."""


class MalformedError(ValueError):
    """Content is not what its reader expects: the words that follow its name in a message, as in "is not JSON"."""


def json_value(text: str | bytes, *, most_bytes: int = MOST_BYTES, most_depth: int = MOST_DEPTH) -> Any:
    """The value of a JSON text.

    NaN and Infinity are values, as `json.dumps` writes them.

    Raises:
        MalformedError: it is not JSON, larger than `most_bytes` or nested deeper than `most_depth`.
    """
    if not isinstance(text, str | bytes):
        raise MalformedError(f"is {show(text)}, not text")
    _check_size(len(text), most_bytes)
    try:
        value = json.loads(text)
    except RecursionError:
        raise MalformedError(_too_deep(most_depth)) from None
    except ValueError as error:  # also what is no UTF-8, and numbers of thousands of digits
        raise MalformedError(f"is not JSON ({error})") from None
    # most texts have fewer brackets than levels are allowed, which is quickly seen
    if _brackets(text) > most_depth and _depth(value, most_depth) > most_depth:
        raise MalformedError(_too_deep(most_depth))
    return value


def json_object(
    text: str | bytes, *, most_bytes: int = MOST_BYTES, most_depth: int = MOST_DEPTH, **kinds: type | tuple[type, ...]
) -> dict[str, Any]:
    """The object of a JSON text, whose members named here are of these types: ``json_object(text, step=int)``.

    Raises:
        MalformedError: as `json_value`, or it is no object, or a member is missing or of another type.
    """
    value = json_value(text, most_bytes=most_bytes, most_depth=most_depth)
    if not isinstance(value, dict):
        raise MalformedError(f"is {show(value)}, not a JSON object")
    return require(value, **kinds)


def require(value: dict[str, Any], **kinds: type | tuple[type, ...]) -> dict[str, Any]:
    """The same object, if each member named here is there and of its type (True is no int, and an int is a float).

    Raises:
        MalformedError: a member is missing or of another type.
    """
    for name, kind in kinds.items():
        wanted = kind if isinstance(kind, tuple) else (kind,)
        if name not in value:
            raise MalformedError(f"has no {name!r}")
        found = type(value[name])
        if found not in wanted and not (found is int and float in wanted):
            names = " or ".join(_NAMES.get(one, one.__name__) for one in wanted)
            raise MalformedError(f"has {show(value[name])} as {name!r}, which must be {names}")
    return value


def file_bytes(path: Path, most_bytes: int = MOST_BYTES) -> bytes:
    """Return the content of a file, if it is regular and no larger than `most_bytes`.

    Raises:
        MalformedError: it is missing, cannot be read, is larger or no file (a pipe would be waited for).
    """
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise MalformedError("is no regular file")
            content = file.read(most_bytes + 1)
    except OSError as error:
        raise MalformedError(f"cannot be read ({error.strerror or error})") from None
    if len(content) > most_bytes:
        raise MalformedError(f"is larger than the {most_bytes:,} bytes that are read of such a file")
    return content


_NAMES = {str: "text", int: "an integer", float: "a number", bool: "true or false", dict: "an object", list: "a list"}


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # where opening a pipe would wait for its writer


def _check_size(size: int, most: int) -> None:
    if size > most:
        raise MalformedError(f"has {size:,} characters, more than the {most:,} that are read")


def _too_deep(most: int) -> str:
    return f"is nested deeper than {most} levels"


def _brackets(text: str | bytes) -> int:
    return text.count("[") + text.count("{") if isinstance(text, str) else text.count(b"[") + text.count(b"{")


def _depth(value: Any, most: int) -> int:
    """Count levels of lists and objects up to `most` + 1, without recursion, which has a limit of its own."""
    depth, level = 0, [value]
    while depth <= most and (level := [one for one in level if isinstance(one, dict | list)]):
        depth += 1
        level = [inner for one in level for inner in (one.values() if isinstance(one, dict) else one)]
    return depth
