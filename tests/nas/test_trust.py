"""The verdict on a supernet's ranks."""

import math

import pytest

from nas.records import Trust
from nas.trust import verdict


@pytest.mark.parametrize(
    ("numbers", "is_reliable", "headline"),
    [
        ((0.76, 0.48, 0.94), True, "Ranks agree closely"),
        ((0.55, 0.2, 0.8), True, "Ranks agree broadly"),
        ((0.35, 0.1, 0.6), True, "Ranks agree loosely"),
        ((0.2, 0.05, 0.4), False, "Ranks are not reliable"),
        ((0.4, -0.1, 0.7), False, "Ranks are not reliable"),
        ((-0.5, -0.8, -0.2), False, "Ranks are not reliable"),
        ((math.nan, math.nan, math.nan), False, "Ranks cannot be judged"),
    ],
)
def test_the_verdict_on_ranks(numbers: tuple[float, float, float], is_reliable: bool, headline: str) -> None:
    judged = verdict(Trust(*numbers, top_k=3, regret=0.01, num_architectures=12))
    assert (judged.is_reliable, judged.headline) == (is_reliable, headline)
    assert "12 networks" in judged.reason
