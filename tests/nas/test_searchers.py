"""The searchers: the contract, their settings, and that they find more than chance does."""

from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import pytest

from nas.errors import NasError
from nas.objectives import pareto
from nas.objectives.limits import parse
from nas.records import Evaluation
from nas.searchers import (
    LEARNS_FROM,
    SEARCHERS,
    BayesianSearch,
    DistributionSearch,
    EvolutionarySearch,
    RandomSearch,
    Searcher,
    SurrogateSearch,
)
from search_spaces import Architecture, Space, choice
from tests.contracts.searcher import OBJECTIVES, Blocks, SearcherContract, Tiny, evaluate, settings_are_refused
from tests.nas.learnt import learnt


class TestRandomSearch(SearcherContract):
    @pytest.fixture
    def make(self) -> Callable[..., Searcher]:
        return RandomSearch


class TestEvolutionarySearch(SearcherContract):
    @pytest.fixture
    def make(self) -> Callable[..., Searcher]:
        return partial(EvolutionarySearch, population=12)

    @pytest.mark.parametrize("settings", [{"screening": 8, "around": 0}, {"screening": 0, "around": 4}])
    def test_what_is_predicted_promises_more_than_what_is_not(self, settings: dict[str, int]) -> None:
        """The same told, the same seeds: the children that are asked for are nearer to the best known."""
        told = [looked_up(arch) for arch in Cells().sample_many(60, np.random.default_rng(5), distinct=True)]
        means = []
        for given in ({"screening": 0, "around": 0}, settings):
            searcher = EvolutionarySearch(Cells(), OBJECTIVES, **given)
            searcher.tell(told)
            asked = [arch for seed in range(5) for arch in searcher.ask(8, np.random.default_rng(seed))]
            values = np.array([[looked_up(a).metrics[name] for name in OBJECTIVES] for a in asked])
            known = np.array([[e.metrics[name] for name in OBJECTIVES] for e in told])
            means.append(np.mean([pareto.non_dominated(np.vstack([known, value]))[-1] for value in values]))
        assert means[1] > 1.5 * means[0]

    def test_begins_with_the_ends_of_the_space(self, make: Callable[..., Searcher]) -> None:
        archs = make(Blocks(), OBJECTIVES).ask(4, np.random.default_rng(0))
        assert archs[:2] == [Blocks().largest(), Blocks().smallest()]

    def test_parents_keep_the_limits_before_all_else(self) -> None:
        searcher = EvolutionarySearch(Blocks(), OBJECTIVES, (parse("cost <= 60"),), population=6)
        told = self.live(searcher, batches=6)
        ranked = searcher._history.best_first()
        kept = [e for e in told if e.error is None and e.metrics["cost"] <= 60]
        assert 0 < len(kept) < len(ranked)
        assert {e.arch for e in ranked[: len(kept)]} == {e.arch for e in kept}
        over = [e.metrics["cost"] for e in ranked[len(kept) :]]
        assert over == sorted(over)

    def test_settings_are_checked(self) -> None:
        assert "population is 1" in settings_are_refused(EvolutionarySearch, population=1)
        assert "crossover is 1.5" in settings_are_refused(EvolutionarySearch, crossover=1.5)
        assert "screening is -1" in settings_are_refused(EvolutionarySearch, screening=-1)
        assert "around is -2" in settings_are_refused(EvolutionarySearch, around=-2)


class TestPlainEvolution(SearcherContract):
    """Every child is evaluated, none predicted."""

    @pytest.fixture
    def make(self) -> Callable[..., Searcher]:
        return partial(EvolutionarySearch, population=12, screening=0, around=0)


