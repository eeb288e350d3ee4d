"""The networks of a space as the solutions of a mixed-integer linear programme, solved by HiGHS.

There is one binary variable per option of each choice. A choice takes one option if its conditions hold and none
otherwise. A constraint becomes the decision diagram of its table: each path from root to end is an allowed combination,
and one unit of flow follows the path of the selected options, which makes the linear relaxation of each constraint
tight (Behle 2007, "Binary decision diagrams and integer programming"). Constraints too wide for a table are enforced
by cutting off the solutions that break them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from nas.errors import NasError
from nas.searchers.exact.columns import Codes, Columns, FloatArray
from nas.searchers.exact.quiet import quiet
from search_spaces import Space

_SECONDS = 30.0  # time limit per solution; then the best found so far counts
_SCALE = 1e3  # of the objective: HiGHS stops within 1e-6 of the optimum
SLACK = 1e-9  # of a bound, as a share of the largest weight, for rounding of sums
_TOLERANCE = 2e-6  # by which HiGHS may exceed a bound
_PLAY = 1e-7  # added to each bound: without it HiGHS rejects some solutions that lie on the bound
_CUTS = 20  # networks cut off one by one before a bound is tightened instead


@dataclass(frozen=True, eq=False)
class AtMost:
    """An upper bound on a weighted sum over the columns of a network."""

    weights: FloatArray
    bound: float

    def keeps(self, row: FloatArray) -> bool:
        """Whether a network (columns,) keeps the bound, up to rounding."""
        return bool(row @ self.weights <= self.bound + SLACK * self.scale)

    @property
    def scale(self) -> float:
        return float(np.abs(self.weights).max(initial=0.0)) or 1.0


@dataclass(frozen=True, eq=False)
class _Row:
    """Lower and upper bound of a linear sum; terms by variable."""

    terms: Mapping[int, float]
    least: float
    most: float


class Program:
    """Finds the network of a space with the smallest sum of weights."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self.columns = Columns(space)
        self._num_variables = len(self.columns)
        self._tabled: set[int] = set()
        self._rows = [row for slot in range(len(space.slots)) for row in self._activity(slot)]
        for number, (scope, table) in enumerate(space.constraint_tables()):
            if table is not None:
                self._tabled.add(number)
                self._rows += self._diagram(scope, *table)
        self._base = self._matrix(self._rows)
        self._cuts: list[_Row] = []  # from constraints without a table; valid for all later solutions

    def minimise(
        self,
        weights: FloatArray,
        at_most: Sequence[AtMost] = (),
        fixed: Mapping[int, int] | None = None,
    ) -> Codes | None:
        """Return (num_slots,) codes of the network with the smallest sum of `weights` (columns,), or None.

        Args:
            at_most: bounds on other sums.
            fixed: codes of slots, by position; -1 for an inactive slot.

        Returns:
            None if no network satisfies all bounds.

        Raises:
            NasError: HiGHS neither finds a network nor proves that there is none.
        """
        bounds, own = list(at_most), list[_Row]()
        while True:
            row = self._solved(weights, bounds, fixed or {}, own)
            if row is None:
                return None
            codes = self.columns.codes(row, len(self.space.slots))
            broken = [number for number in self.space.broken_constraints(codes.tolist()) if number not in self._tabled]
            if broken:
                self._cuts += [self._without(codes, self.space.constraint_scopes[number]) for number in broken]
                continue
            if all(bound.keeps(row) for bound in at_most):
                return codes
            own.append(self._without(codes, np.flatnonzero(codes >= 0).tolist()))
            if len(own) > _CUTS:
                bounds = [AtMost(b.weights, b.bound - _TOLERANCE * len(own) * b.scale) for b in bounds]
            if len(own) > 3 * _CUTS:
                return None

    # -- rows

    def _activity(self, slot: int) -> Iterator[_Row]:
        """One option if all conditions hold, none otherwise."""
        own = dict.fromkeys(self.columns.of(slot).tolist(), 1.0)
        held = [self._having(parent, allowed) for parent, allowed in self.space.slots[slot].conditions]
        if len(held) <= 1:
            needed = dict.fromkeys(held[0], -1.0) if held else {}
            yield _Row(own | needed, float(not held), float(not held))
            return
        for columns in held:
            yield _Row(own | dict.fromkeys(columns, -1.0), -np.inf, 0.0)
        every = {column: -1.0 for columns in held for column in columns}
        yield _Row(own | every, 1.0 - len(held), np.inf)

    def _having(self, slot: int, codes: frozenset[int]) -> list[int]:
        return [self.columns.at(slot, code) for code in self.space.domains[slot] if code in codes]

    def _diagram(
        self, scope: Sequence[int], codes: Sequence[Sequence[int]], allowed: npt.NDArray[np.bool_]
    ) -> Iterator[_Row]:
        """Flow through the reduced decision diagram of a table, which has one axis per slot of the scope."""
        states = allowed.reshape(1, -1)  # remaining subtables, one row per node of a layer
        entering: dict[int, dict[int, float]] = {0: {}}
        for slot, options in zip(scope, codes, strict=True):
            split = states.reshape(len(states) * len(options), -1)
            alive = np.flatnonzero(split.any(axis=1))
            states, target = np.unique(split[alive], axis=0, return_inverse=True)
            leaving: dict[int, dict[int, float]] = {node: {} for node in range(len(split) // len(options))}
            arriving: dict[int, dict[int, float]] = {node: {} for node in range(len(states))}
            taking: dict[int, dict[int, float]] = {code: {} for code in options}
            for arc, node in zip(alive.tolist(), target.reshape(-1).tolist(), strict=True):
                variable, self._num_variables = self._num_variables, self._num_variables + 1
                leaving[arc // len(options)][variable] = -1.0
                arriving[node][variable] = 1.0
                taking[options[arc % len(options)]][variable] = 1.0
            for node, out in leaving.items():
                source = entering[node]
                yield _Row(source | out, *((0.0, 0.0) if source else (-1.0, -1.0)))
            for code, arcs in taking.items():
                if code >= 0:
                    yield _Row(arcs | {self.columns.at(slot, code): -1.0}, 0.0, 0.0)
                else:
                    yield _Row(arcs | dict.fromkeys(self.columns.of(slot).tolist(), 1.0), 1.0, 1.0)
            entering = arriving

    def _without(self, codes: Codes, scope: Sequence[int]) -> _Row:
        """Exclude `codes` at these slots: at least one slot must differ."""
        terms: dict[int, float] = {}
        most = -1.0
        for slot in scope:
            if codes[slot] >= 0:
                terms[self.columns.at(slot, int(codes[slot]))] = 1.0
                most += 1.0
            else:
                terms |= dict.fromkeys(self.columns.of(slot).tolist(), -1.0)
        return _Row(terms, -np.inf, most)

    # -- solving

    def _matrix(self, rows: Sequence[_Row]) -> LinearConstraint:
        entries = [(number, at, value) for number, row in enumerate(rows) for at, value in row.terms.items()]
        below, along, values = zip(*entries, strict=True) if entries else ((), (), ())
        matrix = csr_array((values, (below, along)), shape=(len(rows), self._num_variables), dtype=float)
        return LinearConstraint(matrix, [row.least for row in rows], [row.most for row in rows])

    def _solved(
        self, weights: FloatArray, at_most: Sequence[AtMost], fixed: Mapping[int, int], cuts: Sequence[_Row]
    ) -> FloatArray | None:
        """Return the (columns,) row of the best network under bounds and cuts; None if infeasible."""
        least, most = np.zeros(self._num_variables), np.full(self._num_variables, 1.0)
        for slot, code in fixed.items():
            most[self.columns.of(slot)] = 0
            if code >= 0:
                at = self.columns.at(slot, code)
                least[at] = most[at] = 1
        extra = [*self._cuts, *cuts, *map(_bounded, at_most)]
        objective = np.zeros(self._num_variables)
        objective[: len(weights)] = weights * (_SCALE / (np.abs(weights).max(initial=0.0) or 1.0))
        integral = np.arange(self._num_variables) < len(self.columns)
        with quiet():
            found = milp(
                objective,
                integrality=integral.astype(int),
                bounds=Bounds(least, most),
                constraints=[self._base, *([self._matrix(extra)] if extra else [])],
                options={"mip_rel_gap": 0.0, "time_limit": _SECONDS},
            )
        if found.x is None and found.status != 2:
            raise NasError(f"HiGHS found no network of {self.space.name} ({found.message}): narrow it with where(...)")
        return None if found.x is None else np.round(found.x[: len(self.columns)])


def _bounded(limit: AtMost) -> _Row:
    scaled = limit.weights / limit.scale
    return _Row(dict(enumerate(scaled.tolist())), -np.inf, limit.bound / limit.scale + _PLAY)
