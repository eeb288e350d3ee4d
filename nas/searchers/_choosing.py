"""One option for every choice, so that a sum is least and other sums keep their bounds: solved exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import optimize, sparse

from search_spaces import Slot

FloatArray = npt.NDArray[np.float64]
Row = tuple[int, ...]
Terms = Sequence[FloatArray]
"""For each slot what each code adds to a sum: its options in order, then what a choice that is not active adds."""


@dataclass(frozen=True)
class Bound:
    """A sum that must be at most a value."""

    terms: Terms
    most: float


class Choosing:
    """The architectures of a space as whole-number points: a variable for each option of each slot, one of them 1.

    A choice that its conditions turn off takes code -1, a variable of its own.

    Args:
        domains: the codes of each slot that are allowed.
    """

    def __init__(self, slots: Sequence[Slot], domains: Sequence[Sequence[int]]) -> None:
        self.slots = slots
        self.domains = [tuple(own) for own in domains]
        self._begin = np.cumsum([0, *(len(slot.options) + 1 for slot in slots)])

    def least(
        self, terms: Terms, bounds: Sequence[Bound] = (), without: Sequence[Row] = (), fixed: Row | None = None
    ) -> Row | None:
        """The codes with the least sum under the bounds, by branch and bound (HiGHS); None where there are none.

        Args:
            without: codes that are not to be found.
            fixed: codes of some slots, None or -2 where a slot is free.
        """
        constraints = [self._structure, *(self._bounded(bound) for bound in bounds), *map(self._cut, without)]
        lower, upper = self._limits(fixed)
        found = optimize.milp(
            np.concatenate(terms),
            integrality=np.ones(self._begin[-1]),
            bounds=optimize.Bounds(lower, upper),
            constraints=constraints,
            options={"mip_rel_gap": 1e-9},
        )
        return None if found.x is None else self._row(found.x)

    def _column(self, slot: int, code: int) -> int:
        """-1 is the last of a slot's variables."""
        return int(self._begin[slot + 1] - 1 if code < 0 else self._begin[slot] + code)

    def _row(self, point: FloatArray) -> Row:
        parts = [point[self._begin[s] : self._begin[s + 1]] for s in range(len(self.slots))]
        taken = [int(np.argmax(part)) for part in parts]
        return tuple(-1 if code == len(part) - 1 else code for code, part in zip(taken, parts, strict=True))

    def _limits(self, fixed: Row | None) -> tuple[FloatArray, FloatArray]:
        upper = np.zeros(self._begin[-1])
        for slot, own in enumerate(self.slots):
            codes = (*self.domains[slot], *((-1,) if own.conditions else ()))
            if fixed is not None and fixed[slot] != -2:
                codes = (fixed[slot],)
            for code in codes:
                upper[self._column(slot, code)] = 1.0
        return np.zeros(self._begin[-1]), upper

    @cached_property
    def _structure(self) -> optimize.LinearConstraint:
        """One code a slot; code -1 where, and only where, a condition does not hold."""
        rows: list[dict[int, float]] = []
        low: list[float] = []
        high: list[float] = []

        def add(row: dict[int, float], least: float, most: float) -> None:
            rows.append(row)
            low.append(least)
            high.append(most)

        for slot, own in enumerate(self.slots):
            add(dict.fromkeys(range(self._begin[slot], self._begin[slot + 1]), 1.0), 1.0, 1.0)
            holds = [dict.fromkeys((self._column(p, c) for c in sorted(allowed)), 1.0) for p, allowed in own.conditions]
            off = self._column(slot, -1)
            for one in holds:  # off where it does not hold
                add({**one, off: 1.0}, 1.0, np.inf)
            if holds:  # on where all hold
                total: dict[int, float] = {}
                for one in holds:
                    for column, value in one.items():
                        total[column] = total.get(column, 0.0) + value
                add({**total, off: total.get(off, 0.0) + 1.0}, -np.inf, float(len(holds)))
        matrix = sparse.lil_matrix((len(rows), int(self._begin[-1])))
        for number, row in enumerate(rows):
            for column, value in row.items():
                matrix[number, column] = value
        return optimize.LinearConstraint(matrix.tocsr(), low, high)

    def _bounded(self, bound: Bound) -> optimize.LinearConstraint:
        row = np.concatenate(bound.terms)
        scale = float(np.abs(row).max()) or 1.0  # numbers of parameters are large
        return optimize.LinearConstraint(row[None] / scale, -np.inf, bound.most / scale)

    def _cut(self, codes: Row) -> optimize.LinearConstraint:
        row = np.zeros((1, self._begin[-1]))
        row[0, [self._column(slot, code) for slot, code in enumerate(codes)]] = 1.0
        return optimize.LinearConstraint(row, -np.inf, len(codes) - 1.0)


@dataclass
class Problem:
    """A sum to be least under bounds, with what solves it best; `cut` goes on to the next best."""

    choosing: Choosing
    terms: Terms
    bounds: Sequence[Bound]
    fixed: Row | None = None
    without: list[Row] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.best = self.choosing.least(self.terms, self.bounds, self.without, self.fixed)

    @property
    def value(self) -> float:
        """Infinite where nothing keeps the bounds."""
        return np.inf if self.best is None else float(total(self.terms, np.array([self.best], dtype=np.int16))[0])

    def cut(self) -> None:
        """Leaves the best out."""
        if self.best is not None:
            self.without.append(self.best)
            self.__post_init__()


def total(terms: Terms, codes: npt.NDArray[np.int16]) -> FloatArray:
    """(n,) sums of architectures (n, num_slots)."""
    sums: FloatArray = np.sum([own[codes[:, slot]] for slot, own in enumerate(terms)], axis=0)  # -1 reads the last
    return sums
