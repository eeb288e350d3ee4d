"""Search by a model: Gaussian processes over the choices, and the networks that promise most hypervolume."""

from collections.abc import Sequence

import numpy as np

from nas.errors import NasError
from nas.objectives.aims import Aim
from nas.objectives.limits import Limit
from nas.records import Distribution, Evaluation
from nas.searchers._candidates import Feasible, everything, mutants, pick
from nas.searchers._costs import Costs
from nas.searchers._offspring import children, surroundings
from nas.searchers._pool import Pool
from nas.searchers._priors import Priors
from nas.searchers._promise import Promise
from nas.searchers._remembering import Remembering
from search_spaces import Architecture, Space

_TRIES = 64  # architectures asked about for each that is wanted
_PARENTS, _OF_EACH = 20, 3  # of all fronts together, and at least of each
_CHILDREN = 32  # that are looked at for each network that is wanted
_AROUND = 16  # best networks whose neighbours are looked at


class SurrogateSearch(Remembering):
    """A Gaussian process for each objective and limit, with a kernel over the choices that differ.

    A batch is chosen one by one: each is the network whose hoped-for objectives, half a standard deviation better than
    expected, add most to the hypervolume of what is known and of those chosen before, which are believed to be as
    expected (Ginsbourger et al. 2010, doi:10.1007/978-3-642-10701-6_6). Candidates are all networks where they can be
    listed, else those that a local search comes upon.

    Args:
        startup: successful evaluations before the models are used. Until then candidates are drawn choice by choice,
            uniformly, beginning with the largest and the smallest network.
        aims: one for each target of a study that has several; gains are summed over them, as shares of each front.
        costs: metrics that are told of any network for next to nothing: they need no model.
        memory: evaluations that the models are fitted to at most: the best ones by constrained domination, and as many
            of the others, from good to bad. It bounds the time of one `ask`.
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
        startup: int = 15,
        memory: int = 400,
        prior: Sequence[Distribution] = (),
    ) -> None:
        if startup < 2:
            raise NasError(f"startup is {startup}; the models need at least 2 evaluations")
        if memory < startup:
            raise NasError(f"memory is {memory}, less than startup, {startup}; the models would never be used")
        super().__init__(space, objectives, limits, feasible, aims)
        self.startup = startup
        self.memory = memory
        self._prior = Priors(space, prior)
        self._promise = Promise(space, self._history, feasible, costs, startup, memory)

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        super().tell(evaluations)
        self._promise.tell(evaluations)

    def ask(self, n: int, rng: np.random.Generator) -> list[Architecture]:
        lineage = self._history.lineage
        lineage.begin()
        ranked = self._history.best_first()
        parents = [evaluation.arch for evaluation in ranked[:_PARENTS]]
        known = self._history.digests
        if len(ranked) < self.startup:
            first = self._prior.first(n, rng, told=bool(known))
            return pick(self.space, n, rng, known, self.feasible, *first, parents=parents, lineage=lineage)
        chosen = self._promise.best(n, _TRIES * n, ranked, rng, lambda pool: self._fill(pool, n, ranked, rng))
        known = known | {arch.digest for arch in chosen}
        near = (lambda size: mutants(parents, size, rng, self.space, lineage), _TRIES * n, "mutation")
        return chosen + pick(
            self.space, n - len(chosen), rng, known, self.feasible, near, parents=parents, lineage=lineage
        )

    def _fill(self, pool: Pool, n: int, ranked: Sequence[Evaluation], rng: np.random.Generator) -> None:
        num_fronts = len(self._history.parts)
        parents = [evaluation.arch for evaluation in ranked[: max(_PARENTS, _OF_EACH * num_fronts)]]
        best, names, lineage = self.space.codes(parents), [parent.digest for parent in parents], self._history.lineage
        pool.add(children(self.space, best, _CHILDREN * n, rng, names=names, lineage=lineage))
        pool.add(surroundings(self.space, best[: max(_AROUND, _OF_EACH * num_fronts)], names, lineage))
