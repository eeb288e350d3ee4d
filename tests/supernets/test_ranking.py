"""The trust report says what it knows, and when it knows nothing."""

import math
from typing import Any

import numpy as np
import pytest
import torch
import toy
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau
from toy import Digits, ToySpace

from search_spaces import Space, choice
from supernets.ranking import Row, _weighted_taus, measure, report, trust_sample

ARCHS = list(ToySpace().enumerate())
ranks = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12)


def rows(pairs: Any) -> list[Row]:
    return [Row(ARCHS[index % len(ARCHS)], float(a), float(b)) for index, (a, b) in enumerate(pairs)]


class Wide(Space):
    layers = choice(*range(100), per=4)


def num_layers(arch: toy.Architecture) -> float:
    return float(sum(arch.layers))


# --- the sample ---


def test_the_sample_covers_all_sizes() -> None:
    sample = trust_sample(Wide(), 10, np.random.default_rng(0), num_layers)
    sizes = [num_layers(arch) for arch in sample]
    assert len(set(sample)) == 10 and sizes == sorted(sizes)
    uniform = [num_layers(arch) for arch in Wide().sample_many(1000, np.random.default_rng(1))]
    counts, _ = np.histogram(sizes, np.quantile(uniform, [0, 0.25, 0.5, 0.75, 1]))
    assert counts.min() >= 1 and counts.max() <= 4


def test_the_sample_follows_its_generator() -> None:
    first, again, other = (trust_sample(Wide(), 5, np.random.default_rng(seed), num_layers) for seed in (0, 0, 1))
    assert first == again != other


def test_a_small_space_is_taken_whole() -> None:
    sample = trust_sample(ToySpace(), 50, np.random.default_rng(0), lambda arch: arch.width)
    assert sorted(sample, key=ARCHS.index) == ARCHS
    assert len(set(trust_sample(ToySpace(), 3, np.random.default_rng(0), lambda arch: 1.0))) == 3


# --- the report ---


def test_the_same_order_is_trusted() -> None:
    result = report(rows((i, 10 + i) for i in range(12)))
    assert (result.tau, result.tau_low, result.tau_high) == (1, 1, 1)
    assert (result.top_k, result.k, result.regret, result.gap, result.absolute_gap) == (1, 3, 0, -10, 10)
    assert result.verdict.startswith("The ranks can be trusted (tau 1.00, 95% interval 1.00 to 1.00, 12 arch")


def test_the_opposite_order_is_not() -> None:
    result = report(rows((i, -i) for i in range(12)))
    assert (result.tau, result.top_k, result.regret) == (-1, 0, 11)
    assert "not reliable" in result.verdict


def test_noise_is_not_trusted() -> None:
    result = report(rows(np.random.default_rng(1).normal(size=(12, 2))))
    assert result.tau_low is not None and result.tau_high is not None and result.tau is not None
    assert result.tau_low < 0 < result.tau_high and result.tau_low <= result.tau <= result.tau_high
    assert "not reliable" in result.verdict


def test_a_perfect_order_of_three_may_be_chance() -> None:
    result = report(rows([(0, 0), (1, 1), (2, 2)]))
    assert result.tau == 1 and "by chance" in result.verdict


@pytest.mark.parametrize(
    ("pairs", "reason"),
    [
        ([], "0 architectures"),
        ([(1, 2), (2, 1)], "2 architectures"),
        ([(1, 1), (1, 2), (1, 3)], "all inherited metrics are equal"),
        ([(1, 1), (2, 1), (3, 1)], "all stand-alone metrics are equal"),
        ([(1, 1), (2, 2), (math.nan, 1)], "2 architectures"),
    ],
)
def test_what_cannot_be_determined_is_said(pairs: Any, reason: str) -> None:
    result = report(rows(pairs))
    assert result.tau is None and result.tau_low is None and result.tau_high is None
    assert result.verdict.startswith("Not determined") and reason in result.verdict


