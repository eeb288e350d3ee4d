"""A trust report as people read it."""

import pytest

from nas.records import Trust
from nas.results.trust import Fact, brief, facts, percent, planned

FULL = Trust(
    "Words.",
    "rough",
    tau=0.614,
    tau_low=-0.05,
    tau_high=0.9,
    rho=0.7,
    rho_low=0.2,
    rho_high=0.95,
    noise=0.0042,
    ceiling=0.85,
    ceiling_low=0.4,
    ceiling_high=0.96,
    k=2,
    top_k=0.5,
    regret=0.012,
    regret_k=0.0,
    gap=-0.004,
    absolute_gap=0.02,
    gaps=({"size": "small", "mean": 0.03, "absolute": 0.03}, {"size": "large", "mean": -0.01, "absolute": 0.012}),
    baselines=({"name": "parameters", "tau": 0.55, "margin": 0.06, "margin_low": -0.2, "margin_high": 0.3},),
    rows=({"again": [0.1]}, {"again": []}, {"again": []}),
    steps=1500,
    share=0.097,
    seconds=33.6,
)


def test_every_figure_has_a_name_and_a_unit() -> None:
    assert [(fact.name, fact.text) for fact in facts(FULL)] == [
        ("Kendall's tau", "0.61 (−0.05 to 0.90)"),
        ("Spearman's rho", "0.70 (0.20 to 0.95)"),
        ("two trainings alone", "tau 0.85 (0.40 to 0.96) with one another; one training is good to ±0.42 %"),
        ("parameters alone", "tau 0.55; margin over it +0.06 (−0.20 to +0.30)"),
        ("regret of the first", "1.2 % worse than the best"),
        ("regret of the first 2", "0 % worse than the best"),
        ("best 2 found", "50 %"),
        ("inherited − alone", "mean −0.4 %, mean distance 2 %"),
        ("of small networks", "mean +3 %, mean distance 3 %"),
        ("of large networks", "mean −1 %, mean distance 1.2 %"),
        ("trained alone", "3 networks, 1 of them twice, 1,500 steps each; 10 % of the supernet's computation, 34 s"),
    ]


def test_a_terminal_shows_few() -> None:
    assert [fact.name for fact in brief(FULL)] == [
        "Kendall's tau",
        "two trainings alone",
        "parameters alone",
        "regret of the first",
        "inherited − alone",
        "trained alone",
    ]


def test_what_is_not_determined_is_left_out() -> None:
    assert facts(Trust("", "unknown", steps=5)) == [Fact("trained alone", "0 networks, 5 steps each, 0 s")]
    one = Trust("", "unknown", noise=0.01, regret=0.0, regret_k=0.0, top_k=1.0, metric="loss")
    assert [(fact.name, fact.text) for fact in facts(one)][:-1] == [
        ("two trainings alone", "one training is good to ±0.01"),
        ("regret of the first", "0 worse than the best"),
    ]


def test_what_is_planned_is_said_and_what_it_costs() -> None:
    told = planned(8, 3, 1400, 0.0988, 0.1)
    assert told == (
        "8 networks alone, 3 of them twice, 1,400 steps each: about 10 % of the supernet's computation, to judge the "
        "ranks and correct the front; 16 correct far better: trust_networks=16, trust=0.2"
    )
    assert planned(16, 5, 1400, 0.2, 0.2).endswith(", to judge the ranks and correct the front")
    few = planned(5, 3, 150, 0.4, 0.1)
    assert "about 40 % of the supernet's computation, more than the requested 10 %, to judge the ranks; 16" in few
    assert few.endswith("; 16 correct far better: trust_networks=16, trust=0.32")


@pytest.mark.parametrize(("share", "text"), [(1.043, "104 %"), (0.0951, "10 %"), (0.0423, "4.2 %"), (0.001, "0.1 %")])
def test_shares_are_per_cent(share: float, text: str) -> None:
    assert percent(share) == text
