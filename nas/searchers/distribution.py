"""Search among what a gradient search has learnt: its distributions are drawn from, their best architectures first."""

from collections.abc import Sequence

import numpy as np

from nas.errors import NasError
from nas.objectives.aims import Aim
from nas.objectives.limits import Limit
from nas.records import Distribution
from nas.searchers._candidates import Feasible, everything, pick
from nas.searchers._costs import Costs
from nas.searchers._priors import Priors
from nas.searchers._remembering import Remembering
from search_spaces import Architecture, Space


class DistributionSearch(Remembering):
    """The derived architectures, then draws from all distributions alike, without repetition.

    Where little new turns up any more, the distributions are flattened step by step, in the end to a uniform one.

    Args:
        distributions: what was learnt of this space, one or more.
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
        distributions: Sequence[Distribution],
    ) -> None:
        if not distributions:
            raise NasError("distributions is empty; give what a gradient search has learnt, one distribution or more")
        super().__init__(space, objectives, limits, feasible, aims)
        self._learnt = Priors(space, distributions)

    def ask(self, n: int, rng: np.random.Generator) -> list[Architecture]:
        lineage = self._history.lineage
        lineage.begin()
        parents = [evaluation.arch for evaluation in self._history.best_first()[:n]]
        return pick(
            self.space,
            n,
            rng,
            self._history.digests,
            self.feasible,
            *self._learnt.proposals(n, rng),
            parents=parents,
            lineage=lineage,
        )
