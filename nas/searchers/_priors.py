"""Candidates from learned distributions: their derived architectures, then equally many draws from each."""

from collections.abc import Sequence

import numpy as np

from nas.errors import NasError
from nas.records import Distribution
from nas.searchers._candidates import DRAWN, Propose, Source, first_proposals
from search_spaces import Architecture, Space

_FLATNESS = (1, 2, 4, 8)
"""Degrees of roots of the probabilities: a nearly certain distribution is soon exhausted, so flatter ones follow."""
_TRIES = 32
"""Draws at each flatness per requested architecture."""
_FIRST_TRIES = 64
"""Draws per requested architecture without a learned distribution."""


class Priors:
    """Learned distributions over one space.

    Raises:
        NasError: a distribution is over another space, or its derived architecture is not in this one.
    """

    def __init__(self, space: Space, distributions: Sequence[Distribution]) -> None:
        for found in distributions:
            _check(space, found)
        self._space = space
        self._weights = [found.weights() for found in distributions]
        self.derived = list(dict.fromkeys(found.arch for found in distributions))

    def __bool__(self) -> bool:
        return bool(self._weights)

    def first(self, n: int, rng: np.random.Generator, *, told: bool) -> list[Source]:
        """Sources of candidates before a model can be fitted; `told`: whether the searcher has any evaluation yet."""
        if self and not told:
            return self.proposals(n, rng)
        return [(first_proposals(self._space, rng, with_anchors=not told), _FIRST_TRIES * n, DRAWN)]

    def proposals(self, n: int, rng: np.random.Generator) -> list[Source]:
        """Sources for `pick`: the derived architectures, then equally many draws from each distribution."""
        return [(self._draws(rng, flatness), _TRIES * n, "drawn from what was learnt") for flatness in _FLATNESS]

    def _draws(self, rng: np.random.Generator, flatness: int) -> Propose:
        waiting = list(self.derived) if flatness == 1 else []
        weights = [
            {path: [value ** (1 / flatness) for value in vector] for path, vector in table.items()}
            for table in self._weights
        ]
        num_drawn = 0

        def propose(n: int) -> list[Architecture]:
            nonlocal num_drawn
            first, waiting[:] = waiting[:n], waiting[n:]
            turns = [(num_drawn + turn) % len(weights) for turn in range(n - len(first))]
            num_drawn += len(turns)
            drawn = [
                iter(self._space.sample_many(turns.count(index), rng, weights=table))
                for index, table in enumerate(weights)
            ]
            return [*first, *(next(drawn[index]) for index in turns)]

        return propose


def _check(space: Space, found: Distribution) -> None:
    options = {slot.path: len(slot.options) for slot in space.slots}
    name = (
        f"the distribution {found.label!r} of {found.method}" if found.label else f"the distribution of {found.method}"
    )
    for path, vector in found.final.items():
        if options.get(path) != len(vector):
            there = f"but the space {space.name} has {options.get(path, 'no such choice')}"
            raise NasError(f"{name} has {len(vector)} options for {path}, {there}: give one learned in this space")
    if found.arch not in space:
        raise NasError(
            f"the architecture derived from {name}, {found.derived}, is not in {space!r}: "
            "give a distribution learned in this space"
        )
