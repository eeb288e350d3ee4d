"""Finding architectures that are new and feasible, in bounded time."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import numpy as np

from nas.searchers._lineage import Lineage
from search_spaces import Architecture, Space, SpaceError

Feasible = Callable[[Sequence[Architecture]], np.ndarray]
"""(n,) bool: which architectures keep the limits that can be predicted. Called before evaluation."""

Propose = Callable[[int], Sequence[Architecture]]
"""Returns about n candidates, which may contain duplicates, known architectures and ones that break limits."""

Source = tuple[Propose, int, str]
"""A generator of candidates, how many of them to try, and a short description of their origin."""
DRAWN = "drawn from the space"

_MOST_TRIES = 4096  # candidates of one kind per ask: about a second
_ALL_SEEN = 256  # candidates without a new one: their source is almost exhausted
_ENUMERABLE = 10_000  # largest space that is enumerated when sampling finds no more


def everything(archs: Sequence[Architecture]) -> np.ndarray:
    """The `feasible` of a search without predictable limits."""
    return np.ones(len(archs), dtype=bool)


@dataclass
class Picked:
    """New feasible architectures found so far, at most `wanted`."""

    wanted: int
    known: Collection[str]
    feasible: Feasible
    archs: dict[str, Architecture] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    """The origin of each, by digest."""

    @property
    def missing(self) -> int:
        return self.wanted - len(self.archs)

    def offer(self, candidates: Sequence[Architecture], how: str = DRAWN) -> int:
        """Keep candidates that are new and feasible; return how many were new."""
        new = {a.digest: a for a in candidates if a.digest not in self.known and a.digest not in self.archs}
        if new:
            passed = self.feasible(list(new.values()))
            kept = [digest for digest, ok in zip(new, passed, strict=True) if ok][: self.missing]
            self.archs.update((digest, new[digest]) for digest in kept)
            self.origins.update(dict.fromkeys(kept, how))
        return len(new)

    def draw(self, propose: Propose, tries: int, how: str = DRAWN) -> None:
        """Offer proposals in growing portions until none is missing, `tries` were seen or all are duplicates."""
        size = self.missing
        while self.missing > 0 and tries > 0:
            size = min(size, tries)
            num_new = self.offer(propose(size), how)
            if num_new == 0 and size >= _ALL_SEEN:
                return
            tries -= size
            size *= 2


def pick(
    space: Space,
    n: int,
    rng: np.random.Generator,
    known: Collection[str],
    feasible: Feasible,
    *proposals: Source,
    parents: Sequence[Architecture] = (),
    lineage: Lineage | None = None,
) -> list[Architecture]:
    """Return `n` distinct feasible architectures whose digests are not `known`; fewer if it finds no more.

    Args:
        proposals: sources of candidates, in order of preference.
        parents: feasible architectures, mutated if uniform sampling finds nothing.
        lineage: records the origin of each.
    """
    picked = Picked(n, known, feasible)
    for source in proposals:
        picked.draw(*source)
    picked.draw(lambda size: space.sample_many(size, rng), 16 * n)
    if picked.missing and not _listed(space, rng, picked):
        picked.draw(lambda size: space.sample_many(size, rng), _MOST_TRIES)
        near = [*parents, *_anchors(space)]
        picked.draw(
            lambda size: mutants([*near, *picked.archs.values()], size, rng, space, lineage),
            _MOST_TRIES // 4,
            "mutation",
        )
    if lineage is not None:
        lineage.take(picked.origins)
    return list(picked.archs.values())


def first_proposals(space: Space, rng: np.random.Generator, with_anchors: bool) -> Propose:
    """The first networks for a model of the space: every option equally often, optionally both ends of the space first.

    The front of cost against quality extends from the smallest network to the largest; uniform sampling misses both.
    """
    waiting = _anchors(space) if with_anchors else []

    def propose(n: int) -> list[Architecture]:
        first = [waiting.pop(0) for _ in range(min(n, len(waiting)))]
        return [*first, *space.sample_many(n - len(first), rng, uniform="choices")]

    return propose


def _anchors(space: Space) -> list[Architecture]:
    return [space.largest(), space.smallest()]


def mutants(
    parents: Sequence[Architecture],
    n: int,
    rng: np.random.Generator,
    space: Space,
    lineage: Lineage | None = None,
) -> list[Architecture]:
    """Mutate each of `n` randomly drawn parents; `lineage` records the parents."""
    chosen = [parents[index] for index in rng.integers(len(parents), size=n)]
    found = [space.mutate(parent, rng) for parent in chosen]
    if lineage is not None:
        lineage.bear(found, "mutation", chosen)
    return found


def _listed(space: Space, rng: np.random.Generator, picked: Picked) -> bool:
    """Offer all networks of a small space, shuffled, so that none is missed; return False for a large space."""
    try:
        archs = list(space.enumerate(_ENUMERABLE))
    except SpaceError:
        return False
    order = rng.permutation(len(archs))
    for first in range(0, len(archs), 1024):
        picked.offer([archs[index] for index in order[first : first + 1024]])
    return True
