"""Random search, uniform over networks: the baseline that every other searcher must beat."""

from collections.abc import Sequence

import numpy as np

from nas.objectives.aims import Aim
from nas.objectives.limits import Limit
from nas.searchers._candidates import Feasible, everything, pick
from nas.searchers._costs import Costs
from nas.searchers._remembering import Remembering
from search_spaces import Architecture, Space


class RandomSearch(Remembering):
    """Proposes networks uniformly at random, without repetition."""

    def __init__(
        self,
        space: Space,
        objectives: Sequence[str],
        limits: Sequence[Limit] = (),
        feasible: Feasible = everything,
        *,
        aims: Sequence[Aim] = (),
        costs: Costs | None = None,
    ) -> None:
        super().__init__(space, objectives, limits, feasible, aims)

    def ask(self, n: int, rng: np.random.Generator) -> list[Architecture]:
        lineage = self._history.lineage
        lineage.begin()
        return pick(self.space, n, rng, self._history.digests, self.feasible, lineage=lineage)
