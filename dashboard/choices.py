"""Names the choices of a learned distribution by the declaration of its space, which the database stores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.records import Distribution


@dataclass(frozen=True)
class Choice:
    """A choice with several options, or the mean of several similar ones."""

    name: str
    labels: tuple[str, ...]
    """Labels of the options, in order of declaration, without closed ones."""
    rows: NDArray[np.float64]
    """(num_steps, num_options) probabilities."""
    taken: int | None = None
    """The option of the derived architecture; None if the choice is not active in it."""
    is_ordered: bool = False
    """Whether options are numbers."""
    family: str = ""
    """Common name of similar choices, one per position."""


def choices(found: Distribution, declaration: Mapping[str, Any]) -> list[Choice]:
    """Return the choices with more than one option, in order of declaration."""
    named = [_choice(path, np.array(rows), found, declaration) for path, rows in found.probabilities.items()]
    return [choice for choice in named if len(choice.labels) > 1]


def families(found: Sequence[Choice]) -> list[Choice]:
    """Replace similar choices by their mean; return them in order of their first."""
    groups: dict[tuple[str, tuple[str, ...]], list[Choice]] = {}
    for choice in found:
        groups.setdefault((choice.family, choice.labels), []).append(choice)
    return [_mean(group) for group in groups.values()]


def _mean(group: Sequence[Choice]) -> Choice:
    first = group[0]
    if len(group) == 1:
        return first
    rows = np.mean([choice.rows for choice in group], axis=0)
    name = f"{first.family}, mean of {len(group)}"
    return Choice(name, first.labels, rows, None, first.is_ordered, first.family)


def _choice(path: str, rows: NDArray[np.float64], found: Distribution, declaration: Mapping[str, Any]) -> Choice:
    options, value = _declared(declaration, found.arch, path.split("."))
    if len(options) != rows.shape[1]:
        options, value = list(range(1, rows.shape[1] + 1)), None
    kept = np.flatnonzero(rows.max(axis=0) > 0)
    labels = tuple(_label(options[index]) for index in kept)
    taken = labels.index(_label(value)) if value is not None and _label(value) in labels else None
    is_ordered = all(isinstance(option, int | float) and not isinstance(option, bool) for option in options)
    return Choice(path, labels, rows[:, kept], taken, is_ordered, _family(path))


def _declared(declaration: Mapping[str, Any], arch: Any, path: Sequence[str]) -> tuple[list[Any], Any]:
    """Return the options of the choice at a path and an architecture's value; [] and None for an unknown path."""
    described = (declaration.get("choices") or {}).get(path[0])
    if described is None:
        return [], None
    options, rest = list(described.get("options", [])), path[1:]
    value = arch.get(path[0]) if isinstance(arch, Mapping) else None
    if "per" in described and rest:
        index, rest = int(rest[0]), rest[1:]
        value = value[index] if isinstance(value, tuple) and index < len(value) else None
    if not rest:
        return options, value
    nested = [option for option in options if isinstance(option, dict)]
    if len(options) > 1:
        nested, rest = [option for option in nested if option["is"] == rest[0]], rest[1:]
    if not nested or not rest:
        return [], None
    inside = value if getattr(value, "kind", None) == nested[0]["is"] else None
    return _declared(nested[0], inside, rest)


def _label(option: Any) -> str:
    if isinstance(option, Mapping):
        return str(option["is"] if "is" in option else getattr(option, "kind", ""))
    return ", ".join(map(str, option)) if isinstance(option, list | tuple) else str(option)


def _family(path: str) -> str:
    """Return a path without its last position."""
    words = path.split(".")
    places = [place for place, word in enumerate(words) if word.isdigit()]
    if not places:
        return path
    last = places[-1]
    return ".".join([*words[:last], *([] if last == len(words) - 1 else ["*"]), *words[last + 1 :]])
