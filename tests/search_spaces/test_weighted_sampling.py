"""Sampling by weights of the options: what it draws, how likely, and that equal weights change nothing."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import Space, SpaceError, choice, constraint
from tests.search_spaces.strategies import random_spaces


class Net(Space):
    width = choice(8, 16, 24)
    depth = choice(1, 2)
    heads = choice(1, 2, 3, per="depth")

    @constraint(each="depth")
    def divides(width, heads):
        return width % (8 * heads) == 0


class Wide(Space):
    """The constraint is too wide to be solved beforehand."""

    kernel = choice(1, 3, 5, 7, per=12)

    @constraint
    def some_large(kernel):
        return max(kernel) > 3


def random_weights(space: Space, seed: int) -> dict[str, list[float]]:
    rng = np.random.default_rng(seed)
    return {slot.path: (rng.random(len(slot.options)) + 0.01).tolist() for slot in space.slots}


@given(random_spaces(), st.integers(0, 2**32 - 1), st.floats(1e-6, 1e6))
def test_equal_weights_draw_what_choices_draws(space: Space, seed: int, weight: float) -> None:
    weights = {slot.path: [weight] * len(slot.options) for slot in space.slots}
    one, other, unnamed = (np.random.default_rng(seed) for _ in range(3))
    for _ in range(5):
        arch = space.sample(one, uniform="choices")
        assert space.sample(other, weights=weights) == space.sample(unnamed, weights={}) == arch
    assert one.random() == other.random() == unnamed.random()


def test_equal_weights_draw_what_choices_draws_under_wide_constraints() -> None:
    one, other = np.random.default_rng(3), np.random.default_rng(3)
    for _ in range(20):
        assert Wide().sample(one, weights={"kernel": (2, 2, 2, 2)}) == Wide().sample(other, uniform="choices")


@given(random_spaces(most=300), st.integers(0, 1000))
def test_samples_are_in_the_space_and_probabilities_sum_to_one(space: Space, seed: int) -> None:
    weights = random_weights(space, seed)
    rng = np.random.default_rng(seed)
    assert all(space.sample(rng, weights=weights) in space for _ in range(5))
    for chosen in (weights, None):
        chances = [space.probability(arch, weights=chosen) for arch in space.enumerate()]
        assert sum(chances) == pytest.approx(1) and min(chances) > 0


def test_networks_come_as_often_as_their_probability_says() -> None:
    space, rng = Net(), np.random.default_rng(0)
    weights = {"width": (1, 2, 1), "depth": (3, 1), "heads": (1, 4, 1), "heads.1": (1, 1, 1)}
    n = 6000
    counts = Counter(space.sample(rng, weights=weights) for _ in range(n))
    for arch in space.enumerate():
        p = space.probability(arch, weights=weights)
        assert abs(counts[arch] - n * p) < 5 * np.sqrt(n * p * (1 - p)), arch


def test_only_feasible_options_share_the_probability() -> None:
    arch = Net().architecture({"width": 16, "depth": 1, "heads": [2]})
    assert Net().probability(arch) == pytest.approx(1 / 3 * 1 / 2 * 1 / 2)  # heads 3 does not divide
    weights = {"width": (1, 2, 1), "heads.0": (1, 3, 100)}
    assert Net().probability(arch, weights=weights) == pytest.approx(2 / 4 * 1 / 2 * 3 / 4)
    narrow = Net().where(width=(16,))
    assert narrow.probability(arch, weights=weights) == pytest.approx(1 / 2 * 3 / 4)


@pytest.mark.parametrize("weights", [(1, 2), (1, 2, 0), (1, -2, 3), (1, 2, float("inf")), (1, 2, float("nan"))])
def test_weights_that_cannot_be_are_refused(weights: tuple[float, ...]) -> None:
    with pytest.raises(SpaceError, match=r"Net\.width: weights .*give 3 numbers above 0, for 8, 16, 24"):
        Net().sample(np.random.default_rng(0), weights={"width": weights})


def test_weights_of_what_is_no_choice_are_refused() -> None:
    with pytest.raises(SpaceError, match=r"'with': Net has no choice 'with'"):
        Net().sample(np.random.default_rng(0), weights={"with": (1, 2)})


def test_a_weight_beyond_all_measure_is_no_dead_end() -> None:
    narrow = Net().where(width=(8,))
    assert narrow.sample(np.random.default_rng(0), weights={"width": (5e-324, 1e300, 1)}).width == 8


def test_many_are_drawn_as_one_is() -> None:
    weights = {"width": (0.2, 0.5, 0.3), "heads": (1, 1, 8)}
    drawn = Net().sample_many(4000, np.random.default_rng(0), weights=weights)
    for arch, times in Counter(drawn).items():
        assert times / 4000 == pytest.approx(Net().probability(arch, weights=weights), abs=0.03)
    assert Net().sample(np.random.default_rng(1), weights=weights) in drawn


def test_distinct_ones_are_drawn_by_weight() -> None:
    weights = {"kernel": (1e-9, 1e-9, 1, 1)}
    drawn = Wide().sample_many(50, np.random.default_rng(0), weights=weights, distinct=True)
    assert len(set(drawn)) == 50
    assert {value for arch in drawn for value in arch.kernel} == {5, 7}
