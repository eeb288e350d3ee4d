"""Exact counting of networks, by eliminating one slot after another from a product of small tables.

The activity of a slot given its parents is a table of zeros and ones, and so is a constraint over the slots it reads:
a network is an assignment that every table allows. Summing the slots out from last to first leaves the number of
networks; the tables met on the way tell, for each slot, how many networks every code leads to, given the earlier slots
it is tied to. Walking them forwards therefore never runs into a dead end, and drawing by these weights is exactly
uniform (sum-product and ancestral sampling; Koller and Friedman, Probabilistic Graphical Models, 9.3 and 12.1).
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from search_spaces.layout import Layout, Tie

Uniform: TypeAlias = Literal["networks", "choices"]
CodeArray: TypeAlias = npt.NDArray[np.int16]
Pick: TypeAlias = Callable[[int, tuple[int, ...]], int]
OptionWeights: TypeAlias = Mapping[int, npt.NDArray[np.float64]]  # by slot, at code + 1; all equal where there is none

MAX_CELLS = 1_000_000  # entries of the largest table an elimination may build
MAX_JUDGED = 20_000  # combinations of values a constraint is asked about, in order to make its table


class TooWideError(Exception):
    """Constraints tie these slots together in more combinations than a table may have."""

    def __init__(self, slots: Iterable[int]) -> None:
        super().__init__()
        self.slots = frozenset(slots)


@dataclass(frozen=True)
class Factor:
    """A table over the possible codes of the slots in `scope` (ascending), one axis a slot."""

    scope: tuple[int, ...]
    table: npt.NDArray[Any]


@dataclass(frozen=True)
class Step:
    """The number of networks with each code of `slot`, given the codes of the earlier slots it is tied to."""

    slot: int
    codes: npt.NDArray[np.int16]
    parents: tuple[int, ...]
    lookups: tuple[npt.NDArray[np.int64], ...]  # for each parent: code + 1 to its share of the row number
    weights: npt.NDArray[Any]  # (rows, codes), Python ints or int64
    _feasible: dict[tuple[int, ...], tuple[int, ...]] = field(default_factory=dict)

    def feasible(self, codes: Sequence[int]) -> tuple[int, ...]:
        """The codes from which some network follows."""
        key = tuple([codes[parent] for parent in self.parents])
        if key not in self._feasible:
            row = sum(int(lookup[code + 1]) for lookup, code in zip(self.lookups, key, strict=True))
            self._feasible[key] = tuple(int(code) for code in self.codes[self.weights[row] > 0])
        return self._feasible[key]

    def rows(self, codes: CodeArray) -> npt.NDArray[np.int64]:
        """The row of `weights` for each row of codes."""
        rows = np.zeros(len(codes), dtype=np.int64)
        for parent, lookup in zip(self.parents, self.lookups, strict=True):
            rows += lookup[codes[:, parent] + 1]
        return rows

    @cached_property
    def cumulative(self) -> dict[Uniform, npt.NDArray[np.float64]]:
        """Cumulative probabilities of the codes in each row; the last possible one is exactly 1."""
        return {"networks": _cumulative(self.weights), "choices": _cumulative((self.weights > 0).astype(np.int64))}

    def weighted(self, codes: CodeArray, weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """For each row of earlier codes the weights of this slot's codes, 0 where no network follows."""
        return np.asarray((self.weights[self.rows(codes)] > 0) * weights[self.codes + 1], dtype=np.float64)


