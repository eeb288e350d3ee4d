"""What is made of times in rounds: how long to go on, outliers, drift; and whether a machine or a network differs."""

import itertools
from collections.abc import Iterable, Sequence
from statistics import NormalDist

import numpy as np
import pytest

from nas.targets import LatencyResult, Repeats
from nas.targets.comparing import compared, ratio
from nas.targets.measuring import Rounds, clocked, in_rounds

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


def rounds(seconds: Iterable[float], **settings: float) -> Rounds:
    """Of one network."""
    script = Script(seconds)
    return in_rounds([clocked(script.run, script.clock)], Repeats(**settings), script.clock)  # type: ignore[arg-type]


class Machine:
    """Networks that take so many seconds each at pace 1, on a machine whose pace is drawn anew in every round."""

    def __init__(self, seconds: Sequence[float], noise: float = 0.0, pace: float = 0.0, seed: int = 0) -> None:
        self.rng, self.true, self.noise, self.sway = np.random.default_rng(seed), seconds, noise, pace
        self.now, self.asked, self.order = 0.0, 0, []  # type: tuple[float, int, list[int]]
        self.pace = 1.0

    def passes(self) -> list[object]:
        return [
            clocked(lambda network=network: self.run(network), lambda: self.now) for network in range(len(self.true))
        ]

    def run(self, network: int) -> None:
        if self.asked % len(self.true) == 0:
            self.pace = float(self.rng.lognormal(0, self.sway))
        self.asked += 1
        self.order.append(network)
        self.now += self.true[network] * self.pace * float(self.rng.lognormal(0, self.noise))

    def measure(self, **settings: float) -> Rounds:
        return in_rounds(self.passes(), Repeats(**settings), lambda: self.now)  # type: ignore[arg-type]


def result(median_ms: float, iqr_ms: float = 0.0, repeats: int = 100) -> LatencyResult:
    return LatencyResult(median_ms, iqr_ms, repeats)


def test_quiet_times_need_no_word() -> None:
    found = rounds(itertools.cycle(QUIET))
    assert found.settled.all() and found.outliers == [0] and found.drift == 0 and found.notes(0) == ()


def test_what_all_networks_feel_alike_divides_out() -> None:
    """A machine that is half or twice as fast from one round to the next, and networks that are exact otherwise."""
    machine = Machine([0.001, 0.002, 0.004, 0.010], pace=0.5)
    found = machine.measure(budget_s=100)
    assert found.settled.all() and len(found.seconds) == 10
    assert found.median / found.median[0] == pytest.approx([1, 2, 4, 10])
    assert found.iqr == pytest.approx(0, abs=1e-12)


def test_every_round_has_each_network_once_in_another_order() -> None:
    machine = Machine([0.001] * 6)
    found = machine.measure(warmup=0, budget_s=0, min_repeats=20)
    orders = [tuple(machine.order[start : start + 6]) for start in range(0, len(machine.order), 6)]
    assert found.seconds.shape == (20, 6) and all(sorted(order) == list(range(6)) for order in orders)
    assert len(set(orders)) > 15


@pytest.mark.parametrize("seed", range(5))
def test_ratios_are_known_to_what_was_asked(seed: int) -> None:
    true = np.geomspace(0.001, 0.004, 12)
    found = Machine(list(true), noise=0.05, pace=0.3, seed=seed).measure(budget_s=1000, uncertainty=0.01)
    assert found.settled.all() and 30 < len(found.seconds) < 1000
    ratios = found.median / true / np.median(found.median / true)
    assert np.abs(ratios - 1).max() < 0.025 and np.sqrt(np.mean((ratios - 1) ** 2)) < 0.01


def test_two_networks_cannot_tell_whether_one_of_them_or_the_machine_is_slow() -> None:
    assert Machine([0.001, 0.002], pace=0.5).measure(budget_s=0).pace.tolist() == [1.0] * 10


def test_a_ratio_that_is_not_known_in_time_says_how_well_it_is() -> None:
    found = rounds(itertools.cycle([0.1, 1.0]), budget_s=10)
    known = found.uncertainty[0]
    assert not found.settled[0] and known > 0.3
    assert found.notes(0)[0] == f"median known to {known:.1%} when time was up, 1.0% was requested"
    together = Machine([0.1] * 4, noise=0.5).measure(budget_s=0)
    assert together.notes(1)[0].startswith("ratio to the others known to ")


def test_passes_that_were_interrupted_are_noticed() -> None:
    found = rounds(itertools.cycle([*QUIET, *QUIET, 5.0]), budget_s=0, min_repeats=90, warmup=0)
    assert found.outliers[0] == pytest.approx(1 / 9)
    assert found.notes(0) == ("11% of the passes took far longer than the others: something else ran",)


@pytest.mark.parametrize("factor", [1.2, 0.8])
def test_a_machine_that_changes_meanwhile_is_noticed(factor: float) -> None:
    first = [0.010, 0.0101] * 20
    found = rounds([*first, *(factor * t for t in first)], uncertainty=0, warmup=0, budget_s=0, min_repeats=80)
    assert found.drift == pytest.approx(factor - 1, abs=0.01)


@pytest.mark.parametrize("factor", [1.0, 1.03])
def test_noise_and_small_changes_are_no_drift(factor: float) -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(0.01, 0.001, (2, 100))
    found = rounds([*first, *(factor * second)], uncertainty=0, warmup=0, min_repeats=200, budget_s=0)
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


def test_one_network_that_changed_is_told_from_a_machine_that_did() -> None:
    slower = compared([(result(t, 0.01, 400), result(1.3 * t, 0.01, 400)) for t in (1.0, 2.0, 3.0, 4.0)])
    assert slower.machine.changed and not any(network.changed for network in slower.networks)
    pairs = [(result(t, 0.01, 400), result(t * (1.3 if t == 2 else 1.0), 0.01, 400)) for t in (1.0, 2.0, 3.0, 4.0, 5.0)]
    one = compared(pairs)
    assert not one.machine.changed
    assert [network.changed for network in one.networks] == [False, True, False, False, False]
    assert one.networks[1].value == pytest.approx(1.3)


def test_networks_that_are_as_they_were_are_seldom_blamed() -> None:
    rng, blamed = np.random.default_rng(3), 0
    for _ in range(200):
        values = rng.lognormal(0, 0.03, (10, 2)) * [1, 1.2]
        found = compared([(result(a, 0.001), result(b, 0.001)) for a, b in values])
        blamed += any(network.changed for network in found.networks)
    assert blamed <= 40
