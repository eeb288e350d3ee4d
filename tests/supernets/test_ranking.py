"""The trust report says what it knows, and when it knows nothing."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau, spearmanr
from toy import ToySpace

from supernets.ranking import Row, report

ARCHS = list(ToySpace().enumerate())
ranks = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12)


def rows(pairs: Any, **more: Any) -> list[Row]:
    """Rows of (inherited, stand-alone) pairs; `more` has columns: again, params, macs."""
    columns = [dict(zip(more, values, strict=True)) for values in zip(*more.values(), strict=True)]
    return [
        Row(ARCHS[index % len(ARCHS)], float(a), float(b), **(columns[index] if columns else {}))
        for index, (a, b) in enumerate(pairs)
    ]


# --- agreement ---


def test_the_same_order_is_trusted() -> None:
    result = report(rows((i, 10 + i) for i in range(12)))
    assert (result.tau, result.tau_low, result.tau_high) == (1, 1, 1)
    assert (result.rho, result.rho_low, result.rho_high) == (1, 1, 1)
    assert (result.top_k, result.k, result.regret, result.regret_k) == (1, 3, 0, 0)
    assert (result.gap, result.absolute_gap) == (-10, 10)
    assert result.level == "reliable" and result.banner == ""
    told = "The inherited ranks can be trusted (tau 1.00, 95% interval 1.00 to 1.00, 12 networks trained alone)."
    assert result.verdict == told


def test_the_opposite_order_is_not() -> None:
    result = report(rows((i, -i) for i in range(12)))
    assert (result.tau, result.rho, result.top_k, result.regret, result.regret_k) == (-1, -1, 0, 11, 9)
    assert result.level == "unreliable" and "not reliable" in result.verdict


def test_noise_is_not_trusted() -> None:
    result = report(rows(np.random.default_rng(1).normal(size=(12, 2))))
    assert result.tau_low is not None and result.tau_high is not None and result.tau is not None
    assert result.tau_low < 0 < result.tau_high and result.tau_low <= result.tau <= result.tau_high
    assert result.level == "unreliable" and "by chance" in result.verdict


def test_a_perfect_order_of_three_may_be_chance() -> None:
    result = report(rows([(0, 0), (1, 1), (2, 2)]))
    assert result.tau == 1 and result.level == "unknown" and "by chance" in result.verdict


@pytest.mark.parametrize(
    ("pairs", "reason"),
    [
        ([], "0 networks"),
        ([(1, 2), (2, 1)], "2 networks"),
        ([(1, 1), (1, 2), (1, 3)], "all inherited metrics are equal"),
        ([(1, 1), (2, 1), (3, 1)], "all stand-alone metrics are equal"),
        ([(1, 1), (2, 2), (math.nan, 1)], "2 networks"),
    ],
)
def test_what_cannot_be_determined_is_said(pairs: Any, reason: str) -> None:
    result = report(rows(pairs))
    assert result.tau is None and result.tau_low is None and result.rho is None and result.rho_high is None
    assert result.level == "unknown" and result.verdict.startswith("Not determined") and reason in result.verdict
    assert result.banner == ""


def test_metrics_that_are_not_finite_are_left_out_and_counted() -> None:
    pairs = [(i, i) for i in range(8)]
    result = report(rows([*pairs, (3.0, math.inf), (math.nan, 0.0)]))
    assert result.tau == 1 and result.regret == 0 and len(result.rows) == 10
    assert "2 of 10 architectures have no finite metric" in result.verdict


# --- what choosing costs ---


def test_regret_of_one_and_of_a_quarter() -> None:
    """By inherited metric 8 networks come in this order; stand-alone, the fourth is best and the second next."""
    standalone = [0.5, 0.2, 0.6, 0.1, 0.7, 0.8, 0.9, 1.0]
    result = report(rows(enumerate(standalone)))
    assert (result.k, result.top_k) == (2, 0.5), "of the two best alone, the second and the fourth, one is found"
    assert result.regret == pytest.approx(0.5 - 0.1)
    assert result.regret_k == pytest.approx(0.2 - 0.1)


def test_ties_are_broken_evenly() -> None:
    result = report(rows([(0, 1), (0, 3), (1, 2), (1, 4)]))
    assert result.k == 1 and result.top_k == 0.5 and result.regret == pytest.approx(1.0)


def test_ties_at_the_boundary_of_the_best_are_broken_evenly() -> None:
    """k = 2: the first is in for sure; of three that tie, each is the second in one of three ways."""
    inherited = [0, 1, 1, 1, 2, 2, 2, 2]
    standalone = [5, 2, 4, 9, 1, 6, 7, 8]
    result = report(rows(zip(inherited, standalone, strict=True)))
    assert result.regret_k == pytest.approx((2 + 4 + 5) / 3 - 1)


@settings(max_examples=30)
@given(ranks.filter(bool), st.integers(0, 5))
def test_the_regret_is_the_mean_over_all_ways_to_break_ties(pairs: list[tuple[int, int]], seed: int) -> None:
    result, rng = report(rows(pairs), num_resamples=1), np.random.default_rng(seed)
    inherited, standalone = np.array(pairs, dtype=float).T
    regrets = []
    for _ in range(200):
        order = np.lexsort((rng.random(len(pairs)), inherited))
        regrets.append(standalone[order[: result.k]].min() - standalone.min())
    assert result.regret_k == pytest.approx(np.mean(regrets), abs=6 * np.std(regrets) / 14 + 1e-9)


# --- gaps ---


def test_gaps_by_size_are_of_thirds_by_parameters() -> None:
    """Seven networks, in thirds of 3, 2 and 2: inherited metrics lie above for small ones and below for large ones."""
    params = [40, 10, 70, 20, 60, 30, 50]
    gaps = {10: 3, 20: 2, 30: 1, 40: 1, 50: -1, 60: -2, 70: -4}
    result = report(rows([(gaps[p] + p, p) for p in params], params=params))
    assert [(g.size, g.networks, g.params_low, g.params_high, g.mean, g.absolute) for g in result.gaps] == [
        ("small", 3, 10, 30, 2, 2),
        ("middle", 2, 40, 50, 0, 1),
        ("large", 2, 60, 70, -3, 3),
    ]
    assert (result.gap, result.absolute_gap) == (0, 2)


def test_without_sizes_or_with_two_networks_there_are_no_thirds() -> None:
    assert report(rows([(0, 0), (1, 1), (2, 2)])).gaps == ()
    assert report(rows([(0, 0), (1, 1)], params=[1, 2])).gaps == ()


# --- noise ---


def test_repetitions_tell_the_noise_and_the_ceiling() -> None:
    """Two of the networks were trained again: squares within 2 * 0.5**2 and 2 * 1**2, two degrees of freedom."""
    again = [(1.0,), (), (4.0,), *[()] * 9]
    result = report(rows([(i, i) for i in range(12)], again=again))
    assert result.noise == pytest.approx(math.sqrt((0.5 + 2) / 2))
    assert result.ceiling is not None and result.ceiling_low is not None and result.ceiling_high is not None
    assert result.ceiling_low < result.ceiling < result.ceiling_high <= 1 and 0.7 < result.ceiling < 0.95
    assert "Two stand-alone trainings would agree to about 0.79" in result.verdict


def test_a_repetition_that_came_to_nothing_tells_no_noise() -> None:
    result = report(rows([(i, i) for i in range(6)], again=[(math.inf,), *[()] * 5]))
    assert result.noise is None and result.ceiling is None and result.tau == 1


def noisy(noise: float, sharing: float, n: int = 40) -> list[Row]:
    """Networks of quality 0 ... 1, trained alone twice, and inheriting what sharing weights leaves of it."""
    rng, quality = np.random.default_rng(1), np.linspace(0, 1, n)
    one, two = (quality + rng.normal(scale=noise, size=n) for _ in range(2))
    inherited = quality + rng.normal(scale=sharing, size=n)
    return rows(zip(inherited, one, strict=True), again=[(float(value),) for value in two])


def test_a_tau_reads_differently_below_a_low_and_a_high_ceiling() -> None:
    noise_limits, sharing_limits = report(noisy(0.25, 0.05)), report(noisy(0.02, 0.25))
    assert noise_limits.tau == pytest.approx(0.6, abs=0.1) and sharing_limits.tau == pytest.approx(0.6, abs=0.1)
    assert noise_limits.ceiling == pytest.approx(0.5, abs=0.1) and "little more can be had" in noise_limits.verdict
    assert sharing_limits.ceiling == pytest.approx(0.95, abs=0.05)
    assert "lost by sharing weights" in sharing_limits.verdict


def test_networks_that_hardly_differ_are_lost_in_noise() -> None:
    result = report(noisy(3.0, 0.05))
    assert result.ceiling is not None and result.ceiling < 0.3 and result.level == "unreliable"
    assert "lost in noise" in result.verdict and "little more than two trainings of one of them" in result.verdict


def test_where_sizes_order_networks_noise_does_not_hide_their_order() -> None:
    """The repetitions say that nothing can be ranked, but parameters do rank; so the supernet is to blame."""
    inherited = np.random.default_rng(2).permutation(12)
    again = [(i + 9.0,) for i in range(4)] + [()] * 8
    pairs = list(zip(inherited, range(12), strict=True))
    hidden, seen = report(rows(pairs, again=again)), report(rows(pairs, again=again, params=[-i for i in range(12)]))
    assert hidden.ceiling == seen.ceiling and hidden.ceiling is not None and hidden.ceiling < 0.2
    assert "lost in noise" in hidden.verdict and "lost in noise" not in seen.verdict


# --- ranking by size ---

ORDER = list(range(12))


def test_a_supernet_that_ranks_no_better_than_parameters_has_a_banner() -> None:
    """Stand-alone metrics fall with parameters; inherited ones have every second pair the wrong way round."""
    inherited = [i + 1 if i % 2 == 0 else i - 1 for i in ORDER]
    result = report(rows(zip(inherited, ORDER, strict=True), params=[-i for i in ORDER], macs=ORDER))
    by_parameters, by_macs = result.baselines
    assert (by_parameters.name, by_parameters.tau) == ("parameters", 1) and by_parameters.margin == pytest.approx(
        -2 / 11
    )
    assert (by_macs.name, by_macs.tau) == ("MACs", -1) and by_macs.margin == pytest.approx(2 - 2 / 11)
    assert by_parameters.margin_high <= 0 < by_macs.margin_low
    assert result.banner.startswith("No better than ranking by parameters: tau 0.82 by inherited metrics, 1.00 by par")
    assert result.level == "rough" and "no better than the order of parameters does" in result.verdict


def test_a_supernet_that_is_better_by_chance_only_has_a_banner() -> None:
    params = [-i for i in ORDER]
    params[0], params[1] = params[1], params[0]
    result = report(rows(zip(ORDER, ORDER, strict=True), params=params))
    assert result.baselines[0].margin == pytest.approx(2 / 66) and result.baselines[0].margin_low == 0
    assert result.banner.startswith("Not shown to be better than ranking by parameters")
    assert "(difference +0.03, 95% interval +0.00 to +" in result.banner


def test_a_supernet_that_is_better_has_none() -> None:
    params = list(np.random.default_rng(0).permutation(12))
    result = report(rows(zip(ORDER, ORDER, strict=True), params=params, macs=[5] * 12))
    assert [baseline.name for baseline in result.baselines] == ["parameters"], "equal MACs rank nothing"
    assert result.baselines[0].margin_low > 0 and result.banner == "" and result.level == "reliable"


def test_the_margin_is_paired() -> None:
    """Ranks that are the very order of parameters differ from it in no resample, however uncertain both taus are."""
    standalone = np.random.default_rng(5).normal(size=12)
    result = report(rows(zip(ORDER, standalone, strict=True), params=[-i for i in ORDER]))
    assert result.tau_low is not None and result.tau_low < 0
    assert (result.baselines[0].margin, result.baselines[0].margin_low, result.baselines[0].margin_high) == (0, 0, 0)


# --- laws ---


@given(ranks)
@pytest.mark.filterwarnings("ignore:An input array is constant")
def test_figures_are_sound(pairs: list[tuple[int, int]]) -> None:
    result = report(rows(pairs), num_resamples=30)
    if result.tau is not None:
        assert result.tau == pytest.approx(kendalltau(*zip(*pairs, strict=True)).statistic)
        assert result.rho == pytest.approx(spearmanr(*zip(*pairs, strict=True)).statistic)
        assert result.tau_low is not None and result.tau_high is not None
        assert -1 <= result.tau_low <= result.tau_high <= 1
    if pairs:
        assert result.regret is not None and result.regret_k is not None and result.top_k is not None
        assert 0 <= result.top_k <= 1 + 1e-9 and result.regret >= 0 and result.regret_k >= 0


@given(ranks, st.randoms())
def test_figures_do_not_depend_on_the_order_of_rows(pairs: list[tuple[int, int]], random: Any) -> None:
    shuffled = random.sample(pairs, len(pairs))
    one, other = (report(rows(some), num_resamples=1) for some in (pairs, shuffled))
    for name in ("tau", "rho", "top_k", "regret", "regret_k", "gap"):
        assert getattr(one, name) == pytest.approx(getattr(other, name))


@given(ranks)
def test_ranks_do_not_depend_on_the_scale_of_inherited_metrics(pairs: list[tuple[int, int]]) -> None:
    one, other = (report(rows(some), num_resamples=20) for some in (pairs, [(math.exp(a) - 7, b) for a, b in pairs]))
    for name in ("tau", "tau_low", "tau_high", "rho", "rho_low", "rho_high", "top_k", "regret", "regret_k", "level"):
        assert getattr(one, name) == getattr(other, name)


def test_hundreds_of_rows_are_no_burden() -> None:
    found = [replace(row, params=float(i), macs=float(-i)) for i, row in enumerate(noisy(0.1, 0.1, 300))]
    result = report(found)
    assert result.tau is not None and len(result.baselines) == 2 and result.ceiling is not None