def _cumulative(weights: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    sums = np.cumsum(weights, axis=1)
    totals = sums[:, -1:]
    return np.asarray(sums / np.where(totals == 0, 1, totals), dtype=np.float64)  # of Python ints: rounded once


@dataclass(frozen=True)
class Plan:
    """The slots in an order in which each has its weights given those before it."""

    num_slots: int
    steps: tuple[Step, ...]
    total: int

    def walk(self, pick: Pick) -> list[int]:
        """The codes of one network; `pick` takes one of the feasible codes wherever there are several."""
        codes = [-1] * self.num_slots
        for step in self.steps:
            feasible = step.feasible(codes)
            codes[step.slot] = feasible[0] if len(feasible) == 1 else pick(step.slot, feasible)
        return codes

    def draw(self, n: int, rng: np.random.Generator, by: Uniform | OptionWeights) -> CodeArray:
        """`n` networks as (n, num_slots) codes, uniform over networks or over the feasible codes of slot after slot.

        Or the feasible codes of slot after slot by weights: equal ones draw what "choices" does, to the bit.
        """
        codes = np.full((n, self.num_slots), -1, dtype=np.int16, order="F")
        for step in self.steps:
            if len(step.codes) == 1:
                codes[:, step.slot] = step.codes[0]
                continue
            chance = rng.random(n)
            if not isinstance(by, str) and step.slot in by:
                cumulative = _cumulative(step.weighted(codes, by[step.slot]))
                codes[:, step.slot] = step.codes[(chance[:, None] >= cumulative[:, :-1]).sum(axis=1)]
                continue
            cumulative = step.cumulative[by if isinstance(by, str) else "choices"]
            if len(cumulative) == 1:
                taken = np.searchsorted(cumulative[0], chance, side="right")
            else:
                rows = step.rows(codes)
                taken = np.zeros(n, dtype=np.int64)
                for column in cumulative.T[:-1]:
                    taken += chance >= column[rows]
            codes[:, step.slot] = step.codes[taken]
        return codes

    def probability(self, codes: CodeArray, weights: OptionWeights) -> float:
        """Return the probability of drawing one network's (1, num_slots) codes with these weights."""
        found = 1.0
        for step in self.steps:
            if len(step.codes) > 1:
                ones = np.ones(int(step.codes.max()) + 2)
                shares = step.weighted(codes, weights.get(step.slot, ones))[0]
                found *= float(shares[step.codes == codes[0, step.slot]].sum() / shares.sum())
        return found

    def rows(self) -> CodeArray:
        """Every network, (total, num_slots)."""
        codes = np.full((min(self.total, 1), self.num_slots), -1, dtype=np.int16)
        for step in self.steps:
            row, column = np.nonzero(step.weights[step.rows(codes)] > 0)
            codes = codes[row]
            codes[:, step.slot] = step.codes[column]
        return codes


@dataclass(frozen=True)
class Solution:
    """A plan for all constraints but the `loose` ones, which tie too many slots together to be counted."""

    plan: Plan
    loose: tuple[Tie, ...]


def solve(
    layout: Layout,
    domains: Sequence[tuple[int, ...]],
    required: frozenset[int] = frozenset(),
    ties: Sequence[Tie] | None = None,
    limit: int = MAX_CELLS,
) -> Solution:
    """Plan the networks whose slots take codes in `domains`, those in `required` active; `limit` bounds a table."""
    problem = Problem(layout, domains, required, limit)
    factors: list[tuple[Tie, Factor]] = []
    loose: list[Tie] = []
    for tie in layout.ties if ties is None else ties:
        factor = problem.constraint(tie)
        if factor is None:
            loose.append(tie)
        else:
            factors.append((tie, factor))
    while True:
        try:
            return Solution(problem.plan([factor for _, factor in factors]), tuple(loose))
        except TooWideError as error:
            if not factors:
                raise
            crowd = error.slots
            worst = max(
                range(len(factors)), key=lambda i: (len(crowd & set(factors[i][1].scope)), len(factors[i][1].scope))
            )
            loose.append(factors.pop(worst)[0])


class Problem:
    """The tables of a layout whose slots are restricted to `domains`."""

    def __init__(
        self, layout: Layout, domains: Sequence[tuple[int, ...]], required: frozenset[int], limit: int
    ) -> None:
        self.layout = layout
        self.limit = limit
        self.codes = [
            (*(() if not slot.conditions or index in required else (-1,)), *domains[index])
            for index, slot in enumerate(layout.slots)
        ]
        self.positions = [{code: position for position, code in enumerate(codes)} for codes in self.codes]

    def constraint(self, tie: Tie) -> Factor | None:
        """Evaluate the constraint on every combination of its slots; None if there are too many."""
        shape = self._shape(tie.scope)
        if math.prod(shape) > self.limit:
            return None
        try:
            plan = self.plan([], self._ancestors(tie.scope))
        except TooWideError:
            return None
        if plan.total > MAX_JUDGED:
            return None
        table = np.ones(shape, dtype=np.int64)
        rows = plan.rows()
        _, first = np.unique(rows[:, list(tie.scope)], axis=0, return_index=True)
        for codes in rows[first].tolist():
            if not self.layout.holds(tie, codes):
                table[tuple(self.positions[slot][codes[slot]] for slot in tie.scope)] = 0
        return Factor(tie.scope, table)

    def plan(self, constraints: Sequence[Factor], slots: Sequence[int] | None = None) -> Plan:
        """Eliminate slots from last to first; if that needs too wide a table, the cheapest next, children first."""
        slots = range(len(self.codes)) if slots is None else slots
        factors = [*constraints, *(self._activity(slot) for slot in slots)]
        try:
            return self._eliminate(factors, slots, cheapest=False)
        except TooWideError:
            return self._eliminate(factors, slots, cheapest=True)

    def _shape(self, scope: Iterable[int]) -> tuple[int, ...]:
        return tuple(len(self.codes[slot]) for slot in scope)

    def _ancestors(self, scope: Iterable[int]) -> list[int]:
        """The scope and all slots that decide its activity."""
        found: set[int] = set()
        queue = list(scope)
        while queue:
            slot = queue.pop()
            if slot not in found:
                found.add(slot)
                queue.extend(parent for parent, _ in self.layout.slots[slot].conditions)
        return sorted(found)

    def _activity(self, slot: int) -> Factor:
        """A table of 1 where the slot is active exactly when its conditions hold."""
        conditions = self.layout.slots[slot].conditions
        scope = (*(parent for parent, _ in conditions), slot)
        shape = self._shape(scope)
        if math.prod(shape) > self.limit:
            raise TooWideError(scope)
        holds: npt.NDArray[np.bool_] = np.ones((1,) * len(scope), dtype=np.bool_)
        for axis, (parent, allowed) in enumerate(conditions):
            fits = np.array([code in allowed for code in self.codes[parent]])
            holds = holds & fits.reshape([-1 if other == axis else 1 for other in range(len(scope))])
        active = np.array([code >= 0 for code in self.codes[slot]])
        return Factor(scope, np.broadcast_to(holds == active, shape).astype(np.int64))

    def _eliminate(self, factors: Sequence[Factor], slots: Sequence[int], cheapest: bool) -> Plan:
        exact = math.prod(self._shape(slots)) < 2**62  # no sum can be larger
        pool = {
            number: factor if exact else Factor(factor.scope, factor.table.astype(object))
            for number, factor in enumerate(factors)
        }
        holding: dict[int, set[int]] = {slot: set() for slot in slots}
        for number, factor in pool.items():
            for slot in factor.scope:
                holding[slot].add(number)
        children = _children(self.layout, slots)
        steps: list[Step] = []
        total = 1
        remaining = list(slots)
        while remaining:
            slot = remaining.pop(self._cheapest(remaining, children, holding, pool) if cheapest else -1)
            for parent, _ in self.layout.slots[slot].conditions:
                children[parent].discard(slot)
            gathered = [pool.pop(number) for number in sorted(holding[slot])]
            product = self._product(gathered, slot)
            steps.append(self._step(product))
            for number, factor in zip(sorted(holding[slot]), gathered, strict=True):
                for other in factor.scope:
                    if other != slot:
                        holding[other].discard(number)
            message = Factor(product.scope[:-1], product.table.sum(axis=-1))
            if message.scope:
                number = len(factors) + len(steps)
                pool[number] = message
                for other in message.scope:
                    holding[other].add(number)
            else:
                total *= int(message.table)
        return Plan(len(self.codes), tuple(reversed(steps)), total)

    def _cheapest(
        self,
        remaining: Sequence[int],
        children: Mapping[int, set[int]],
        holding: Mapping[int, set[int]],
        pool: Mapping[int, Factor],
    ) -> int:
        """Where among `remaining` the smallest product is, of the slots whose children are gone: parents come first."""

        def cost(index: int) -> int:
            slot = remaining[index]
            return math.prod(self._shape({other for number in holding[slot] for other in pool[number].scope}))

        return min((index for index, slot in enumerate(remaining) if not children[slot]), key=cost)

    def _product(self, factors: Sequence[Factor], slot: int) -> Factor:
        """Their product, with `slot` as the last axis."""
        scope = (*sorted({other for factor in factors for other in factor.scope} - {slot}), slot)
        shape = self._shape(scope)
        if math.prod(shape) > self.limit:
            raise TooWideError(scope)
        axis = {other: index for index, other in enumerate(scope)}
        tables = []
        for factor in factors:
            order = sorted(range(len(factor.scope)), key=lambda index: axis[factor.scope[index]])
            lengths = [1] * len(scope)
            for other in factor.scope:
                lengths[axis[other]] = len(self.codes[other])
            tables.append(factor.table.transpose(order).reshape(lengths))
        tables.sort(key=lambda table: table.size)
        product = tables[0]
        for table in tables[1:]:
            product = product * table
        return Factor(scope, np.broadcast_to(product, shape))

    def _step(self, product: Factor) -> Step:
        *parents, slot = product.scope
        lookups = []
        stride = 1
        for parent in reversed(parents):
            codes = self.codes[parent]
            lookup = np.zeros(len(self.layout.slots[parent].options) + 1, dtype=np.int64)
            lookup[np.array(codes) + 1] = np.arange(len(codes)) * stride
            lookups.append(lookup)
            stride *= len(codes)
        weights = product.table.reshape(-1, len(self.codes[slot]))
        return Step(slot, np.array(self.codes[slot], dtype=np.int16), tuple(parents), tuple(reversed(lookups)), weights)


def _children(layout: Layout, slots: Iterable[int]) -> dict[int, set[int]]:
    children: dict[int, set[int]] = {slot: set() for slot in slots}
    for slot in children:
        for parent, _ in layout.slots[slot].conditions:
            children[parent].add(slot)
    return children
