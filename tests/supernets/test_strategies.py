"""Every strategy by the contract, and what the simple ones do in particular."""

from collections import Counter

import pytest
from toy import ToySpace

from supernets.spelling import SpellingError, signature
from supernets.strategies import STRATEGIES, Distil, Pass, Sandwich, Strategy, StrategyError, Uniform, strategy
from tests.contracts.strategy import StrategyContract, course, steps


@pytest.mark.parametrize("name", list(STRATEGIES))
class TestEveryStrategy(StrategyContract):
    @pytest.fixture
    def method(self, name: str) -> Strategy:
        return strategy(name)


def test_uniform_takes_every_network_equally_often() -> None:
    counts = Counter(step.passes[0].arch for step in steps(Uniform().plan(course(seed=3)), 3000))
    assert len(counts) == 6 and all(400 < count < 600 for count in counts.values())


def test_sandwich_is_largest_random_smallest() -> None:
    space = ToySpace()
    for step in steps(Sandwich(num_random=3).plan(course())):
        assert step.passes[0] == Pass(space.largest())
        assert step.passes[-1] == Pass(space.smallest(), task=0.0, distil=Distil())
        assert len(step.passes) == 5 and all(one.distil is not None for one in step.passes[1:])


def test_an_unknown_strategy_lists_the_known_ones() -> None:
    with pytest.raises(SpellingError, match=r"no strategy is called 'fairest': choose one of uniform.*sandwich"):
        strategy("fairest")


def test_an_unknown_setting_lists_the_known_ones() -> None:
    with pytest.raises(SpellingError, match=r"'sandwich' has no setting 'random=3': its settings are num_random="):
        strategy("sandwich(random=3)")
    with pytest.raises(SpellingError, match=r"num_random = 'two': it must be a whole number"):
        strategy("sandwich(num_random=two)")
    with pytest.raises(StrategyError, match=r"over = 'all'"):
        strategy("uniform(over=all)")


def test_signatures_show_settings_and_defaults() -> None:
    assert signature(Uniform) == "uniform(over=networks)"
