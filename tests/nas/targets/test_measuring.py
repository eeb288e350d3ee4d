"""What is made of times: how long to go on, outliers and drift; and whether two measurements differ."""

import itertools
from collections.abc import Iterable
from statistics import NormalDist

import numpy as np
import pytest

from nas.targets import LatencyResult, Repeats
from nas.targets.comparing import ratio
from nas.targets.measuring import Times, clocked, timed

QUIET = [0.0100, 0.0101, 0.0102, 0.0103]


class Script:
    """Passes of the given seconds, on a clock that only they move."""

    def __init__(self, seconds: Iterable[float]) -> None:
        self.seconds = iter(seconds)
        self.now = 0.0

    def run(self) -> None:
        self.now += next(self.seconds)

    def clock(self) -> float:
        return self.now


def times(seconds: Iterable[float], **settings: float) -> Times:
    script = Script(seconds)
    return timed(clocked(script.run, script.clock), Repeats(**settings), script.clock)  # type: ignore[arg-type]


def result(median_ms: float, iqr_ms: float = 0.0, repeats: int = 100) -> LatencyResult:
    return LatencyResult(median_ms, iqr_ms, repeats)


def test_quiet_times_need_no_word() -> None:
    found = times(itertools.cycle(QUIET))
    assert found.settled and found.outliers == 0 and found.drift == 0 and found.notes == ()


def test_a_median_that_is_not_known_in_time_says_how_well_it_is() -> None:
    found = times(itertools.cycle([0.1, 1.0]), budget_s=10)
    assert not found.settled and found.uncertainty > 0.3
    assert found.notes[0].startswith(f"median known to {found.uncertainty:.1%} only when time was up, asked were 2.0%")


def test_passes_that_were_interrupted_are_noticed() -> None:
    found = times(itertools.cycle([*QUIET, *QUIET, 5.0]), budget_s=0, min_repeats=90, warmup=0)
    assert found.outliers == pytest.approx(1 / 9)
    assert found.notes == ("11% of the passes took far longer than the others: something else ran",)


@pytest.mark.parametrize(("factor", "word"), [(1.2, "20% slower"), (0.8, "20% faster")])
def test_a_machine_that_changes_meanwhile_is_noticed(factor: float, word: str) -> None:
    first = [0.010, 0.0101] * 20
    found = times([*first, *(factor * t for t in first)], uncertainty=0, warmup=0, budget_s=0, min_repeats=80)
    assert found.drift == pytest.approx(factor - 1, abs=0.01)
    assert f"became {word} while it was timed" in found.notes


@pytest.mark.parametrize("factor", [1.0, 1.03])
def test_noise_and_small_changes_are_no_drift(factor: float) -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(0.01, 0.001, (2, 100))
    found = times([*first, *(factor * second)], uncertainty=0, warmup=0, min_repeats=200, budget_s=0)
    assert found.drift == 0


# --- comparing


def test_the_ratio_of_two_medians_has_the_interval_of_their_noise() -> None:
    """Against the standard error of a median of normal passes: 1.2533 sd / sqrt(n), sd = IQR / 1.349."""
    iqr = 2 * NormalDist().inv_cdf(0.75)  # of passes with standard deviation 1
    found = ratio([(result(100, iqr, 400), result(110, iqr, 400))])
    expected = 1.96 * 1.2533 / 20 * np.hypot(1 / 100, 1 / 110)
    assert found.value == pytest.approx(1.1)
    assert np.log(found.high / found.value) == pytest.approx(expected, rel=1e-3)
    assert np.log(found.value / found.low) == pytest.approx(expected, rel=1e-3)


def test_a_change_must_be_beyond_noise_and_worth_a_word() -> None:
    assert ratio([(result(1.0), result(1.2))]).changed
    assert not ratio([(result(1.0), result(1.04))]).changed, "certain, and too little"
    assert not ratio([(result(1.0, 0.5, 10), result(1.2, 0.5, 10))]).changed, "much, and within the noise"


def test_a_machine_as_it_was_is_seldom_said_to_have_changed() -> None:
    """Ten networks whose latencies vary by 4 % from one time to the next, far more than their quartiles tell."""
    rng, changed = np.random.default_rng(1), {1.0: 0, 1.2: 0}
    for factor in changed:
        for _ in range(300):
            values = rng.lognormal(0, 0.04, (10, 2)) * [1, factor]
            changed[factor] += ratio([(result(a, 0.001), result(b, 0.001)) for a, b in values]).changed
    assert changed[1.0] <= 9 and changed[1.2] >= 295


def test_an_interval_covers_the_ratio_as_often_as_it_says() -> None:
    rng, covered = np.random.default_rng(2), 0
    for _ in range(1000):
        values = rng.lognormal(0, 0.05, (15, 2)) * [1, 1.3]
        found = ratio([(result(a), result(b)) for a, b in values])
        covered += found.low <= 1.3 <= found.high
    assert 880 <= covered <= 990, "the spread is itself estimated from fifteen ratios"


def test_the_words_of_a_change() -> None:
    assert ratio([(result(1.0), result(1.25))]).text == "25% slower (25% to 25%)"
    assert ratio([(result(1.0), result(0.8))]).text == "20% faster (20% to 20%)"
