"""Costs as sums over choices: a single sum, or one for each combination of the few choices that couple the others.

The parameter count of a network with one width for all layers is not a sum over its choices, but for each width it is.
Trial fits find such choices: the cost of any network is known, so sums are fitted to many networks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from nas.searchers.exact.columns import Codes, Columns, FloatArray, Table, least_squares
from search_spaces import Space

_EXACT = 1e-9  # error of a sum, as a share of the largest value, that rounding explains
_MOST_CASES = 64
_FEWEST = 48
_MOST_DRAWN = 8000

Told = Callable[[str, Codes], FloatArray]
"""Returns (n,) values of a metric for networks (n, num_slots)."""


@dataclass(frozen=True)
class Case:
    """The networks with these codes, by slot, and the metrics that are sums over their choices."""

    fixed: Mapping[int, int] = field(default_factory=dict)
    tables: Mapping[str, Table] = field(default_factory=dict)

    def holds(self, codes: Codes) -> np.ndarray:
        """Return (n,) bool for networks (n, num_slots)."""
        held = np.ones(len(codes), dtype=bool)
        for slot, code in self.fixed.items():
            held &= codes[:, slot] == code
        return held


@dataclass(frozen=True)
class Cases:
    """All networks of a space, each in one case."""

    cases: tuple[Case, ...] = (Case(),)
    rough: frozenset[str] = frozenset()
    """Metrics that are not exact sums: their tables are least-squares fits."""

    def __iter__(self) -> Iterator[Case]:
        return iter(self.cases)

    def extended(self, tables: Mapping[str, Table]) -> Cases:
        """Add metrics that have one table for all cases."""
        return Cases(tuple(Case(c.fixed, {**c.tables, **tables}) for c in self.cases), self.rough | tables.keys())


def cases(space: Space, columns: Columns, told: Told, names: Sequence[str], rng: np.random.Generator) -> Cases:
    """Return the fewest cases found in which the metrics `names` are sums; metrics that need too many are `rough`."""
    if not names:
        return Cases()
    codes = _drawn(space, {}, rng, min(_MOST_DRAWN, max(_FEWEST, 32 * len(columns))))
    rows = columns(codes)
    fixed: tuple[int, ...] = ()
    rough = []
    for name in names:
        split = _split(codes, rows, told(name, codes), fixed)
        if split is None:
            rough.append(name)
        else:
            fixed = split
    groups = np.unique(codes[:, list(fixed)], axis=0)
    return Cases(
        tuple(_case(space, columns, told, names, fixed, group, codes, rng) for group in groups), frozenset(rough)
    )


def _drawn(space: Space, fixed: Mapping[int, int], rng: np.random.Generator, count: int) -> Codes:
    """Draw networks that have these codes, every option about equally often."""
    kept = {space.slots[slot].path: space.slots[slot].options[code] for slot, code in fixed.items() if code >= 0}
    drawn = space.where(**kept).sample_codes(count, rng, uniform="choices")
    return np.unique(drawn[Case(fixed).holds(drawn)], axis=0)


def _split(codes: Codes, rows: FloatArray, values: FloatArray, fixed: tuple[int, ...]) -> tuple[int, ...] | None:
    """Add slots to `fixed`, the most effective first, until the metric is a sum; None if that takes too many cases."""
    while (error := _error(codes, rows, values, fixed)) > _EXACT:
        errors = {}
        for slot in range(codes.shape[1]):
            if slot not in fixed and len(np.unique(codes[:, (*fixed, slot)], axis=0)) <= _MOST_CASES:
                errors[slot] = _error(codes, rows, values, (*fixed, slot))
        best = min(errors, key=lambda slot: errors[slot], default=None)
        if best is None or errors[best] > 0.999 * error:
            return None
        fixed = (*fixed, best)
    return fixed


def _error(codes: Codes, rows: FloatArray, values: FloatArray, fixed: tuple[int, ...]) -> float:
    """Root mean square residual of sums fitted to each group of networks, as a share of the largest value.

    In a group too small to test a sum, nothing counts as explained.
    """
    _, group = np.unique(codes[:, list(fixed)], axis=0, return_inverse=True)
    errors = np.zeros(len(values))
    for number in range(int(group.max()) + 1):
        own = group.reshape(-1) == number
        here, told = rows[own], values[own]
        free = int((np.ptp(here, axis=0) > 0).sum())
        errors[own] = (least_squares(here, told)(here) if len(here) > free + 2 else told.mean()) - told
    return float(np.sqrt(np.mean(errors**2))) / (float(np.abs(values).max()) or 1.0)


def _case(
    space: Space,
    columns: Columns,
    told: Told,
    names: Iterable[str],
    slots: Sequence[int],
    group: Sequence[int],
    codes: Codes,
    rng: np.random.Generator,
) -> Case:
    fixed = {slot: int(code) for slot, code in zip(slots, group, strict=True)}
    own = codes[Case(fixed).holds(codes)]
    if fixed:
        own = np.unique(np.concatenate([own, _drawn(space, fixed, rng, 3 * len(columns) + _FEWEST)]), axis=0)
    rows = columns(own)
    return Case(fixed, {name: least_squares(rows, told(name, own)) for name in names})
