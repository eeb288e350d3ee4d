"""Find the axes of parameters that must be permuted together, by gradients, and verify them by permutations.

A smaller architecture reads the leading part of every elastic axis. The order of the units is free as long as the
network computes the same function: a permutation of the rows of one matrix must also permute the vectors beside them
and the columns of the matrix that reads them.

The search makes two units of an axis *twins*: equal along every axis that the group may have. If the units are
interchangeable, the outputs depend on both equally, so their gradients are equal. When one axis makes the twins differ
again, exactly the gradients along the axes of its own group differ, because swapping the units of any other group still
changes nothing. The search therefore finds each group whole and never merges two groups, whatever choices govern them.
Random permutations, one for each draw of random weights, confirm each group.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from supernets.compression.symmetry import Gradients, Networks, Symmetry, Values, twins, untwined
from supernets.compression.units import Group, Part, candidates

CHANGES = "the networks compute something else when their units change places"
UNSEEN = "no output depends on them"
_FRUITLESS = 3  # tests in a row that find no further axis, after which the search gives up on a seed


@dataclass(frozen=True)
class Left:
    """Axes that keep their order, and the reason."""

    choices: tuple[str, ...]
    names: tuple[str, ...]
    why: str


def coupled(networks: Networks, minds: Callable[[Tensor], bool] | None = None) -> tuple[list[Group], list[Left]]:
    """Return the groups of a supernet's elastic axes, in the finest units possible, and the axes left alone.

    Args:
        minds: returns whether an order (features,) of the outputs' features changes the loss. None means always.

    Raises:
        SupernetError: the networks return non-finite values on their inputs.
    """
    found = candidates(networks.supernet.survey)
    search = _Search(Symmetry(networks, found, minds), found)
    search.run()
    left: dict[tuple[tuple[str, ...], str], dict[str, None]] = defaultdict(dict)
    for part in search.waiting():
        left[part.choices, CHANGES if search.sees(part) else UNSEEN][part.name] = None
    order = {part: at for at, part in enumerate(found)}
    groups = sorted(search.groups, key=lambda group: order[group.parts[0]])
    return groups, [Left(choices, tuple(names), why) for (choices, why), names in left.items()]


class _Search:
    """Moves parts from `pending` into groups."""

    def __init__(self, symmetry: Symmetry, parts: Sequence[Part]) -> None:
        self.symmetry = symmetry
        self.pending = list(parts)
        self.groups: list[Group] = []

    def waiting(self) -> list[Part]:
        """Return the elastic parts without a group."""
        return [part for part in self.pending if part.choices]

    def run(self) -> None:
        for draw in self.symmetry.draws:
            self._by_twins(draw)
        self._by_modules()

    def _take(self, parts: Iterable[Part], units: int) -> None:
        members = set(parts)
        ordered = tuple(part for part in self.pending if part in members)
        shown = self.symmetry.reordering and not self.symmetry.holds(ordered, units, exactly=True)
        self.groups.append(Group(ordered, units, shown))
        self.pending = [part for part in self.pending if part not in members]

    # --- by gradients

    def _by_twins(self, draw: Values) -> None:
        tried, alone = set[int](), set[Part]()
        while self.waiting() and (counts := {n for part in self.pending for n in part.counts} - tried):
            units = max(counts)  # the finest first
            tried.add(units)
            twinned = _Twins(self.symmetry, draw, self.pending, units)
            for members, verified in twinned.grown([part for part in twinned.alike if part not in alone]):
                if verified:
                    self._take(members, units)
                elif len(members) == 1:  # its partners do not have equal gradients yet; one of them is a later seed
                    alone |= members

    # --- by permutation, where equal units do not act equally: of two equal experts, a router selects one

    def _by_modules(self) -> None:
        depth = max((part.name.count(".") for part in self.waiting()), default=-1)
        for length in range(depth, -1, -1):
            for parts in self._below(length):
                units = max(frozenset.intersection(*(part.counts for part in parts)), default=1)
                if units > 1 and self._reached(parts, units) and self.symmetry.holds(parts, units):
                    self._take(parts, units)

    def _below(self, length: int) -> list[list[Part]]:
        """Return the elastic pending parts, grouped by choices and by the first `length` steps of their path."""
        found: dict[tuple[tuple[str, ...], tuple[str, ...]], list[Part]] = defaultdict(list)
        for part in self.waiting():
            path = tuple(part.name.split("."))
            if len(path) > length:
                found[part.choices, path[:length]].append(part)
        return list(found.values())

    def _reached(self, parts: Sequence[Part], units: int) -> bool:
        """Return whether outputs depend on at least two units of every part that is not a buffer."""
        learnt = [part for part in parts if part.name in self.symmetry.parameters]
        return all(any(found.reached(part, units) > 1 for found in self._gradients) for part in learnt)

    def sees(self, part: Part) -> bool:
        """Return whether outputs depend on a part; True for buffers."""
        learnt = part.name in self.symmetry.parameters
        return not learnt or any(found.reached(part, max(part.counts)) > 0 for found in self._gradients)

    @cached_property
    def _gradients(self) -> list[Gradients]:
        names = dict.fromkeys(part.name for part in self.pending if part.name in self.symmetry.parameters)
        return [self.symmetry.gradients(values, list(names)) for values in self.symmetry.draws]


class _Twins:
    """Finds groups of parts at one number of units, whose first and last units are twins."""

    def __init__(self, symmetry: Symmetry, draw: Values, pending: Sequence[Part], units: int) -> None:
        self.symmetry, self.units = symmetry, units
        self.parts = [part for part in pending if units in part.counts]
        self.values = {**draw, **twins(draw, self.parts, units)}
        learnt = [part for part in self.parts if part.name in symmetry.parameters]
        self.names = list(dict.fromkeys(part.name for part in learnt))
        gradients = self._gradients({})
        seen = [part for part in learnt if gradients.reached(part, units) > 1]
        self.alike = [part for part in seen if gradients.alike(part, units)]
        self.silent = [part for part in self.parts if part not in seen and self._is_vector(part)]

    def _gradients(self, changed: dict[str, Tensor]) -> Gradients:
        return self.symmetry.gradients({**self.values, **changed}, self.names)

    def grown(self, seeds: Sequence[Part]) -> Iterator[tuple[set[Part], bool]]:
        """Yield the parts that belong to each seed, and whether they form a verified group; matrices come first."""
        rest = sorted(seeds, key=self._is_vector)
        while rest:
            members, verified = self._grown(rest[0])
            yield members, verified
            rest = [part for part in rest[1:] if part not in members]

    def _grown(self, seed: Part) -> tuple[set[Part], bool]:
        """Grow the seed by the parts that react to a member, until a permutation verifies them.

        Returns the members, and whether verification succeeded.
        """
        members, done, fruitless = {seed}, set[Part](), 0
        while fruitless < _FRUITLESS and (unseen := members - done):
            part = seed if seed in unseen else next(part for part in self.parts if part in unseen)
            done.add(part)
            seen = self._seeing(part) - members
            members |= seen
            if (seen or part == seed) and (whole := self._whole(members)):
                return whole, True
            fruitless = 0 if seen else fruitless + 1
        return members, False

    def _whole(self, members: set[Part]) -> set[Part]:
        """Return the members with the vectors that belong to them if they can be permuted, else an empty set."""
        tried: list[set[Part]] = []
        for vectors in (self.silent, [part for part in self.parts if self._is_vector(part)]):
            whole = members | self._beside(members, vectors)
            if whole not in tried and self.symmetry.holds(list(whole), self.units):
                return whole
            tried.append(whole)
        return set()

    def _is_vector(self, part: Part) -> bool:
        return self.values[part.name].dim() < 2

    def _seeing(self, part: Part) -> set[Part]:
        gradients = self._gradients(untwined(self.values, part, self.parts, self.units))
        return {other for other in self.alike if not gradients.alike(other, self.units)}

    def _beside(self, members: set[Part], vectors: Sequence[Part]) -> set[Part]:
        """Return the vectors that belong to the members.

        A vector belongs to the first axis of a weight of its module with the same size. A silent vector without such an
        axis belongs to the parts that react when its twins differ. Gradients do not decide here: buffers have none,
        those of key biases vanish, and the bias of a norm has the same gradient whatever it is added to.
        """
        sizes = {(_owner(part), part.size) for part in members if part.axis == 0}
        return {
            part
            for part in vectors
            if (_owner(part), part.size) in sizes or (part in self.alone and self._seeing(part) & members)
        }

    @cached_property
    def alone(self) -> set[Part]:
        """The silent vectors whose module has no other axis of their size."""
        known = {(_owner(part), part.size) for part in self.parts if part.axis == 0 and part not in self.silent}
        return {part for part in self.silent if (_owner(part), part.size) not in known}


def _owner(part: Part) -> str:
    return part.name.rpartition(".")[0]
