"""Every strategy: the same steps for the same seed, wherever it starts, and networks of its space only."""

from collections import Counter
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy import ToySpace

from supernets.strategies import STRATEGIES, Pass, StrategyError, sandwich, strategy, uniform

NAMES = sorted(STRATEGIES)


@given(name=st.sampled_from(NAMES), seed=st.integers(0, 2**40), start=st.integers(0, 30))
def test_starting_late_gives_the_same_steps(name: str, seed: int, start: int) -> None:
    steps = list(islice(strategy(name)(ToySpace(), seed, 0), start + 5))
    assert list(islice(strategy(name)(ToySpace(), seed, start), 5)) == steps[start:]


@pytest.mark.parametrize("name", NAMES)
def test_seeds_differ_and_steps_differ(name: str) -> None:
    one, other = (list(islice(strategy(name)(ToySpace(), seed, 0), 20)) for seed in (0, 1))
    assert one != other and len(set(one)) > 1


@pytest.mark.parametrize("name", NAMES)
def test_first_passes_learn_the_task_and_all_are_of_the_space(name: str) -> None:
    narrow = ToySpace().where(width=(8, 12))
    for step in islice(strategy(name)(narrow, 0, 0), 20):
        assert not step[0].distil
        assert all(one.arch in narrow and one.arch.width < 16 and one.weight > 0 for one in step)


def test_uniform_takes_every_network_equally_often() -> None:
    counts = Counter(step[0].arch for step in islice(uniform(ToySpace(), 3), 3000))
    assert len(counts) == 6 and all(400 < count < 600 for count in counts.values())


def test_sandwich_is_largest_random_smallest() -> None:
    space = ToySpace()
    for step in islice(sandwich(space, 0, num_random=3), 10):
        assert step[0] == Pass(space.largest()) and step[-1] == Pass(space.smallest(), distil=True)
        assert len(step) == 5 and all(one.distil for one in step[1:])


def test_an_unknown_strategy_lists_the_known_ones() -> None:
    with pytest.raises(StrategyError, match=r"'fair'.*uniform, sandwich"):
        strategy("fair")
