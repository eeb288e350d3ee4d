"""Searchers: each proposes architectures and learns from their evaluations; all know the space, none knows torch."""

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

    `aims` are the fronts of a study with several targets: a searcher seeks all of them. `costs` tells metrics of any
    networks for next to nothing: a searcher may rank by them before anything is evaluated.

    The state of a searcher is what it was told, in order: a new one told the same asks the same. `ask` changes nothing.
    """

    def ask(self, n: int, rng: np.random.Generator) -> list[Architecture]:
        """`n` distinct architectures that pass `feasible` and were never told before.

        Fewer, in the end none, when no more are found: the space is exhausted or almost nothing in it is feasible.
        """
        ...

    @property
    def origins(self) -> Mapping[str, Origin]:
        """How the networks asked for last came to be, by digest: for people, and only where it is known."""
        ...

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Takes in evaluations, failed ones too; every objective is minimised."""
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
"""The setting in which a searcher takes the distributions of a gradient search."""

BEGINS_WITH: Mapping[str, Callable[[Space], tuple[Architecture, ...]]] = {"additive": singles}
"""What a searcher has to know first: its studies begin with these networks, even with those that break limits."""

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
