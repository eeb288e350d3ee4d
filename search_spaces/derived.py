"""Values that follow from choices: computed when an architecture is read, never chosen.

What stands in one formula, such as widths on a line, needs no choice of its own: the space keeps the few numbers of the
formula, and a builder still reads ``arch.widths``.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from search_spaces.errors import SpaceError
from search_spaces.values import freeze, show

_ABSENT = object()


@dataclass(frozen=True)
class Derived:
    """A value that follows from sibling choices and other derived values; `derive` makes it."""

    function: Callable[..., Any]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    @cached_property
    def parameters(self) -> tuple[str, ...]:
        """The names of the choices and derived values it reads."""
        return tuple(inspect.signature(self.function).parameters)


def derive(function: Callable[..., Any], /) -> Derived:
    """A value of every network of the space, computed from sibling choices: a function in the body of the class.

        @derive
        def widths(start, slope, depth):
            return [start + slope * block for block in range(depth)]

    Its parameters name choices, of which one with `per` comes whole, as a tuple, or other derived values. It returns a
    JSON scalar other than None, or a list of scalars and lists. Architectures have it by attribute, ``arch.widths``; it
    is no variable of the space, so nothing samples, counts or encodes it, and `when` and `per` do not name it. Where
    one of the values it reads is not active, it is absent too. In a subclass it may take the place of a choice.
    """
    return Derived(plain(function))


def plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function inside a static method, which type checkers prefer in a class."""
    return function.__func__ if isinstance(function, staticmethod) else function


def in_order(kind: str, derived: Mapping[str, Derived]) -> dict[str, Derived]:
    """The derived values of the space `kind`, each after those it reads; SpaceError where they read in a circle."""
    ordered: dict[str, Derived] = {}
    while len(ordered) < len(derived):
        waiting = derived.keys() - ordered.keys()
        ready = [name for name in derived if name in waiting and not waiting & set(derived[name].parameters)]
        if not ready:
            circle = ", ".join(name for name in derived if name in waiting)
            raise SpaceError(f"{kind}: {circle} are derived from each other in a circle; derive one from choices alone")
        ordered |= {name: derived[name] for name in ready}
    return ordered


def choices_of(name: str, derived: Mapping[str, Derived]) -> list[str]:
    """The choices behind a name: the choice itself, or those that a derived value is computed from."""
    if name not in derived:
        return [name]
    return list(dict.fromkeys(found for other in derived[name].parameters for found in choices_of(other, derived)))


def compute(kind: str, derived: Mapping[str, Derived], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of `derived`, in order, for these active choices of the space `kind`.

    Raises:
        SpaceError: a function raised, or returned something that is no JSON value.
    """
    found: dict[str, Any] = {}
    for name, rule in derived.items():
        read = [found.get(other, values.get(other, _ABSENT)) for other in rule.parameters]
        if not any(value is _ABSENT for value in read):
            found[name] = _computed(f"{kind}.{name}", rule, read)
    return found


def _computed(place: str, rule: Derived, read: Sequence[Any]) -> Any:
    shown = ", ".join(f"{name}={show(value)}" for name, value in zip(rule.parameters, read, strict=True))
    try:
        value = rule.function(*read)
    except Exception as error:
        raised = f"{type(error).__name__} ({error})"
        raise SpaceError(
            f"{place}: the function raised {raised} for {shown}; make it answer for every network"
        ) from error
    if value is None:
        raise SpaceError(f"{place}: the function returned None for {shown}; did it forget `return`?")
    try:
        return freeze(value)
    except ValueError as error:
        raise SpaceError(f"{place}: for {shown}: {error}; return a number, a text, a truth value or a list") from None
