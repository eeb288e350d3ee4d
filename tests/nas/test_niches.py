"""NSGA-III's order of a front, and the selections of evolution."""

import numpy as np
import pytest

from nas.errors import NasError
from nas.objectives import pareto
from nas.objectives.limits import parse
from nas.records import Evaluation
from nas.searchers import SEARCHERS, BayesianSearch, EvolutionarySearch
from nas.searchers._history import History
from nas.searchers._niches import directions, niched, normalised
from nas.searchers.spelled import read, spell
from tests.contracts.searcher import OBJECTIVES, Blocks, evaluate


@pytest.mark.parametrize(
    ("objectives", "least", "num"), [(1, 5, 1), (2, 10, 10), (3, 15, 15), (3, 90, 91), (4, 20, 20)]
)
def test_directions_are_the_simplex_lattice(objectives: int, least: int, num: int) -> None:
    """C(m + p - 1, p) of them (Das and Dennis 1998): 91 for three objectives and twelve divisions."""
    found = directions(objectives, least)
    assert found.shape == (num, objectives)
    assert np.allclose(found.sum(axis=1), 1) and len({tuple(row) for row in found.round(9)}) == num


def test_axes_are_cut_at_one_by_the_plane_of_the_extremes() -> None:
    """Points on a plane with intercepts 2, 4 and 10 beyond the ideal point (1, 1, 1)."""
    corners = np.eye(3)
    inner = np.random.default_rng(0).dirichlet(np.ones(3), 20)
    values = 1 + np.concatenate([corners, inner]) * [2, 4, 10]
    assert np.allclose(normalised(values), np.concatenate([corners, inner]), atol=1e-6)
    assert np.isfinite(normalised(np.ones((4, 3)))).all(), "equal points have no extent"
    assert np.isfinite(normalised(np.array([[0.0, 1.0, 2.0], [0.0, 1.0, 3.0]]))).all()


def test_the_first_of_each_direction_come_before_the_second_of_any() -> None:
    rng = np.random.default_rng(1)
    towards = directions(3, 10)
    front = np.concatenate([np.repeat(towards[:1], 30, axis=0) + rng.uniform(0, 0.01, (30, 3)), towards])
    order = niched(front, [np.arange(len(front))], towards)
    assert sorted(order) == list(range(len(front)))
    units = towards / np.linalg.norm(towards, axis=1, keepdims=True)
    nearest = (normalised(front) @ units.T).argmax(axis=1)
    assert len(set(nearest[order[: len(towards)]])) == len(towards)


def test_fronts_come_one_after_the_other() -> None:
    values = np.random.default_rng(2).uniform(size=(40, 3))
    order = niched(values, list(pareto.levels(values, 40)), directions(3, 12))
    ranks = pareto.ranks(values)
    assert ranks[order].tolist() == sorted(ranks.tolist())
    assert niched(values, [], directions(3, 12)) == []


def told(num: int) -> list[Evaluation]:
    return [evaluate(arch) for arch in Blocks().sample_many(num, np.random.default_rng(0), distinct=True)]


def test_levels_are_the_ranks() -> None:
    values = np.random.default_rng(3).uniform(size=(60, 2))
    ranks = pareto.ranks(values)
    for number, level in enumerate(pareto.levels(values, 60)):
        assert level.tolist() == np.flatnonzero(ranks == number).tolist()
    assert len(np.concatenate(list(pareto.levels(values, 10)))) >= 10
    assert list(pareto.levels(values[:0], 3)) == []


def test_what_ages_leaves_the_population() -> None:
    history = History(OBJECTIVES, (parse("cost <= 40"),))
    history.add(told(60))
    latest = history.best_first(20, latest=20)
    assert set(map(id, latest)) == set(map(id, history.succeeded[-20:]))
    kept = [all(limit.holds(e.metrics) for limit in history.limits) for e in latest]
    assert kept == sorted(kept, reverse=True), "what breaks limits comes last"


@pytest.mark.parametrize("selection", ["nsga2", "nsga3", "ageing"])
def test_every_selection_asks_for_what_is_new(selection: str) -> None:
    searcher = EvolutionarySearch(Blocks(), OBJECTIVES, selection=selection, population=8)
    seen: set[str] = set()
    for step in range(6):
        archs = searcher.ask(8, np.random.default_rng(step))
        assert len(archs) == 8 and not seen & {arch.digest for arch in archs}
        seen |= {arch.digest for arch in archs}
        searcher.tell([evaluate(arch) for arch in archs])


def test_optunas_gaussian_process_proposes_too() -> None:
    searcher = BayesianSearch(Blocks(), OBJECTIVES, sampler="gp", startup=8)
    searcher.tell(told(12))
    archs = searcher.ask(2, np.random.default_rng(0))
    assert len(archs) == 2 and archs == searcher.ask(2, np.random.default_rng(0))


def test_searchers_are_spelled_with_their_settings() -> None:
    assert read("surrogate", SEARCHERS) == (SEARCHERS["surrogate"], {})
    found = read(" evolution( selection=nsga3, population=40,crossover=0.5) ", SEARCHERS)
    assert found == (EvolutionarySearch, {"selection": "nsga3", "population": 40}), "without defaults"
    assert spell("evolution", *found) == "evolution(selection=nsga3, population=40)"
    assert spell("random", SEARCHERS["random"], {"batch": 6}) == "random"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nonsense", r"searcher 'nonsense' is unknown: choose one of random, evolution\(selection=nsga2"),
        ("evolution(size=3)", r"has no setting 'size=3': its settings are selection=\.\.\., population"),
        ("evolution(population=many)", "population = 'many' must be a whole number"),
        ("random(seed=1)", "its settings are none"),
    ],
)
def test_misspelled_searchers_are_refused(text: str, message: str) -> None:
    with pytest.raises(NasError, match=message):
        read(text, SEARCHERS)


@pytest.mark.parametrize(
    ("make", "settings"), [(EvolutionarySearch, {"selection": "best"}), (BayesianSearch, {"sampler": "random"})]
)
def test_unknown_words_are_refused(make: type, settings: dict[str, str]) -> None:
    with pytest.raises(NasError, match="choose one of"):
        make(Blocks(), OBJECTIVES, **settings)
