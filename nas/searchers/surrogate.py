"""Model-based search: Gaussian processes over the choices propose the networks that promise most hypervolume."""

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

_TRIES = 64  # architectures tested for feasibility per requested network
_PARENTS, _OF_EACH = 20, 3  # of all fronts together, and at least of each
_CHILDREN = 32  # children predicted per requested network
_AROUND = 16  # best networks whose neighbours are predicted


class SurrogateSearch(Remembering):
    """A Gaussian process for each objective and limit, with a kernel over the choices that differ.

    A batch is chosen one by one: each network is the one whose optimistic objectives, half a standard deviation better
    than the mean (for two of five networks one or two), add most to the hypervolume of the known networks and of those
    chosen before, which count with their mean (Ginsbourger et al. 2010, doi:10.1007/978-3-642-10701-6_6). Candidates
    are children of the best networks and all neighbours of the very best.

    Args:
        startup: successful evaluations before the models are used. Until then candidates are the largest and the
            smallest network, then draws that are uniform in each choice.
        aims: one per target of a study with several; gains are summed over them, as shares of each front.
        costs: cheap metrics of any network; they need no model.
        memory: most evaluations that the models are fitted to: the best ones by constrained domination, and as many of
            the others, from good to bad. It bounds the time of one `ask`.
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