class TestBayesianSearch(SearcherContract):
    @pytest.fixture
    def make(self) -> Callable[..., Searcher]:
        return partial(BayesianSearch, startup=24)

    def test_its_memory_is_bounded(self) -> None:
        searcher = BayesianSearch(Blocks(), OBJECTIVES, startup=8, memory=12)
        told = self.live(RandomSearch(Blocks(), OBJECTIVES), batches=4)
        searcher.tell(told)
        remembered = searcher._remembered(searcher._history.best_first())
        assert len({e.arch.digest for e in remembered}) == 12
        latest = [e for e in told if e.error is None][-1]
        assert latest in remembered

    def test_leaves_optuna_as_it_was(self, make: Callable[..., Searcher], capfd: pytest.CaptureFixture[str]) -> None:
        import optuna

        before = optuna.logging.get_verbosity()
        self.live(make(Blocks(), OBJECTIVES), batches=4, n=9)
        assert optuna.logging.get_verbosity() == before
        assert capfd.readouterr().err == ""

    def test_settings_are_checked(self) -> None:
        assert "startup is 1" in settings_are_refused(BayesianSearch, startup=1)
        assert "memory is 5" in settings_are_refused(BayesianSearch, memory=5)


class TestSurrogateSearch(SearcherContract):
    @pytest.fixture
    def make(self) -> Callable[..., Searcher]:
        return partial(SurrogateSearch, startup=8)

    def test_settings_are_checked(self) -> None:
        assert "startup is 1" in settings_are_refused(SurrogateSearch, startup=1)
        assert "memory is 5" in settings_are_refused(SurrogateSearch, memory=5)


class TestDistributionSearch(SearcherContract):
    @pytest.fixture
    def make(self) -> Callable[..., Searcher]:
        return lambda space, *args, **kwargs: DistributionSearch(
            space, *args, distributions=[learnt(space, 1), learnt(space, 2)], **kwargs
        )

    def test_goes_on_when_a_certain_distribution_is_drawn_out(self) -> None:
        certain = learnt(Blocks(), 3, concentration=1e-3)
        told = self.live(DistributionSearch(Blocks(), OBJECTIVES, distributions=[certain]), batches=4)
        assert told[0].arch == certain.arch
        assert len({e.arch for e in told}) == 32
        weights = {path: [value ** (1 / 8) for value in vector] for path, vector in certain.weights().items()}
        flat = [Blocks().probability(e.arch, weights=weights) for e in told]
        assert min(flat) > Blocks().probability(certain.arch, weights=weights) / 1e4, "near what was learnt"

    def test_settings_are_checked(self) -> None:
        assert "distributions is empty; give one or more distributions" in settings_are_refused(
            DistributionSearch, distributions=[]
        )


@pytest.mark.parametrize("name", LEARNS_FROM)
class TestWhatWasLearnt:
    def asked(self, name: str, n: int, **changes: Any) -> list[Architecture]:
        found = [learnt(Blocks(), 1, concentration=0.3), learnt(Blocks(), 2, concentration=0.3)]
        searcher = SEARCHERS[name](Blocks(), OBJECTIVES, **{LEARNS_FROM[name]: found}, **changes)
        return searcher.ask(n, np.random.default_rng(0))

    def test_derived_architectures_come_first(self, name: str) -> None:
        found = [learnt(Blocks(), seed, concentration=0.3) for seed in (1, 2)]
        assert self.asked(name, 8)[:2] == [one.arch for one in found]

    def test_draws_are_from_all_distributions_alike(self, name: str) -> None:
        found = [learnt(Blocks(), seed, concentration=0.3) for seed in (1, 2)]
        drawn = self.asked(name, 24)[2:]
        chances = [[Blocks().probability(arch, weights=one.weights()) for one in found] for arch in drawn]
        from_first = sum(first > second for first, second in chances)
        assert 8 <= from_first <= 14
        uniform = Blocks().sample_many(30, np.random.default_rng(0), uniform="choices")
        usual = median(max(Blocks().probability(arch, weights=one.weights()) for one in found) for arch in uniform)
        assert median(max(pair) for pair in chances) > 10 * usual

    def test_what_is_not_feasible_is_left_out(self, name: str) -> None:
        derived = learnt(Blocks(), 1, concentration=0.3).arch

        def narrow(archs: Sequence[Architecture]) -> np.ndarray:
            return np.array([arch.depth != derived.depth for arch in archs], dtype=bool)

        archs = self.asked(name, 8, feasible=narrow)
        assert len(set(archs)) == 8
        assert narrow(archs).all()

    def test_distributions_of_another_space_are_refused(self, name: str) -> None:
        def made(space: Space, of: Space) -> None:
            SEARCHERS[name](space, OBJECTIVES, **{LEARNS_FROM[name]: [learnt(of, label="cpu 0.5")]})

        with pytest.raises(
            NasError, match=r"'cpu 0\.5' of drnas has 5 options for op\.0, but the space Tiny has no such choice"
        ):
            made(Tiny(), of=Cells())
        narrow = Tiny(a=next(a for a in (1, 2, 3) if a != learnt(Tiny()).arch.a))
        with pytest.raises(NasError, match=r"is not in Tiny.*: give a distribution learned in this space"):
            made(narrow, of=Tiny())


