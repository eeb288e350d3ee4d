"""Options that are left out of a space, each with a reason: the common result of all ways to shrink a space.

The space itself stays as it is declared. Leaving a line out brings the option back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from search_spaces.errors import SpaceError
from search_spaces.space import Space
from search_spaces.values import canonical

AnySpace = TypeVar("AnySpace", bound=Space)


@dataclass(frozen=True)
class Closed:
    """An option that is left out: the path of its choice, a position included or for all of them, and why."""

    path: str
    option: Any
    why: str = ""

    @classmethod
    def stored(cls, row: Mapping[str, Any]) -> Closed:
        """The inverse of `asdict`, through JSON."""
        return cls(row["path"], row["option"], row["why"])


def narrowed(space: AnySpace, closed: Sequence[Closed]) -> AnySpace:
    """The space without these options.

    Raises:
        SpaceError: there is no such choice or option, or nothing is left.
    """
    left = {slot.path: list(slot.options) for slot in space.slots}
    for one in closed:
        paths = [slot.path for slot in space.slots if one.path in (slot.path, of_all_positions(slot.path))]
        if not paths:
            raise SpaceError(f"closed names {one.path!r}, no choice of {space.name}: there are {', '.join(left)}")
        if not any(_holds(space, path, one.option) for path in paths):
            raise SpaceError(f"closed names {one.option!r}, no option of {space.name}.{one.path}: leave it out")
        for path in paths:
            left[path] = [option for option in left[path] if canonical(option) != canonical(one.option)]
    declared = {slot.path: len(slot.options) for slot in space.slots}
    try:
        return space.where(**{path: own for path, own in left.items() if len(own) < declared[path]})
    except SpaceError as error:
        raise SpaceError(f"what is closed leaves no network: {error}") from error


def together(closed: Iterable[Closed], more: Iterable[Closed]) -> tuple[Closed, ...]:
    """Return the options closed by either, each once, with the first reason."""
    found: dict[tuple[str, str], Closed] = {}
    for one in (*closed, *more):
        found.setdefault((one.path, canonical(one.option)), one)
    return tuple(found.values())


def of_all_positions(path: str) -> str:
    """The path without positions, which all positions of a choice share."""
    return ".".join(part for part in path.split(".") if not part.isdigit())


def _holds(space: Space, path: str, option: Any) -> bool:
    options = next(slot.options for slot in space.slots if slot.path == path)
    return any(canonical(one) == canonical(option) for one in options)
