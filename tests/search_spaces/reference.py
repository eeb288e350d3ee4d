"""Every network of a small declaration, written down by the words of its documentation and nothing else."""

import itertools
from collections.abc import Iterator
from typing import Any

from search_spaces import Architecture, Choice, Constraint, Derived, Space

ABSENT = object()


def networks(declared: type[Space]) -> list[Architecture]:
    """All architectures of a class whose choices are declared after those they depend on. Ignores narrowing."""
    body = {name: value for name, value in vars(declared).items() if isinstance(value, Choice)}
    rules = [value for value in vars(declared).values() if isinstance(value, Constraint)]
    partial: list[dict[str, Any]] = [{}]
    for name, own in body.items():
        partial = [
            values if value is ABSENT else {**values, name: value}
            for values in partial
            for value in _values(own, values, body)
        ]
    kept = [values for values in partial if all(_holds(rule, values, body) for rule in rules)]
    derived = {name: value for name, value in vars(declared).items() if isinstance(value, Derived)}
    return [Architecture(declared.__name__, values, None, _derived(derived, values)) for values in kept]


def _derived(derived: dict[str, Derived], values: dict[str, Any]) -> dict[str, Any]:
    """Of values that read choices only."""
    read = {name: [values.get(other, ABSENT) for other in own.parameters] for name, own in derived.items()}
    return {name: own(*read[name]) for name, own in derived.items() if ABSENT not in read[name]}


def _values(own: Choice, values: dict[str, Any], body: dict[str, Choice]) -> Iterator[Any]:
    whole = {parent: wanted for parent, wanted in own.when.items() if body[parent].per is None}
    elementwise = {parent: wanted for parent, wanted in own.when.items() if body[parent].per is not None}
    if not all(_met(values.get(parent, ABSENT), wanted) for parent, wanted in whole.items()):
        yield ABSENT
    elif own.per is None:
        yield from _options(own)
    elif any(name not in values for name in [*elementwise, *(n for n in (own.per, own.start) if isinstance(n, str))]):
        yield ABSENT
    else:
        length = values[own.per] if isinstance(own.per, str) else own.per
        start = 0 if own.start is None else values[own.start]
        active = [
            i >= start and all(_met(values[p][i], wanted) for p, wanted in elementwise.items()) for i in range(length)
        ]
        yield from itertools.product(*(list(_options(own)) if on else [None] for on in active))


def _options(own: Choice) -> Iterator[Any]:
    for option in own.options:
        if isinstance(option, Space):
            yield from networks(type(option))
        else:
            yield tuple(option) if isinstance(option, list) else option


def _met(value: Any, wanted: list[Any]) -> bool:
    value = value.kind if isinstance(value, Architecture) else value
    wanted = [tuple(one) if isinstance(one, list) else one for one in wanted]
    return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in wanted)


def _holds(rule: Constraint, values: dict[str, Any], body: dict[str, Choice]) -> bool:
    if any(name not in values for name in rule.parameters):
        return True
    if rule.each is None:
        return bool(rule(*(values[name] for name in rule.parameters)))
    spread = [name for name in rule.parameters if body[name].per == rule.each]
    for position in range(len(values[spread[0]])):
        row = [values[name][position] if name in spread else values[name] for name in rule.parameters]
        inactive = any(
            (body[name].when or body[name].start) and name in spread and value is None
            for name, value in zip(rule.parameters, row, strict=True)
        )
        if not inactive and not rule(*row):
            return False
    return True
