"""A searcher and its settings as one short text: ``evolution(selection=nsga3, population=40)``."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any, get_type_hints

from nas.errors import NasError

_READ = {int: int, float: float, str: str}


def settings_of(searcher: type) -> dict[str, inspect.Parameter]:
    """The settings of a searcher that a text can specify: numbers and words."""
    hints = get_type_hints(searcher.__init__)  # type: ignore[misc]
    parameters = inspect.signature(searcher).parameters.values()
    return {p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY and hints.get(p.name) in _READ}


def read(text: str, known: Mapping[str, type]) -> tuple[type, dict[str, Any]]:
    """Return the class that a text names, and the settings that differ from their defaults.

    Raises:
        NasError: no searcher has this name, or it has no such setting; the message lists the known ones.
    """
    form = re.fullmatch(r"\s*([\w-]+)\s*(?:\((.*)\))?\s*", text)
    if form is None or form[1] not in known:
        raise NasError(f"searcher {text!r} is unknown: choose one of {', '.join(map(outline, known, known.values()))}")
    searcher: type = known[form[1]]
    hints, there = get_type_hints(searcher.__init__), settings_of(searcher)  # type: ignore[misc]
    given: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in (form[2] or "").split(","))):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if name not in there or not equals:
            rule = ", ".join(f"{one}=..." for one in there) or "none"
            raise NasError(f"searcher {form[1]!r} has no setting {part!r}: its settings are {rule}")
        try:
            given[name] = _READ[hints[name]](value)
        except ValueError:
            rule = "a whole number" if hints[name] is int else "a number"
            raise NasError(f"searcher {form[1]!r}: {name} = {value!r} must be {rule}") from None
    return searcher, {name: value for name, value in given.items() if value != there[name].default}


def spell(name: str, searcher: type, settings: Mapping[str, Any]) -> str:
    """Return the text of a searcher with those of `settings` that it has."""
    own = ", ".join(f"{one}={settings[one]}" for one in settings_of(searcher) if one in settings)
    return f"{name}({own})" if own else name


def outline(name: str, searcher: type) -> str:
    """Return its name and settings with their defaults."""
    settings = defaults(searcher)
    return f"{name}({settings})" if settings else name


def defaults(searcher: type) -> str:
    """Return the settings that a text can specify, with their defaults."""
    return ", ".join(f"{name}={parameter.default}" for name, parameter in settings_of(searcher).items())