@pytest.mark.parametrize("name", ["evolution", "bayesian"])
def test_after_the_first_batch_a_prior_plays_no_part(name: str) -> None:
    usual, primed = (SEARCHERS[name](Blocks(), OBJECTIVES, prior=prior) for prior in ((), [learnt(Blocks(), 1)]))
    told = [evaluate(arch) for arch in primed.ask(8, np.random.default_rng(0))]
    for searcher in (usual, primed):
        searcher.tell(told)
    assert usual.ask(8, np.random.default_rng(1)) == primed.ask(8, np.random.default_rng(1))


class Cells(Space):
    """Six edges with one of five operations, as in NAS-Bench-201."""

    op = choice(*range(5), per=6)


_GENERATOR = np.random.default_rng(2026)
_GAIN = _GENERATOR.normal(size=(6, 5))
_TOGETHER = _GENERATOR.normal(size=(6, 6, 5, 5)) / 4
_COST = np.array([0.0, 0.2, 1.0, 3.0, 0.6])


def looked_up(arch: Architecture) -> Evaluation:
    """A fixed table: single and pairwise effects of operations on the error, and a cost that adds up."""
    ops = np.array(arch.op)
    gain = _GAIN[range(6), ops].sum() + _TOGETHER[np.arange(6)[:, None], np.arange(6), ops[:, None], ops].sum()
    cost = _COST[ops].sum()
    return Evaluation(arch, {"error": float(np.exp(-gain / 4) / (1 + cost / 4)), "cost": float(cost)})


def covered(make: Callable[..., Searcher], seed: int, evaluations: int = 128, batch: int = 16) -> float:
    """Hypervolume of what a search found, as a share of that of the whole table."""
    searcher = make(Cells(), OBJECTIVES)
    told: list[Evaluation] = []
    while len(told) < evaluations:
        new = [looked_up(arch) for arch in searcher.ask(batch, np.random.default_rng([seed, len(told)]))]
        searcher.tell(new)
        told.extend(new)
    return volume(told) / _whole_volume()


def volume(evaluations: list[Evaluation]) -> float:
    values = np.array([[np.log(e.metrics["error"]), e.metrics["cost"]] for e in evaluations])
    return float(pareto.hypervolume(values, np.array([2.0, 20.0])))


_WHOLE: list[float] = []


def _whole_volume() -> float:
    if not _WHOLE:
        _WHOLE.append(volume([looked_up(arch) for arch in Cells().enumerate()]))
    return _WHOLE[0]


@pytest.mark.parametrize(("name", "seeds"), [("evolution", 5), pytest.param("bayesian", 3, marks=pytest.mark.slow)])
def test_beats_chance_on_a_table(name: str, seeds: int) -> None:
    by_chance = [covered(RandomSearch, seed) for seed in range(seeds)]
    assert median(covered(SEARCHERS[name], seed) for seed in range(seeds)) > max(by_chance)


def test_the_order_of_preference_is_that_of_the_front() -> None:
    searcher = EvolutionarySearch(Blocks(), OBJECTIVES)
    told = SearcherContract.live(searcher, batches=5)
    good = [e for e in told if e.error is None]
    values = np.array([[e.metrics[name] for name in OBJECTIVES] for e in good])
    front = {good[i].arch for i in np.flatnonzero(pareto.non_dominated(values))}
    ranked = searcher._history.best_first()
    assert {e.arch for e in ranked[: len(front)]} == front
    assert evaluate(ranked[0].arch).error is None
