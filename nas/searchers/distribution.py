"""Search over the distributions that a gradient search has learned: derived architectures first, then draws."""

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
    """Proposes the derived architectures, then equally many draws from each distribution, without repetition.

    When few draws are new, the distributions are flattened step by step, in the end to a uniform one.

    Args:
        distributions: one or more, learned over this space.
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
            raise NasError("distributions is empty; give one or more distributions that a gradient search has learned")
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
