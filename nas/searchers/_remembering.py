"""What the searchers have in common: the space, the feasibility test, and the history of evaluations."""

from collections.abc import Mapping, Sequence

from nas.objectives.aims import Aim
from nas.objectives.limits import Limit
from nas.records import Evaluation, Origin
from nas.searchers._candidates import Feasible
from nas.searchers._history import History
from search_spaces import Space


class Remembering:
    """A searcher without its `ask`."""

    def __init__(
        self, space: Space, objectives: Sequence[str], limits: Sequence[Limit], feasible: Feasible, aims: Sequence[Aim]
    ) -> None:
        self.space = space
        self.feasible = feasible
        self._history = History(objectives, limits, aims)

    @property
    def origins(self) -> Mapping[str, Origin]:
        """How the networks of the last `ask` were proposed, by digest."""
        return self._history.lineage.origins

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Adds evaluations to the history."""
        self._history.add(evaluations)
