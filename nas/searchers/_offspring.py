"""Candidates near the best known networks, as codes; few of them are evaluated."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nas.searchers._lineage import Lineage
from nas.searchers._process import Codes
from search_spaces import Space


def winner(num: int, among: int, rng: np.random.Generator) -> int:
    """Tournament: the best of `among` draws from `num` parents, which are ordered best first."""
    return int(rng.integers(num, size=among).min())


def children(
    space: Space,
    parents: Codes,
    num: int,
    rng: np.random.Generator,
    *,
    crossover: float = 0.5,
    among: int = 2,
    names: Sequence[str] = (),
    lineage: Lineage | None = None,
) -> Codes:
    """Return (num, num_slots) mutants of parents (n, num_slots); with probability `crossover`, of two parents.

    `lineage` records the parents by their digests, `names`.
    """

    def child() -> tuple[Codes, list[int]]:
        mine = [winner(len(parents), among, rng)]
        one = parents[mine[0]]
        if rng.random() < crossover:
            mine.append(winner(len(parents), among, rng))
            one = space.crossed_codes(one, parents[mine[1]], rng)
        return space.mutated_codes(one, rng), mine

    born = [child() for _ in range(num)]
    found = _stacked(space, [row for row, _ in born])
    if lineage is not None:
        for row, (_, mine) in zip(found, born, strict=True):
            how = "crossover, then mutation" if len(mine) > 1 else "mutation"
            lineage.bear_one(row.tobytes(), how, tuple(names[at] for at in mine))
    return found


def surroundings(space: Space, networks: Codes, names: Sequence[str] = (), lineage: Lineage | None = None) -> Codes:
    """Return (m, num_slots) all neighbours of networks (n, num_slots); `lineage` records whose, by digest."""
    found = [_stacked(space, space.neighbour_codes(row)) for row in networks]
    if lineage is not None:
        for name, near in zip(names, found, strict=False):
            for row in near:
                lineage.bear_one(row.tobytes(), "one change", (name,))
    return np.concatenate([_stacked(space, []), *found])


def _stacked(space: Space, rows: Sequence[Codes] | Codes) -> Codes:
    return np.array(rows, dtype=np.int16).reshape(len(rows), len(space.slots))
