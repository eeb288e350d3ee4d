"""What every searcher promises. Subclass, and give `make`."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from nas.objectives.limits import parse
from nas.records import Evaluation
from nas.searchers import Searcher
from search_spaces import Architecture, Space, SpaceError, choice, constraint

OBJECTIVES = ("error", "cost")


class Block(Space):
    kernel = choice(3, 5, 7)
    squeeze = choice(False, True)


class Blocks(Space):
    """Nested, conditional and constrained: 2 to 4 blocks."""

    width = choice(8, 16, 24)
    depth = choice(2, 3, 4)
    ratio = choice(1, 2, 4, per="depth")
    op = choice("conv", "pool", Block(), per="depth")

    @constraint(each="depth")
    def bounded(width: int, ratio: int) -> bool:
        return width * ratio <= 64


class Tiny(Space):
    a = choice(1, 2, 3)
    b = choice(1, 2, 3)


class One(Space):
    a = choice(1)


def evaluate(arch: Architecture) -> Evaluation:
    """Error against cost, in conflict; a tenth of the networks fail."""
    if int(arch.digest, 16) % 10 == 0:
        return Evaluation(arch, {}, error="ValueError: diverged")
    cost = sum(len(str(value)) + sum(map(ord, str(value))) % 13 for value in arch.values())
    return Evaluation(arch, {"error": 1 / (1 + cost) + int(arch.digest, 16) % 7 / 100, "cost": float(cost)})


class SearcherContract:
    @pytest.fixture
    def make(self) -> Callable[..., Searcher]:
        """Makes the searcher, with settings that leave its first phase after about 16 evaluations."""
        raise AssertionError("a subclass gives this fixture")

    @staticmethod
    def live(searcher: Searcher, batches: int, n: int = 8, seed: int = 0) -> list[Evaluation]:
        told: list[Evaluation] = []
        for _ in range(batches):
            archs = searcher.ask(n, np.random.default_rng([seed, len(told)]))
            evaluations = [evaluate(arch) for arch in archs]
            searcher.tell(evaluations)
            told.extend(evaluations)
        return told

    @pytest.mark.parametrize("space", [Blocks(), Blocks(depth=2).where(width=(8, 16))])
    def test_asks_for_new_networks_of_the_space(self, make: Callable[..., Searcher], space: Space) -> None:
        archs = [e.arch for e in self.live(make(space, OBJECTIVES), batches=5)]
        assert len(archs) == 40
        assert len({arch.digest for arch in archs}) == 40
        assert all(arch in space for arch in archs)

    def test_tells_where_every_network_comes_from(self, make: Callable[..., Searcher]) -> None:
        searcher, told = make(Blocks(), OBJECTIVES), set[str]()
        for number in range(5):
            archs = searcher.ask(8, np.random.default_rng(number))
            assert set(searcher.origins) == {arch.digest for arch in archs}
            for digest, origin in searcher.origins.items():
                assert origin.how and set(origin.parents) <= told and digest not in origin.parents
            told |= {arch.digest for arch in archs}
            searcher.tell([evaluate(arch) for arch in archs])

    def test_equal_seeds_ask_equally_and_others_do_not(self, make: Callable[..., Searcher]) -> None:
        first, second, other = (
            [e.arch.digest for e in self.live(make(Blocks(), OBJECTIVES), batches=4, seed=seed)] for seed in (1, 1, 2)
        )
        assert first == second != other

    @pytest.mark.parametrize("batches", [0, 1, 4])
    def test_one_that_is_told_the_history_asks_as_the_one_that_lived_it(
        self, make: Callable[..., Searcher], batches: int
    ) -> None:
        lived, replayed = make(Blocks(), OBJECTIVES), make(Blocks(), OBJECTIVES)
        replayed.tell(self.live(lived, batches))
        assert replayed.ask(8, np.random.default_rng(5)) == lived.ask(8, np.random.default_rng(5))

    def test_asking_changes_nothing(self, make: Callable[..., Searcher]) -> None:
        searcher = make(Blocks(), OBJECTIVES)
        self.live(searcher, batches=3)
        assert searcher.ask(6, np.random.default_rng(3)) == searcher.ask(6, np.random.default_rng(3))

    @pytest.mark.parametrize("n", [4, 16])
    def test_an_exhausted_space_yields_everything_and_then_nothing(self, make: Callable[..., Searcher], n: int) -> None:
        searcher = make(Tiny(), OBJECTIVES)
        told = self.live(searcher, batches=4, n=n)
        assert {e.arch for e in told} == set(Tiny().enumerate())
        assert len(told) == 9
        assert searcher.ask(n, np.random.default_rng(0)) == []

    def test_a_space_of_one_network(self, make: Callable[..., Searcher]) -> None:
        assert len(self.live(make(One(), OBJECTIVES), batches=3, n=2)) == 1

    def test_asks_only_for_what_is_feasible(self, make: Callable[..., Searcher]) -> None:
        def narrow(archs: Sequence[Architecture]) -> np.ndarray:
            return np.array([arch.width == 8 and arch.ratio[0] == 1 for arch in archs], dtype=bool)

        told = self.live(make(Blocks(), OBJECTIVES, feasible=narrow), batches=5)
        assert len(told) == 40
        assert all(e.arch.width == 8 and e.arch.ratio[0] == 1 for e in told)

    def test_asks_for_nothing_where_nothing_is_feasible(self, make: Callable[..., Searcher]) -> None:
        def nothing(archs: Sequence[Architecture]) -> np.ndarray:
            return np.zeros(len(archs), dtype=bool)

        assert make(Blocks(), OBJECTIVES, feasible=nothing).ask(4, np.random.default_rng(0)) == []

    def test_finds_a_needle_of_feasible_networks(self, make: Callable[..., Searcher]) -> None:
        """A region of one in millions around the smallest network, as a tight limit leaves it."""
        wide = Wide()

        def small(archs: Sequence[Architecture]) -> np.ndarray:
            return np.array([sum(arch.ratio) <= 15 for arch in archs], dtype=bool)

        archs = make(wide, OBJECTIVES, feasible=small).ask(8, np.random.default_rng(0))
        assert len(set(archs)) == 8
        assert small(archs).all()

    def test_lives_with_failures_only(self, make: Callable[..., Searcher]) -> None:
        searcher = make(Blocks(), OBJECTIVES)
        for step in range(4):
            archs = searcher.ask(8, np.random.default_rng(step))
            assert len(archs) == 8
            searcher.tell([Evaluation(arch, {}, error="RuntimeError: no") for arch in archs])

    def test_lives_with_infeasible_and_single_objectives(self, make: Callable[..., Searcher]) -> None:
        for objectives, limit in ((("error",), "cost <= 0"), (("cost",), "cost <= 60"), (OBJECTIVES, "error <= 0.05")):
            searcher = make(Blocks(), objectives, (parse(limit),))
            assert len(self.live(searcher, batches=4)) == 32


class Wide(Space):
    ratio = choice(1, 2, 4, 8, per=12)


def settings_are_refused(make: Callable[..., Any], **settings: Any) -> str:
    """The message with which a searcher refuses settings."""
    with pytest.raises(RuntimeError) as caught:
        make(Tiny(), OBJECTIVES, **settings)
    assert not isinstance(caught.value, SpaceError)
    return str(caught.value)
