"""Settings of target kinds, as values of their fields and as text on a command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields
from typing import Any, get_type_hints

from nas.targets.target import TargetError


def settings_of(target: Any) -> dict[str, Any]:
    """Return the settings of a target that differ from their defaults, as JSON."""
    values = {setting.name: getattr(target, setting.name) for setting in _settings(type(target))}
    defaults = {setting.name: setting.default for setting in _settings(type(target))}
    return {name: value for name, value in values.items() if value != defaults[name]}


def check(kind: str, made: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a kind, converted to their types.

    Raises:
        TargetError: a setting is unknown, has another type, or is missing.
    """
    known, hints = {setting.name: setting for setting in _settings(made)}, get_type_hints(made)
    for name in settings:
        if name not in known:
            raise TargetError(f"kind {kind!r} has no setting {name!r}: its settings are {', '.join(known)}")
    for name, setting in known.items():
        if setting.default is MISSING and name not in settings:
            raise TargetError(f"kind {kind!r} needs the setting {name!r}: write {name}=...")
    return {name: _typed(kind, name, value, hints[name]) for name, value in settings.items()}


def read(kind: str, made: Any, texts: Sequence[str]) -> dict[str, Any]:
    """Parse settings written as ``threads=2``; raises TargetError as `check` does."""
    settings: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise TargetError(f"{text!r} is not a setting: write SETTING=VALUE, as in threads=2")
        settings[name.strip()] = value.strip()
    return check(kind, made, settings)


def _settings(made: Any) -> list[Field[Any]]:
    return [field for field in fields(made) if field.name != "name" and field.metadata.get("setting", True)]


def _typed(kind: str, name: str, value: Any, hint: Any) -> Any:
    """Convert a text or a number to the type of a setting."""
    if hint is str and isinstance(value, str):
        return value
    try:
        if hint in (int, float) and not isinstance(value, bool):
            number = hint(value)
            if isinstance(value, str) or number == value:
                return number
    except (TypeError, ValueError):
        pass
    rule = {int: "a whole number", float: "a number"}.get(hint, "a text")
    raise TargetError(f"kind {kind!r}: {name}={value!r} must be {rule}")
