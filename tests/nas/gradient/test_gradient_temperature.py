"""Schedules, and the temperature that gives an entropy."""

import math
from itertools import pairwise

import pytest

from nas.searchers.gradient.temperature import SCHEDULES, constant, entropy_at, exponential, linear, temperature_for

LOGITS = [0.3, 0.1, 0.0, -0.2]


@pytest.mark.parametrize("name", [name for name in SCHEDULES if name != "constant"])
@pytest.mark.parametrize(("start", "end"), [(10.0, 0.1), (0.5, 2.0)])
def test_schedules_hit_both_ends_and_never_turn(name: str, start: float, end: float) -> None:
    values = [SCHEDULES[name](start, end, step / 50) for step in range(51)]
    assert values[0] == pytest.approx(start, rel=1e-14) and values[-1] == pytest.approx(end, rel=1e-14)
    steps = [after - before for before, after in pairwise(values)]
    assert all((step > 0) == (end > start) for step in steps)


def test_what_each_schedule_keeps_the_same() -> None:
    def values(schedule: str) -> list[float]:
        return [SCHEDULES[schedule](10.0, 0.1, step / 20) for step in range(21)]

    ratios = [after / before for before, after in pairwise(values("exponential"))]
    assert ratios == pytest.approx([ratios[0]] * 20, rel=1e-12) and ratios[0] < 1
    steps = [after - before for before, after in pairwise(values("linear"))]
    assert steps == pytest.approx([steps[0]] * 20, rel=1e-12)
    assert {constant(3.0, 1.0, step / 20) for step in range(21)} == {3.0}
    assert linear(10, 0.1, 0.5) == SCHEDULES["cosine"](10, 0.1, 0.5) == pytest.approx(5.05)
    assert exponential(10, 0.1, 0.5) == pytest.approx(1.0)


def test_entropy_is_that_of_the_softmax() -> None:
    for temperature in (0.05, 1.0, 30.0):
        weights = [math.exp(score / temperature) for score in LOGITS]
        direct = -sum(w / sum(weights) * math.log(w / sum(weights)) for w in weights)
        assert entropy_at(LOGITS, temperature) == pytest.approx(direct, abs=1e-14)
    assert entropy_at(LOGITS, 1e-6) == 0


@pytest.mark.parametrize("scores", [LOGITS, [5.0, -3.0], [0.001 * index**2 for index in range(40)]])
@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9, 0.999])
def test_the_entropy_asked_for_is_reached(scores: list[float], share: float) -> None:
    wanted = share * math.log(len(scores))
    assert entropy_at(scores, temperature_for(scores, wanted, lowest=1e-9)) == pytest.approx(wanted, abs=1e-12)


def test_what_cannot_be_reached_is_approached() -> None:
    assert temperature_for([1.0, 1.0], 0.1, lowest=0.05) == 0.05  # equal scores have one entropy
    assert temperature_for(LOGITS, 0.0, lowest=0.05) == 0.05
    assert temperature_for([1.0, 1.0, 0.0], 0.5, lowest=0.05) == 0.05  # two at the top keep log 2
    assert entropy_at(LOGITS, temperature_for(LOGITS, 2.0, lowest=0.05)) == pytest.approx(math.log(4), abs=1e-12)