def test_metrics_that_are_not_finite_are_left_out_and_counted() -> None:
    pairs = [(i, i) for i in range(8)]
    result = report(rows([*pairs, (3.0, math.inf), (math.nan, 0.0)]))
    assert result.tau == 1 and result.regret == 0 and len(result.rows) == 10
    assert "2 of 10 architectures have no finite metric" in result.verdict


def test_ties_are_broken_evenly() -> None:
    result = report(rows([(0, 1), (0, 3), (1, 2), (1, 4)]))
    assert result.k == 1 and result.top_k == 0.5 and result.regret == pytest.approx(1.0)


@given(ranks.filter(lambda pairs: len(pairs) > 1), st.integers(0, 99))
def test_resampled_taus_are_those_of_scipy(pairs: list[tuple[int, int]], seed: int) -> None:
    values = np.array(pairs, dtype=float)
    draws = np.random.default_rng(seed).integers(len(pairs), size=(3, len(pairs)))
    weights = np.array([np.bincount(draw, minlength=len(pairs)) for draw in draws], dtype=float)
    expected = [kendalltau(*values[draw].T).statistic for draw in draws]
    np.testing.assert_allclose(_weighted_taus(*values.T, weights), expected, atol=1e-12)


@given(ranks)
def test_figures_are_sound(pairs: list[tuple[int, int]]) -> None:
    result = report(rows(pairs), num_resamples=30)
    if result.tau is not None:
        assert result.tau == pytest.approx(kendalltau(*zip(*pairs, strict=True)).statistic)
        assert result.tau_low is not None and result.tau_high is not None
        assert -1 <= result.tau_low <= result.tau_high <= 1
    if pairs:
        assert result.regret is not None and result.top_k is not None
        assert result.regret >= 0 and 0 <= result.top_k <= 1 + 1e-9


@given(ranks, st.randoms())
def test_figures_do_not_depend_on_the_order_of_rows(pairs: list[tuple[int, int]], random: Any) -> None:
    shuffled = random.sample(pairs, len(pairs))
    one, other = (report(rows(some), num_resamples=1) for some in (pairs, shuffled))
    for name in ("tau", "top_k", "regret", "gap"):
        assert getattr(one, name) == pytest.approx(getattr(other, name))


# --- running it ---


def test_measuring_trains_each_alone_and_goes_on_where_it_stopped() -> None:
    supernet, task, config = toy.supernet(toy.build_normed), Digits(), toy.config(steps=30, evaluate_every=0, lr=3e-2)
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    told: list[Row] = []
    whole = measure(supernet, task, ARCHS[1:4], config, on_row=told.append, progress=False)
    assert tuple(told) == whole.rows and [row.arch for row in told] == ARCHS[1:4]
    assert all(row.standalone < 0.8 < row.inherited + 0.15 and row.seconds > 0 for row in told)
    assert all(torch.equal(tensor, before[name]) for name, tensor in supernet.state_dict().items())

    new: list[Row] = []
    done = {row.arch.digest: row for row in told[:2]}
    resumed = measure(supernet, task, ARCHS[1:4], config, done=done, on_row=new.append, progress=False)
    assert [row.arch for row in new] == ARCHS[3:4]
    assert [row.standalone for row in resumed.rows] == [row.standalone for row in whole.rows]
    assert (resumed.tau, resumed.verdict) == (whole.tau, whole.verdict)


def test_a_training_that_comes_to_nothing_is_a_row(caplog: pytest.LogCaptureFixture) -> None:
    task = Digits(broken=tuple(range(30)))
    result = measure(toy.supernet(), task, ARCHS[:1], toy.config(steps=30), progress=False)
    assert result.rows[0].standalone == math.inf and math.isfinite(result.rows[0].inherited)
    assert "1 of 1 architectures have no finite metric" in result.verdict and "trained alone" in caplog.text
