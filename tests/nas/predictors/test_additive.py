"""The additive table: its laws over random spaces, and what it finds."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nas.errors import NasError
from nas.predictors import Additive
from nas.predictors.models._steps import only_enlarges
from search_spaces import Space, choice
from tests.contracts.predictor import Stages, latency_ms
from tests.search_spaces.strategies import random_spaces


class Slowing(Space):
    """A numeric choice whose larger option takes something away."""

    scale = choice(1, 2)
    extra = choice(8, 16, when={"scale": 1})


class Layers(Space):
    op = choice("none", "skip", "conv", "pool", per=20)


@given(space=random_spaces(), seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_a_larger_option_of_what_only_enlarges_costs_no_less(space: Space, seed: int) -> None:
    rng = np.random.default_rng(seed)
    archs = space.sample_many(12, rng)
    predictor = Additive(space)
    predictor.fit(archs, rng.lognormal(size=12))  # nothing that grows: the law is the model's
    codes = space.codes(archs)
    larger = [index for index in range(len(space.slots)) if only_enlarges(index, space.slots)]
    pairs = [
        (row, grown)
        for row, arch in enumerate(archs)
        for grown in space.codes(space.neighbours(arch))
        if (changed := np.flatnonzero((grown != codes[row]) & (codes[row] >= 0))).size == 1
        and changed[0] in larger
        and grown[changed[0]] > codes[row, changed[0]]
    ]
    assume(pairs)
    before, _ = predictor.predict(codes[[row for row, _ in pairs]])
    after, _ = predictor.predict(np.array([grown for _, grown in pairs], dtype=np.int16))
    assert (after >= before * (1 - 1e-9)).all()


@given(space=random_spaces(), seed=st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_its_prediction_is_a_sum_over_the_slots(space: Space, seed: int) -> None:
    """Under the logarithm or not, and finite with a positive spread."""
    rng = np.random.default_rng(seed)
    archs = space.sample_many(10, rng)
    predictor = Additive(space)
    predictor.fit(archs, rng.normal(size=10))  # not all positive: no logarithm
    mean, std = predictor.predict(archs)
    assert np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()
    used = np.hstack([space.codes(archs) == code for code in range(-1, 12)] + [np.ones((10, 1))]).astype(float)
    weights, *_ = np.linalg.lstsq(used, mean, rcond=None)
    np.testing.assert_allclose(used @ weights, mean, atol=1e-8)


def test_a_choice_that_takes_something_away_is_free() -> None:
    space = Slowing()
    assert not only_enlarges(0, space.slots)
    archs = [space.architecture(text) for text in ({"scale": 1, "extra": 16}, {"scale": 1, "extra": 8}, {"scale": 2})]
    predictor = Additive(space)
    predictor.fit(archs * 10, [9.0, 5.0, 1.0] * 10)
    np.testing.assert_allclose(predictor.predict(archs)[0], [9, 5, 1], rtol=0.05)


def test_without_the_law_it_follows_what_falls() -> None:
    archs = Stages().sample_many(60, np.random.default_rng(0), distinct=True)
    falling = np.array([1e3 / latency_ms(arch) for arch in archs])
    misses = {}
    for monotone in (True, False):
        predictor = Additive(Stages(), monotone=monotone)
        predictor.fit(archs, falling)
        misses[monotone] = np.median(np.abs(predictor.predict(archs)[0] / falling - 1))
    assert misses[False] < 0.5 * misses[True]


def test_positions_tell_of_one_another() -> None:
    """Eighty unknowns from twenty measurements: what an operation costs is nearly the same at every position."""
    rng = np.random.default_rng(0)
    costs = np.array([0.0, 1.0, 5.0, 2.0]) * rng.uniform(0.8, 1.2, size=(20, 1))
    codes = Layers().sample_codes(320, rng)
    truth = 10 + costs[np.arange(20), codes].sum(axis=1)
    predictor = Additive(Layers())
    predictor.fit(codes[:20], truth[:20])
    assert np.corrcoef(predictor.predict(codes[20:])[0], truth[20:])[0, 1] > 0.9


def test_codes_of_no_network_are_an_error() -> None:
    predictor = Additive(Stages())
    archs = Stages().sample_many(5, np.random.default_rng(0))
    predictor.fit(archs, [1.0, 2.0, 3.0, 4.0, 5.0])
    codes = Stages().codes(archs)
    with pytest.raises(NasError, match="codes have shape"):
        predictor.predict(codes[:, :3])
    codes[0, 0] = 9
    with pytest.raises(NasError, match="outside the options"):
        predictor.predict(codes)
