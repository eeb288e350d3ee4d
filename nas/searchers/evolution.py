"""Evolution of a population towards the whole front: NSGA-II with the operators of the space."""

from collections.abc import Sequence

import numpy as np

from nas.aims import Aim
from nas.errors import NasError
from nas.limits import Limit
from nas.records import Distribution, Evaluation
from nas.searchers._candidates import Feasible, everything, pick
from nas.searchers._costs import Costs
from nas.searchers._history import History
from nas.searchers._learnt import Learnt
from search_spaces import Architecture, Space


class EvolutionarySearch:
    """NSGA-II (Deb et al. 2002, doi:10.1109/4235.996017), with the best of everything told as its population.

    Keeping the best of parents and children in every generation keeps the best of all that was ever evaluated, so
    the population needs no state of its own and batches may have any size.

    Args:
        population: number of parents. Until as many were told, candidates are drawn choice by choice, uniformly,
            beginning with the largest and the smallest network.
        crossover: probability that a child has two parents; every child is mutated.
        prior: learnt distributions, which the first batch comes from: derived architectures, then draws from all alike.
    """

    def __init__(
        self,
        space: Space,
        objectives: Sequence[str],
        limits: Sequence[Limit] = (),
        feasible: Feasible = everything,
        *,
        aims: Sequence[Aim] = (),
        costs: Costs | None = None,
        population: int = 20,
        crossover: float = 0.5,
        prior: Sequence[Distribution] = (),
    ) -> None:
        if population < 2:
            raise NasError(f"population is {population}; evolution needs at least 2 parents")
        if not 0 <= crossover <= 1:
            raise NasError(f"crossover is {crossover}; it is a probability, from 0 to 1")
        self.space = space
        self.feasible = feasible
        self.population = population
        self.crossover = crossover
        self._prior = Learnt(space, prior)
        self._history = History(objectives, limits, aims)

    def ask(self, n: int, rng: np.random.Generator) -> list[Architecture]:
        parents = [evaluation.arch for evaluation in self._history.best_first(self.population)]
        known = self._history.digests
        if len(self._history) < self.population or len(parents) < 2:
            return pick(
                self.space, n, rng, known, self.feasible, *self._prior.first(n, rng, told=bool(known)), parents=parents
            )
        children = (lambda size: [self._child(parents, rng) for _ in range(size)], 64 * n)
        return pick(self.space, n, rng, known, self.feasible, children, parents=parents)

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        self._history.add(evaluations)

    def _child(self, parents: Sequence[Architecture], rng: np.random.Generator) -> Architecture:
        child = _tournament(parents, rng)
        if rng.random() < self.crossover:
            child = self.space.crossover(child, _tournament(parents, rng), rng)
        return self.space.mutate(child, rng)


def _tournament(parents: Sequence[Architecture], rng: np.random.Generator) -> Architecture:
    """The better one of two; parents stand in order of preference."""
    return parents[int(rng.integers(len(parents), size=2).min())]
