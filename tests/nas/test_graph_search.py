"""Every searcher takes a space of graphs, or says in one line that it does not."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from nas.errors import NasError
from nas.records import Evaluation
from nas.searchers import AdditiveSearch, BayesianSearch, EvolutionarySearch, RandomSearch, Searcher, SurrogateSearch
from search_spaces import Architecture, Computation, Computations, Primitive, Space, choice
from supernets.errors import SupernetError
from supernets.relaxation import Mixture

OBJECTIVES = ("error", "params")
PRIMITIVES = (
    Primitive("add", 2, commutative=True),
    Primitive("mul", 2, commutative=True),
    Primitive("neg", 1),
    Primitive("exp", 1),
    Primitive("sigmoid", 1),
)
POINTS = np.linspace(-2, 2, 21)
TARGET = 1 - POINTS / (1 + np.exp(-POINTS - 1))  # add(one, neg(mul(x, sigmoid(add(x, one)))))


class Layer(Computations, primitives=PRIMITIVES, inputs=("x", "one"), nodes=6):
    """At most six nodes."""


class Layers(Space):
    layer = Layer()
    width = choice(4, 8, 16)


def evaluate(arch: Architecture) -> Evaluation:
    """How far the graph is from `TARGET`; the width is what it costs."""
    values: dict[object, np.ndarray] = {"x": POINTS, "one": np.ones_like(POINTS)}
    with np.errstate(all="ignore"):
        for number, (op, *arguments) in enumerate(Computation.of(arch.layer).nodes):
            given = [values[argument] for argument in arguments]
            values[number] = {
                "add": lambda a, b=0: a + b,
                "mul": lambda a, b=0: a * b,
                "neg": lambda a: -a,
                "exp": np.exp,
                "sigmoid": lambda a: 1 / (1 + np.exp(-a)),
            }[op](*given)
        error = float(np.abs(values[arch.layer.size - 1] - TARGET).mean())
    return Evaluation(arch, {"error": error + 0.1 / arch.width, "params": float(arch.width)})


SLOW = pytest.mark.slow
SEARCHERS: dict[str, Callable[..., Searcher]] = {
    "random": RandomSearch,
    "evolution": partial(EvolutionarySearch, population=12, screening=8, around=2),
    "plain evolution": partial(EvolutionarySearch, population=12, screening=0, around=0),
    "ageing": partial(EvolutionarySearch, population=12, screening=0, around=0, selection="ageing"),
    "tpe": partial(BayesianSearch, startup=16),
    "gp": partial(BayesianSearch, sampler="gp", startup=16),
    "surrogate": partial(SurrogateSearch, startup=12),
}


def live(searcher: Searcher, batches: int, seed: int = 0) -> list[Evaluation]:
    told: list[Evaluation] = []
    for batch in range(batches):
        new = [evaluate(arch) for arch in searcher.ask(8, np.random.default_rng([seed, batch]))]
        searcher.tell(new)
        told += new
    return told


@pytest.mark.parametrize("name", [pytest.param(name, marks=SLOW if name == "gp" else ()) for name in SEARCHERS])
def test_it_asks_for_different_graphs_of_the_space_and_is_replayed(name: str) -> None:
    told = live(SEARCHERS[name](Layers(), OBJECTIVES), batches=4)
    assert len({evaluation.arch for evaluation in told}) == 32
    assert all(evaluation.arch in Layers() for evaluation in told)
    again = SEARCHERS[name](Layers(), OBJECTIVES)
    again.tell(told[:24])
    assert again.ask(8, np.random.default_rng([0, 3])) == [evaluation.arch for evaluation in told[24:]]


def best(name: str, batches: int) -> float:
    """The smallest error found, in the mean of three searches."""
    searches = [live(SEARCHERS[name](Layers(), ("error",)), batches, seed) for seed in range(3)]
    return float(np.mean([min(e.metrics["error"] for e in told if e.error is None) for told in searches]))


def test_evolution_finds_better_graphs_than_chance() -> None:
    assert best("plain evolution", 40) < best("random", 40)


def test_what_cannot_search_graphs_says_so_in_one_line() -> None:
    with pytest.raises(NasError) as caught:
        AdditiveSearch(Layers(), OBJECTIVES)
    assert str(caught.value) == (
        "Layers holds graphs, and the effects of their choices do not add up: "
        "search by evolution, surrogate, bayesian or random"
    )
    with pytest.raises(SupernetError, match="Layers holds graphs, of which there is no expectation: search without"):
        Mixture(Layers())
