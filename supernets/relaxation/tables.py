"""Tabulate features of networks as functions of the few choices they depend on, by building networks.

To find the choices that affect a feature, the survey changes one choice at a time. It then builds networks that cover
all combinations of these choices, where each network covers combinations for many features. Random networks check the
result: if two agree on a feature's choices but differ in the feature, the survey adds the choices in which they differ.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from search_spaces import Architecture, Space, SpaceError
from supernets.errors import SupernetError
from supernets.relaxation.mixture import Joint, Mixture

Key = tuple[Any, ...]
Observe = Callable[[Architecture], Mapping[Key, Hashable]]
Row = tuple[int, ...]

MAX_ROWS = 4096
"""Largest number of combinations of choices for one feature."""
CHECKED = 8
"""Number of random networks that check the tables."""


class RelaxationError(SupernetError):
    """The model cannot be relaxed; the message says where, and what to change."""


@dataclass(frozen=True, eq=False)
class Table:
    """The value of a feature for every combination of its choices in which the feature exists."""

    joint: Joint
    values: tuple[Any, ...]


def tabulate(space: Space, observe: Observe, *, counting: bool = False) -> dict[Key, Table]:
    """Return a table for every feature that `observe` returns for some network.

    Args:
        counting: treat features as numbers, 0 if absent. Otherwise tables omit combinations without the feature.

    Raises:
        RelaxationError: a feature depends on too many combinations of choices.
    """
    return _Survey(space, observe, counting).tables()


def chances_of(table: Table, values: Sequence[Any]) -> Callable[[Mixture], Tensor]:
    """Return a function from a mixture to the probability of each of these values, which must be all of the table's."""
    index = torch.tensor([values.index(value) for value in table.values])
    key = "values", table.joint.key, tuple(index.tolist())

    def chances(mixture: Mixture) -> Tensor:
        def made() -> Tensor:
            rows = mixture.chances(table.joint)
            return rows.new_zeros(len(values)).index_add(0, index.to(rows.device), rows)

        return mixture.known(key, made)

    return chances


def combinations(space: Space, slots: Sequence[int]) -> list[Row]:
    """Return all combinations of codes of some slots, -1 for a slot that the others make inactive.

    Conditions on slots outside these count as met. The list stops early above `MAX_ROWS`.
    """
    rows: list[Row] = [()]
    for column, slot in enumerate(slots):
        conditions = [(slots.index(p), allowed) for p, allowed in space.slots[slot].conditions if p in slots[:column]]
        rows = [
            (*row, code)
            for row in rows
            for code in (space.domains[slot] if all(row[at] in allowed for at, allowed in conditions) else (-1,))
        ]
        if len(rows) > MAX_ROWS:
            break
    return rows


def closed(space: Space, slots: Iterable[int]) -> tuple[int, ...]:
    """Return the slots, in order, with every slot on the path from one of them to an ancestor among them."""
    own = set(slots)
    above = {slot: _ancestors(space, slot) for slot in own}
    return tuple(sorted(own.union(*(found for found in above.values() if found & own))))


def _ancestors(space: Space, slot: int) -> set[int]:
    parents = {parent for parent, _ in space.slots[slot].conditions}
    return parents.union(*(_ancestors(space, parent) for parent in parents))


@dataclass
class _Seen:
    """The codes and observed features of one network."""

    codes: Row
    features: Mapping[Key, Hashable]

    def row(self, slots: Sequence[int]) -> Row:
        return tuple(self.codes[slot] for slot in slots)


@dataclass
class _Group:
    """Features that depend on the same choices and share a `home`: codes of other choices under which they exist."""

    slots: tuple[int, ...]
    home: dict[int, int]
    features: list[Key] = field(default_factory=list)
    known: dict[Row, dict[Key, Any]] = field(default_factory=dict)  # None for an absent feature
    impossible: set[Row] = field(default_factory=set)

    def note(self, seen: _Seen) -> None:
        """Record a network's features; absence counts only at home, since elsewhere it can have other causes."""
        row = seen.row(self.slots)
        home = all(seen.codes[slot] == code for slot, code in self.home.items())
        for key in self.features:
            value = seen.features.get(key)
            if value is not None or home:
                known = self.known.setdefault(row, {})
                known[key] = value if known.get(key) is None else known[key]

    def waits(self, row: Row) -> bool:
        return row not in self.impossible and len(self.known.get(row, {})) < len(self.features)


