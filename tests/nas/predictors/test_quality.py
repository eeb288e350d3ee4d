"""The trust line: what it says of predictors that are good, useless or fitted to too little."""

from dataclasses import replace

import numpy as np
import pytest

from nas.errors import NasError
from nas.predictors import Ridge
from nas.predictors.quality import LIMITS, Quality, Wanted, judged
from search_spaces import NASBench201Space

SPACE = NASBench201Space()
GOOD = Quality(0.97, 0.031, 0.92, 0.9, 40, 120)


def make() -> Ridge:
    return Ridge(SPACE)


def measured(num: int, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    codes = SPACE.sample_codes(num, rng)
    values = 3 + np.random.default_rng(9).uniform(0, 2, (6, 5))[np.arange(6), codes].sum(axis=1)
    return codes, values * np.exp(noise * rng.standard_normal(num))


def test_the_line_says_what_was_held_back() -> None:
    assert GOOD.verdict == "ranks 0.97, misses by 3.1 %, 92 % of bounds kept (90 % asked), from 40 measurements"
    assert replace(GOOD, coverage=None).verdict.endswith("3.1 %, too few for bounds (90 % asked), from 40 measurements")
    assert replace(GOOD, mape=None).verdict.startswith("ranks 0.97, 92 % of bounds")


def test_what_follows_from_the_options_serves_limits() -> None:
    quality = judged(make, *measured(80, noise=0.02))
    assert quality.spearman > 0.95 and quality.mape is not None and quality.mape < 0.04
    assert quality.coverage is not None and 0.8 < quality.coverage < 0.99
    assert quality.serves_limits and quality.refusal("pi5") == ""
    assert (quality.measurements, quality.held_back) == (80, 160)


def test_noise_does_not_serve_limits_and_the_remedy_is_more_measurements() -> None:
    rng = np.random.default_rng(0)
    quality = judged(make, SPACE.sample_codes(60, rng), rng.uniform(1, 9, 60))
    assert abs(quality.spearman) < 0.4 and not quality.serves_limits
    assert quality.refusal("pi5").startswith("pi5: its predictor may not decide on a limit: it ranks ")
    assert "more architectures on pi5, those it is least sure of near the limit first" in quality.refusal("pi5")


def test_held_back_measurements_are_not_seen() -> None:
    """Values that a predictor could only know by heart."""
    codes = np.unique(SPACE.sample_codes(100, np.random.default_rng(1)), axis=0)
    values = np.random.default_rng(2).uniform(1, 2, len(codes))
    assert judged(make, codes, values).spearman < 0.3


def test_more_of_the_same_is_not_asked_for_where_it_cannot_help() -> None:
    poor = replace(GOOD, spearman=0.5, measurements=400)
    assert "more will hardly help: measure the same network on pi5 several times" in poor.refusal("pi5")
    assert "\n" not in poor.refusal("pi5")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"spearman": 0.7}, "it ranks 0.70 (0.8 wanted)"),
        ({"spearman": float("nan")}, "it ranks nan (0.8 wanted)"),
        ({"mape": 0.3}, "it misses by 30 % (20 % wanted)"),
        ({"coverage": 0.6}, "60 % of its bounds are kept (90 % asked)"),
        ({"coverage": None, "measurements": 8}, "8 measurements are too few for bounds of 90 %"),
    ],
)
def test_each_rule_refuses_on_its_own(change: dict[str, float | None], word: str) -> None:
    quality = replace(GOOD, **change)  # type: ignore[arg-type]
    assert not quality.serves_limits
    assert word in quality.refusal("pi5")


def test_chance_is_no_reason_to_refuse() -> None:
    assert replace(GOOD, coverage=0.85).serves_limits  # of 40, one standard error below
    assert not replace(GOOD, coverage=0.85, measurements=1000).serves_limits


def test_measurements_are_asked_for_in_tens_and_within_reason() -> None:
    assert "measure 10 more" in replace(GOOD, coverage=0.3, measurements=5).refusal("pi5")
    assert "measure 130 more" in replace(GOOD, mape=2.0).refusal("pi5")  # thrice what there is, and ten


def test_few_measurements_are_judged_and_too_few_for_bounds_said() -> None:
    ten, six = judged(make, *measured(10, 0.02)), judged(make, *measured(6, 0.02))
    assert ten.coverage is not None and ten.held_back == 10
    assert six.coverage is None and six.held_back > 6 and not six.serves_limits
    with pytest.raises(NasError, match="3 measurements are too few to hold any out; measure at least 4"):
        judged(make, *measured(3, 0.02))


def test_values_that_are_not_positive_have_no_relative_error() -> None:
    codes, values = measured(40, 0.02)
    assert judged(make, codes, values - 11).mape is None


def test_it_is_always_the_same_and_architectures_are_as_good_as_codes() -> None:
    codes, values = measured(30, 0.1)
    assert judged(make, codes, values) == judged(make, codes, values)
    assert judged(make, SPACE.decode(codes), values).verdict == judged(make, codes, values).verdict


def test_what_is_wanted_can_be_stricter() -> None:
    assert GOOD.shortfalls(LIMITS) == []
    assert GOOD.shortfalls(Wanted(spearman=0.98, mape=0.01)) == [
        "it ranks 0.97 (0.98 wanted)",
        "it misses by 3 % (1 % wanted)",
    ]
