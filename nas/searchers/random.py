"""Random search: uniform over networks. The baseline every other searcher has to beat."""

from collections.abc import Mapping, Sequence

import numpy as np

from nas.objectives.aims import Aim
from nas.objectives.limits import Limit
from nas.records import Evaluation, Origin
from nas.searchers._candidates import Feasible, everything, pick
from nas.searchers._costs import Costs
from nas.searchers._history import History
from search_spaces import Architecture, Space


class RandomSearch:
    """Asks for networks uniformly at random, without repetition."""

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
        self.space = space
        self.feasible = feasible
        self._history = History(objectives, limits, aims)

    def ask(self, n: int, rng: np.random.Generator) -> list[Architecture]:
        lineage = self._history.lineage
        lineage.begin()
        return pick(self.space, n, rng, self._history.digests, self.feasible, lineage=lineage)

    @property
    def origins(self) -> Mapping[str, Origin]:
        return self._history.lineage.origins

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        self._history.add(evaluations)
