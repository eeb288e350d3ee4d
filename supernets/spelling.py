"""A method and its settings as one short text, for command lines and databases: ``routed(experts=4, per=neuron)``.

Methods are frozen dataclasses with a `name`; their fields are numbers, yes or no, words, or words joined by "+".
"""

import re
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, ClassVar, Protocol, TypeVar, get_type_hints

from supernets.errors import SupernetError

_BETWEEN = r",(?![^(]*\))"
"""A comma that is in no parentheses: a setting may be a method with settings itself."""


class SpellingError(SupernetError):
    """A text names no method there is, or gives one a setting that it has not."""


class Named(Protocol):
    name: ClassVar[str]


Method = TypeVar("Method", bound=Named)


def spell(method: Named) -> str:
    """The text of a method; settings at their defaults are left out."""
    given = ", ".join(
        f"{field.name}={_written(getattr(method, field.name))}"
        for field in fields(method)  # type: ignore[arg-type] # methods are dataclasses
        if getattr(method, field.name) != field.default
    )
    return f"{method.name}({given})" if given else method.name


def parse(text: str, known: Mapping[str, type[Method]], kind: str) -> Method:
    """The method of a text; `kind` says in errors what is being named.

    Raises:
        SpellingError: listing the methods there are, or the settings of this one.
    """
    match = re.fullmatch(r"\s*([\w-]+)\s*(?:\((.*)\))?\s*", text) if isinstance(text, str) else None
    if match is None or match[1] not in known:
        what = text if match is None else match[1]
        raise SpellingError(f"no {kind} is called {what!r}: choose one of {', '.join(map(_outline, known.values()))}")
    method = known[match[1]]
    settings: dict[str, Any] = {}
    hints = get_type_hints(method)
    names = [field.name for field in fields(method)]  # type: ignore[arg-type]
    for part in filter(None, (part.strip() for part in re.split(_BETWEEN, match[2] or ""))):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if name not in names or not equals:
            there = ", ".join(f"{name}=..." for name in names) or "none"
            raise SpellingError(f"{kind} {match[1]!r} has no setting {part!r}: its settings are {there}")
        settings[name] = _read(value, hints[name], f"{kind} {match[1]!r}: {name} = {value!r}")
    return _made(method, settings, f"{kind} {match[1]!r}")


def _outline(method: type[Named]) -> str:
    names = ", ".join(field.name for field in fields(method))  # type: ignore[arg-type]
    return f"{method.name}({names})" if names else method.name


def signature(method: type[Named]) -> str:
    """A method's name with all its settings and their defaults."""
    return f"{method.name}({', '.join(f'{f.name}={default_text(f)}' for f in fields(method))})"  # type: ignore[arg-type]


def default_text(field: Any) -> str:
    """The default of a method's field, as it is spelled."""
    return "..." if field.default is MISSING else _written(field.default)


def _made(method: type[Method], settings: dict[str, Any], what: str) -> Method:
    missing = [f.name for f in fields(method) if f.default is MISSING and f.name not in settings]  # type: ignore[arg-type]
    if missing:
        raise SpellingError(f"{what} needs {missing[0]}: write {method.name}({missing[0]}=...)")
    return method(**settings)


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return "+".join(map(_written, value))
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


def _read(text: str, hint: Any, what: str) -> Any:
    if hint is bool:
        if text not in ("yes", "no"):
            raise SpellingError(f"{what}: write yes or no")
        return text == "yes"
    if hint in (int, float):
        try:
            return hint(text)
        except ValueError:
            rule = "a whole number" if hint is int else "a number"
            raise SpellingError(f"{what}: it must be {rule}") from None
    if hint is str:
        return text
    return tuple(part for part in text.split("+") if part)
