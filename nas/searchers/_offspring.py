"""Many candidates near the best networks that are known, as codes: few of them are evaluated."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nas.searchers._process import Codes
from search_spaces import Space


def winner(num: int, among: int, rng: np.random.Generator) -> int:
    """The best of so many drawn of `num` parents, which stand in order of preference."""
    return int(rng.integers(num, size=among).min())


def children(
    space: Space, parents: Codes, num: int, rng: np.random.Generator, *, crossover: float = 0.5, among: int = 2
) -> Codes:
    """(num, num_slots) mutants of parents (n, num_slots), of two with the probability `crossover`."""

    def child() -> Codes:
        one = parents[winner(len(parents), among, rng)]
        if rng.random() < crossover:
            one = space.crossed_codes(one, parents[winner(len(parents), among, rng)], rng)
        return space.mutated_codes(one, rng)

    return _stacked(space, [child() for _ in range(num)])


def surroundings(space: Space, networks: Codes) -> Codes:
    """(m, num_slots) all neighbours of some networks (n, num_slots)."""
    found = [space.neighbour_codes(row) for row in networks]
    return np.concatenate([_stacked(space, []), *found])


def _stacked(space: Space, rows: Sequence[Codes]) -> Codes:
    return np.array(rows, dtype=np.int16).reshape(len(rows), len(space.slots))
