"""Evolution of a population towards the whole front: NSGA-II, NSGA-III or ageing, with the operators of the space."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from nas.errors import NasError
from nas.objectives.aims import Aim
from nas.objectives.limits import Limit
from nas.records import Distribution, Evaluation
from nas.searchers._candidates import Feasible, everything, pick
from nas.searchers._costs import Costs
from nas.searchers._offspring import children, surroundings, winner
from nas.searchers._pool import Pool
from nas.searchers._priors import Priors
from nas.searchers._promise import Promise
from nas.searchers._remembering import Remembering
from search_spaces import Architecture, Space

SELECTIONS = ("nsga2", "nsga3", "ageing")
_AGEING_AMONG = 10
_TRIES = 64  # children considered per requested network
_MEMORY = 200  # most evaluations that the screening model is fitted to
_LEARNT_FROM, _GROWTH = 60, 1.5  # see `Manners`


class EvolutionarySearch(Remembering):
    """NSGA-II (Deb et al. 2002, doi:10.1109/4235.996017); its population is the best of all evaluations.

    Keeping the best of parents and children in every generation keeps the best of all evaluations, so the population
    needs no separate state and batches may have any size.

    Args:
        selection: "nsga2"; "nsga3", which spreads three or more objectives over directions (Deb and Jain 2014,
            doi:10.1109/TEVC.2013.2281535); or "ageing", whose population is the latest evaluations, so that even a
            lucky one expires, and whose parents win tournaments of ten (Real et al. 2019, arXiv:1802.01548).
        population: number of parents. Until there are as many evaluations, candidates are the largest and the smallest
            network, then draws that are uniform in each choice.
        crossover: probability that a child has two parents; every child is mutated.
        screening: number of children predicted per evaluated one; a model of the space as in `SurrogateSearch` picks
            the most promising. 0 evaluates every child.
        around: number of best networks whose neighbours are all predicted along with the children: a local search.
        prior: learned distributions for the first batch: derived architectures, then equally many draws from each.
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
        selection: str = "nsga2",
        population: int = 20,
        crossover: float = 0.5,
        screening: int = 32,
        around: int = 16,
        prior: Sequence[Distribution] = (),
    ) -> None:
        if selection not in SELECTIONS:
            raise NasError(f"selection is {selection!r}; choose one of {', '.join(SELECTIONS)}")
        if population < 2:
            raise NasError(f"population is {population}; evolution needs at least 2 parents")
        if not 0 <= crossover <= 1:
            raise NasError(f"crossover is {crossover}; it is a probability, from 0 to 1")
        if screening < 0 or around < 0:
            name, value = ("screening", screening) if screening < 0 else ("around", around)
            raise NasError(f"{name} is {value}; it is a number of networks, 0 for none")
        super().__init__(space, objectives, limits, feasible, aims)
        self.selection = selection
        self.population = population
        self.crossover = crossover
        self.screening = screening
        self.around = around
        self._prior = Priors(space, prior)
        self._promise = (
            Promise(space, self._history, feasible, costs, population, _MEMORY, _LEARNT_FROM, _GROWTH)
            if screening or around
            else None
        )

    def ask(self, n: int, rng: np.random.Generator) -> list[Architecture]:
        lineage = self._history.lineage
        lineage.begin()
        ageing = self.selection == "ageing"
        ranked = self._history.best_first(
            self.population, niches=self.selection == "nsga3", latest=self.population if ageing else None
        )
        parents = [evaluation.arch for evaluation in ranked]
        known = self._history.digests
        if len(self._history) < self.population or len(parents) < 2:
            return pick(
                self.space,
                n,
                rng,
                known,
                self.feasible,
                *self._prior.first(n, rng, told=bool(known)),
                parents=parents,
                lineage=lineage,
            )
        screened = self._screened(n, parents, rng)
        known = known | {arch.digest for arch in screened} if screened else known
        offspring = (lambda size: [self._child(parents, rng) for _ in range(size)], _TRIES * n, "mutation")
        more = pick(
            self.space,
            n - len(screened),
            rng,
            known,
            self.feasible,
            offspring,
            parents=parents,
            lineage=lineage,
        )
        return screened + more

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        super().tell(evaluations)
        if self._promise is not None:
            self._promise.tell(evaluations)

    def _screened(self, n: int, parents: Sequence[Architecture], rng: np.random.Generator) -> list[Architecture]:
        """The most promising of many children and of the neighbours of the best networks."""
        if self._promise is None:
            return []
        rows, names = self.space.codes(parents), [parent.digest for parent in parents]

        def fill(pool: Pool) -> None:
            num, among = self.screening * n, self._among
            born: dict[str, Any] = {"names": names, "lineage": self._history.lineage}
            pool.add(children(self.space, rows, num, rng, crossover=self.crossover, among=among, **born))
            pool.add(surroundings(self.space, rows[: self.around], **born))

        return self._promise.best(n, _TRIES * n, self._history.best_first(), rng, fill)

    @property
    def _among(self) -> int:
        return _AGEING_AMONG if self.selection == "ageing" else 2

    def _child(self, parents: Sequence[Architecture], rng: np.random.Generator) -> Architecture:
        mine = [parents[winner(len(parents), self._among, rng)]]
        child = mine[0]
        if rng.random() < self.crossover:
            mine.append(parents[winner(len(parents), self._among, rng)])
            child = self.space.crossover(child, mine[1], rng)
        child = self.space.mutate(child, rng)
        how = "crossover, then mutation" if len(mine) > 1 else "mutation"
        self._history.lineage.bear_one(child.digest, how, tuple(parent.digest for parent in mine))
        return child
