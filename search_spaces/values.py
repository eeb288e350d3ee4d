"""JSON values as options: frozen, compared without mixing ``True`` and ``1``, and shown in messages."""

import difflib
import json
import math
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np

Json: TypeAlias = bool | int | float | str | list["Json"] | dict[str, "Json"] | None


def freeze(value: Any) -> Any:
    """Return a JSON scalar unchanged, a list as a tuple, a numpy scalar as Python's own; ValueError if it is none."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, list | tuple):
        return tuple(freeze(item) for item in value)
    if value is not None and type(value) not in (bool, int, float, str):
        raise ValueError(f"{show(value)} of type {type(value).__name__} is not a JSON scalar or list")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value!r} is not a number JSON can hold")
    return value


def same(a: Any, b: Any) -> bool:
    """Return whether two values are equal as JSON: 4 is 4.0, but True is not 1."""
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return (isinstance(a, bool) == isinstance(b, bool)) and bool(a == b)


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values have equal text in every process."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def show(value: Any, width: int = 60) -> str:
    text = repr(value).replace("\n", " ")
    return text if len(text) <= width else text[: width - 1] + "…"


def listing(values: Iterable[Any], most: int = 12) -> str:
    """``16, 24, 32`` for messages, cut after `most` values."""
    items: Sequence[Any] = list(values)
    return ", ".join(show(v) for v in items[:most]) + (f", … ({len(items)} in all)" if len(items) > most else "")


def suggestion(name: str, names: Iterable[str]) -> str:
    """``did you mean 'width'?`` where one is close, otherwise the whole list."""
    names = list(names)
    close = difflib.get_close_matches(str(name), names, n=1)
    return f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(names) or 'none'}"