class _Survey:
    def __init__(self, space: Space, observe: Observe, counting: bool) -> None:
        self.space = space
        self.observe = observe
        self.counting = counting
        self.observed: dict[Row, Mapping[Key, Hashable]] = {}
        self.seen: list[_Seen] = []
        labelled = list(space.variants())
        for _, arch in labelled:
            self._look(arch)
        self.labels = [label.partition("=")[0] for label, _ in labelled]
        self.keys = list(dict.fromkeys(key for seen in self.seen for key in seen.features))
        self.slots, self.decided = self._dependencies()
        for arch in space.sample_many(CHECKED, np.random.default_rng(0), uniform="choices"):
            self._look(arch)

    def tables(self) -> dict[Key, Table]:
        tables: dict[Key, Table] = {}
        todo = self.keys
        while todo:
            groups = self._grouped(todo)
            self._cover(groups)
            tables |= {key: self._table(group, key) for group in groups for key in group.features}
            todo = [key for key in self.keys if self._joined(key)]
        return tables

    def _look(self, arch: Architecture) -> _Seen:
        codes = tuple(self.space.codes([arch])[0].tolist())
        if codes not in self.observed:
            self.observed[codes] = self.observe(arch)
        seen = _Seen(codes, self.observed[codes])
        self.seen.append(seen)
        return seen

    # --- dependences of features on choices

    def _dependencies(self) -> tuple[dict[Key, set[int]], dict[Key, set[int]]]:
        """Return the choices that affect each feature's value, and those that decide whether it exists."""
        moved: dict[Key, set[int]] = {key: set() for key in self.keys}
        decided: dict[Key, set[int]] = {key: set() for key in self.keys}
        codes = np.array([seen.codes for seen in self.seen])
        paths = {slot.path: index for index, slot in enumerate(self.space.slots)}
        for number, label in enumerate(self.labels[1:], start=1):
            differing = (codes != codes[number]) & (codes >= 0) & (codes[number] >= 0)
            differing[~differing[:, paths[label]]] = False
            counts = np.where(differing.any(1), differing.sum(1), len(paths) + 1)
            for other in np.flatnonzero(counts == counts.min()):
                slots = set(np.flatnonzero(differing[other]).tolist())
                if slots:
                    self._compare(self.seen[number], self.seen[int(other)], slots, moved, decided)
        for key, slots in moved.items():
            if self.counting or slots & decided[key]:
                slots |= decided[key]
        return moved, decided

    def _compare(
        self, a: _Seen, b: _Seen, slots: set[int], moved: dict[Key, set[int]], decided: dict[Key, set[int]]
    ) -> None:
        for key in self.keys:
            one, other = a.features.get(key), b.features.get(key)
            if (one is None) != (other is None):
                decided[key] |= slots
            elif one != other:
                moved[key] |= slots

    def _joined(self, key: Key) -> bool:
        """Add choices to a feature if observed networks contradict its table; return whether it added any.

        Either two networks agree on the feature's choices but differ in the feature, or the feature exists while one of
        its choices is inactive.
        """
        slots = closed(self.space, self.slots[key])
        first: dict[Row, _Seen] = {}
        for seen in self.seen:
            if key not in seen.features and not self.counting:
                continue
            off = [s for s in slots if seen.codes[s] < 0 and not _ancestors(self.space, s) & set(slots)]
            known = first.setdefault(seen.row(slots), seen)
            if off:
                self.slots[key] |= _ancestors(self.space, off[0])
                return True
            if known.features.get(key) != seen.features.get(key):
                self.slots[key] |= self._telling(known, seen, key)
                return True
        return False

    def _telling(self, one: _Seen, other: _Seen, key: Key) -> set[int]:
        """Return the choices, among those in which two networks differ, that affect the feature alone; all if none."""
        differing = {i for i, (a, b) in enumerate(zip(one.codes, other.codes, strict=True)) if a != b}
        moved = set()
        for slot in differing:
            arch = self._between(one, other, slot)
            if arch is not None and self._look(arch).features.get(key) != one.features.get(key):
                moved.add(slot)
        return moved or differing

    def _between(self, one: _Seen, other: _Seen, slot: int) -> Architecture | None:
        """Return the first network with one choice taken from the second, or None if that is not in the space."""
        codes = np.array([one.codes], dtype=np.int16)
        codes[0, slot] = other.codes[slot]
        try:
            (arch,) = self.space.decode(codes)
        except SpaceError:
            return None
        return arch if arch in self.space else None

    # --- values for all combinations

    def _grouped(self, keys: Sequence[Key]) -> list[_Group]:
        groups: dict[Any, _Group] = {}
        for key in keys:
            slots = closed(self.space, self.slots[key])
            home = {} if self.counting else self._home(key, slots)
            group = groups.setdefault((slots, tuple(home.items())), _Group(slots, home))
            group.features.append(key)
        for group in groups.values():
            for seen in self.seen:
                group.note(seen)
        return list(groups.values())

    def _home(self, key: Key, slots: Row) -> dict[int, int]:
        """Return the codes, in the first network with the feature, of other choices that decide if it exists."""
        first = next(seen for seen in self.seen if key in seen.features)
        return {
            slot: first.codes[slot]
            for slot in sorted(self.decided[key])
            if slot not in slots and first.codes[slot] >= 0
        }

    def _cover(self, groups: Sequence[_Group]) -> None:
        """Observe networks until every group knows all its combinations."""
        rows = {id(group): self._rows(group) for group in groups}
        while True:
            waiting = [(group, [row for row in rows[id(group)] if group.waits(row)]) for group in groups]
            waiting = sorted((pair for pair in waiting if pair[1]), key=lambda pair: -len(pair[1]))
            if not waiting:
                return
            group, pending = waiting[0]
            tried = [self._showing(waiting)]
            tried += (
                [self.space.largest_with(wanted) for wanted in _ways(group, pending[0])] if tried[0] is None else []
            )
            for arch in filter(None, tried):
                seen = self._look(arch)
                for other in groups:
                    other.note(seen)
            if tried[0] is None and group.waits(pending[0]):
                group.impossible.add(pending[0])

    def _rows(self, group: _Group) -> list[Row]:
        rows = combinations(self.space, group.slots)
        if len(rows) > MAX_ROWS:
            paths = [self.space.slots[slot].path for slot in group.slots]
            size = prod(len(self.space.domains[slot]) for slot in group.slots)
            raise RelaxationError(
                f"{_named(group.features[0])} depends on {', '.join(paths)} together, {size:,} combinations; at most "
                f"{MAX_ROWS:,} can be tabulated: let it depend on fewer choices, or narrow the space with where(...)"
            )
        return rows

    def _showing(self, waiting: Sequence[tuple[_Group, list[Row]]]) -> Architecture | None:
        """Return a network that covers as many compatible pending combinations as possible; None if infeasible."""
        forced: dict[int, int] = {}
        for group, pending in waiting:
            for row in pending:
                wanted = _ways(group, row)[0]
                if all(forced.get(slot, code) == code for slot, code in wanted.items()):
                    forced |= wanted
                    break
        return self.space.largest_with(forced)

    def _table(self, group: _Group, key: Key) -> Table:
        pairs = [(row, found[key]) for row, found in group.known.items() if self.counting or found.get(key) is not None]
        order = {row: index for index, row in enumerate(self._rows(group))}
        pairs = sorted((pair for pair in pairs if pair[0] in order), key=lambda pair: order[pair[0]])
        codes = np.array([row for row, _ in pairs], dtype=np.int16).reshape(len(pairs), len(group.slots))
        values = tuple((value or 0) if self.counting else value for _, value in pairs)
        return Table(Joint(group.slots, codes, missing=len(pairs) < len(order)), values)


def _ways(group: _Group, row: Row) -> list[dict[int, int]]:
    """Return codes that force a combination: first at home, then anywhere that the constraints allow."""
    codes = {slot: code for slot, code in zip(group.slots, row, strict=True) if code >= 0}
    return [group.home | codes, codes]


def _named(key: Key) -> str:
    return " ".join(map(str, key))


def walk(path: str) -> Iterator[str]:
    """Return the paths above a path, from the root down: "", "a", "a.b" for "a.b.c"."""
    parts = path.split(".")
    return itertools.chain([""], (".".join(parts[:n]) for n in range(1, len(parts))))
