"""Searchers propose architectures and learn from their evaluations. They use the space; none of them imports torch."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np

from nas.records import Evaluation, Origin
from nas.searchers.additive import AdditiveSearch
from nas.searchers.bayesian import BayesianSearch
from nas.searchers.distribution import DistributionSearch
from nas.searchers.evolution import EvolutionarySearch
from nas.searchers.exact.guess import singles
from nas.searchers.policy import PolicySearch
from nas.searchers.random import RandomSearch
from nas.searchers.surrogate import SurrogateSearch
from search_spaces import Architecture, Space


class Searcher(Protocol):
    """Constructed as `Searcher(space, objectives, limits=(), feasible=everything, *, aims=(), costs=None, **settings)`.

    `aims` are the fronts of a study with several targets: a searcher improves all of them. `costs` computes cheap
    metrics of any network, so a searcher may rank candidates by them before evaluating any.

    The state of a searcher is the sequence of evaluations that `tell` received: a new searcher that receives the same
    proposes the same. `ask` does not change the state.
    """

    def ask(self, n: int, rng: np.random.Generator) -> list[Architecture]:
        """Return `n` distinct architectures that pass `feasible` and have not been evaluated.

        Returns fewer, finally none, when it finds no more: the space is exhausted or almost nothing in it is feasible.
        """
        ...

    @property
    def origins(self) -> Mapping[str, Origin]:
        """How the networks of the last `ask` were proposed, by digest; for display only, and only where it is known."""
        ...

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Add evaluations, including failed ones; every objective is minimised."""
        ...


SEARCHERS: dict[
    str,
    type[RandomSearch]
    | type[EvolutionarySearch]
    | type[BayesianSearch]
    | type[SurrogateSearch]
    | type[DistributionSearch]
    | type[AdditiveSearch]
    | type[PolicySearch],
] = {
    "random": RandomSearch,
    "evolution": EvolutionarySearch,
    "bayesian": BayesianSearch,
    "surrogate": SurrogateSearch,
    "additive": AdditiveSearch,
    "gradient": DistributionSearch,
    "policy": PolicySearch,
}

LEARNS_FROM = {"evolution": "prior", "bayesian": "prior", "surrogate": "prior", "gradient": "distributions"}
"""The setting of a searcher that accepts the distributions of a gradient search."""

BEGINS_WITH: Mapping[str, Callable[[Space], tuple[Architecture, ...]]] = {"additive": singles}
"""The networks that a searcher's studies evaluate first, even those that break limits."""

__all__ = [
    "BEGINS_WITH",
    "LEARNS_FROM",
    "SEARCHERS",
    "AdditiveSearch",
    "BayesianSearch",
    "DistributionSearch",
    "EvolutionarySearch",
    "PolicySearch",
    "RandomSearch",
    "Searcher",
    "SurrogateSearch",
]
