"""What a trust report trains and costs; that it trains it once; and that it goes on where it stopped."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toy
from toy import Digits, ToySpace

from search_spaces import Space, choice
from supernets import standalone
from supernets.ranking import Row
from supernets.standalone import FEWEST, MOST, StandalonePlan, measure, num_networks, num_repeated, spread, trust_sample
from supernets.strategies import STRATEGIES
from supernets.training import train

ARCHS = list(ToySpace().enumerate())


class Wide(Space):
    layers = choice(*range(1, 101), per=4)


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


class Mixed(Space):
    form = choice("a", "b", "c", "d")
    layers = choice(*range(1, 17), per=3)


@pytest.mark.parametrize("seed", range(5))
def test_the_sample_sees_every_option(seed: int) -> None:
    """Eight networks by size alone would miss one of four options in a third of all draws."""
    sample = trust_sample(Mixed(), 8, np.random.default_rng(seed), num_layers)
    assert {arch.form for arch in sample} == set("abcd")


def test_half_of_the_sample_is_spread_over_a_front() -> None:
    front = [arch for arch in ToySpace().enumerate() if arch.width == 8]
    large = sorted(Wide().sample_many(30, np.random.default_rng(1)), key=num_layers)
    sample = trust_sample(Wide(), 8, np.random.default_rng(0), num_layers, large)
    taken = [large.index(arch) for arch in sample if arch in large]
    assert len(set(sample)) == 8 and taken == [0, 10, 19, 29], "its ends, and between them"
    whole = trust_sample(ToySpace(), 6, np.random.default_rng(0), lambda arch: arch.width, front)
    assert set(whole) == set(ARCHS), "a small space is still taken whole"


def test_a_front_that_is_the_space_leaves_it_whole() -> None:
    assert len(trust_sample(ToySpace(), 100, np.random.default_rng(0), lambda arch: 1.0, ARCHS)) == len(ARCHS)


@pytest.mark.parametrize(("networks", "repeated"), [(1, 1), (2, 2), (3, 3), (6, 3), (8, 3), (12, 4), (24, 8)])
def test_a_third_and_at_least_three_are_trained_twice(networks: int, repeated: int) -> None:
    archs = trust_sample(Wide(), networks, np.random.default_rng(0), num_layers)
    chosen = spread(archs, num_repeated(networks))
    assert len(set(chosen)) == repeated
    if repeated > 1:
        assert (chosen[0], chosen[-1]) == (archs[0], archs[-1]), "of all sizes"


# --- the budget ---


def planned(share: float, *, cost: Any = lambda arch: 2.0, training: float = 80_000, **stated: Any) -> StandalonePlan:
    """A supernet of 10,000 steps, four networks of cost 2 in each, unless something else is said."""
    rng = np.random.default_rng(0)
    return standalone.plan(Wide(), cost, training, 10_000, share, rng, num_layers, **stated)


def test_a_third_of_a_sandwich_pays_for_eight_networks() -> None:
    """24,000 for 11 trainings at 2 a step: 1,090 steps each."""
    plan = planned(0.3)
    assert (len(plan.archs), len(plan.repeated), plan.trainings, plan.steps) == (FEWEST, 3, 11, 1090)
    assert plan.share == pytest.approx(11 * 1090 * 2 / 80_000) and plan.share <= 0.3 and plan.refused == ""


@pytest.mark.parametrize(
    ("share", "networks", "repeated", "steps"),
    [
        (0.4, 8, 3, 1454),  # still less than a sixth of the supernet's steps each
        (1.0, 17, 6, 1739),  # a sixth each: so many networks that 40,000 steps are used up
        (4.0, MOST, 11, 3720),  # as many networks as there may be, so each is trained longer
        (20.0, MOST, 11, 10_000),  # as long as the supernet; the rest is not needed
    ],
)
def test_a_larger_share_buys_steps_then_networks_then_steps(
    share: float, networks: int, repeated: int, steps: int
) -> None:
    plan = planned(share)
    assert (len(plan.archs), len(plan.repeated), plan.steps) == (networks, repeated, steps)
    assert plan.share <= share and plan.refused == ""


def test_networks_count_at_their_own_cost() -> None:
    """Steps are planned as if half of the networks were of the larger half."""
    plan = planned(0.3, cost=num_layers, training=8e6)
    one_step = sum(num_layers(arch) for arch in (*plan.archs, *plan.repeated))
    costs = [num_layers(arch) for arch in plan.archs]
    reserve = (1 + np.mean(costs[len(costs) // 2 :]) / np.mean(costs)) / 2
    assert plan.share == pytest.approx(plan.steps * one_step / 8e6)
    assert 0.3 * 8e6 - one_step * reserve < plan.steps * one_step * reserve <= 0.3 * 8e6


def test_a_costly_front_is_taken_as_far_as_the_share_goes() -> None:
    front = sorted(Wide().sample_many(400, np.random.default_rng(5), distinct=True), key=num_layers)[-12:]
    free = planned(0.3, cost=num_layers, training=8e6, networks=24, steps=400, front=front)
    paid = planned(0.3, cost=num_layers, training=8e6, networks=24, front=front)
    assert len(set(front) & set(free.archs)) == 12, "what is stated is taken"
    assert paid.share <= 0.3 and 3 <= len(set(front) & set(paid.archs)) < 12 and len(paid.archs) == 24


def test_a_share_that_pays_for_too_little_trains_nothing_and_says_what_would() -> None:
    """One pass a step, a tenth: 11 trainings of 90 steps, and 834 are a twelfth of the supernet's."""
    plan = planned(0.1, training=20_000)
    assert (plan.archs, plan.repeated, plan.steps, plan.share) == ((), (), 0, 0.0)
    assert plan.refused == (
        "trust=0.1 pays for 90 steps of each of 8 networks trained alone, and fewer than 834 decide nothing, so none "
        "are trained; trust=0.92 pays for those"
    )
    paid = planned(0.92, training=20_000)
    assert paid.refused == "" and paid.steps >= 834 and len(paid.archs) == FEWEST
    assert planned(1e-9).refused.startswith("trust=1e-09 pays for no steps of each of 8")


def test_what_is_stated_is_taken_whatever_it_costs() -> None:
    assert len(planned(0.5, networks=12).archs) == 12 and planned(0.5, networks=12).share <= 0.5
    stated = planned(0.1, networks=4, steps=8000)
    assert (len(stated.archs), stated.steps, stated.share, stated.refused) == (4, 8000, 7 * 8000 * 2 / 80_000, "")
    few = planned(0.1, steps=3)
    assert (len(few.archs), few.steps, few.refused) == (MOST, 3, "")
    assert (len(planned(0.1, steps=4000).archs), planned(0.1, steps=4000).share) == (FEWEST, 1.1)


def test_a_front_changes_which_networks_and_not_how_many_nor_how_long() -> None:
    front = Wide().sample_many(5, np.random.default_rng(5))
    before, after = planned(0.3), planned(0.3, front=front)
    assert (len(after.archs), after.steps) == (len(before.archs), before.steps)
    assert len(set(front) & set(after.archs)) == 4 and not set(front) & set(before.archs)


def test_whoever_states_how_many_networks_may_have_short_trainings() -> None:
    """1,500 / 4: 375 steps of each of three trainings, and one more that is repeated thrice; 834 are a twelfth."""
    assert "fewer than 834 decide nothing" in planned(0.1, training=20_000).refused
    plan = planned(0.1, training=20_000, networks=4)
    assert (len(plan.archs), plan.steps, plan.refused) == (4, 142, "")
    assert "fewer than 50 decide nothing" in planned(0.02, training=20_000, networks=4).refused


def test_num_networks_counts_repetitions() -> None:
    found = [num_networks(steps, 100) for steps in (0, 1199, 1200, 2400, 1e9)]
    assert found == [FEWEST, FEWEST, 9, 18, MOST]


@pytest.mark.parametrize(
    ("strategy", "passes"),
    [("uniform", {8: 1 / 3, 12: 1 / 3, 16: 1 / 3}), ("sandwich", {8: 5 / 3, 12: 2 / 3, 16: 5 / 3})],
)
def test_a_supernets_cost_is_that_of_its_passes(strategy: str, passes: dict[int, float]) -> None:
    supernet, config = toy.supernet(), toy.config(steps=3000, strategy=strategy)
    found = standalone.training_cost(supernet, Digits(), config, lambda arch: float(arch.width))
    expected = sum(width * share for width, share in passes.items())
    assert found / 3000 == pytest.approx(expected, rel=0.12)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategys_cost_can_be_told_before_it_is_trained(strategy: str) -> None:
    supernet, config = toy.supernet(), toy.config(steps=100, strategy=strategy)
    before = supernet.digest()
    cost = standalone.training_cost(supernet, Digits(), config, lambda arch: 1.0)
    assert 100 <= cost <= 1000 and supernet.digest() == before


def test_the_cost_of_a_pass_is_counted_in_multiply_accumulates() -> None:
    cost = standalone.macs(toy.supernet(), Digits())
    small, large = ToySpace().smallest(), ToySpace().largest()
    assert cost(small) == 64 * 8 + 8 * 8 + 8 * 10
    assert cost(large) == 64 * 16 + 2 * 16 * 16 + 16 * 10


# --- running it ---


def test_measuring_trains_each_alone_and_some_twice() -> None:
    supernet, task, config = toy.supernet(toy.build_normed), Digits(), toy.config(steps=30, evaluate_every=0, lr=3e-2)
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    told: list[Row] = []
    whole = measure(supernet, task, ARCHS[1:4], config, repeated=ARCHS[2:3], on_row=told.append, progress=False)
    assert [row.arch for row in whole.rows] == ARCHS[1:4]
    assert [(row.arch, len(row.again)) for row in told] == [(ARCHS[1], 0), (ARCHS[2], 0), (ARCHS[3], 0), (ARCHS[2], 1)]
    assert all(row.standalone < 0.8 < row.inherited + 0.15 and row.seconds > 0 for row in whole.rows)
    assert whole.rows[1].again[0] != whole.rows[1].standalone and whole.noise is not None
    assert [row.params for row in whole.rows] == [supernet.count_parameters(arch) for arch in ARCHS[1:4]]
    assert all(torch.equal(tensor, before[name]) for name, tensor in supernet.state_dict().items())


def test_warm_trainings_begin_with_inherited_weights() -> None:
    """So few steps change an own initialisation little; the shared weights stay as they are."""
    supernet, task, config = toy.supernet(toy.build_normed), Digits(), toy.config(steps=60, evaluate_every=0, lr=3e-2)
    train(supernet, task, config, progress=False)
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    short = replace(config, steps=1, lr=1e-6)
    cold, warm = (
        measure(supernet, task, ARCHS[1:4], short, repeated=[], progress=False, warm=warm).rows
        for warm in (False, True)
    )
    for known, other in zip(warm, cold, strict=True):
        assert abs(known.standalone - known.inherited) < 0.05 < abs(other.standalone - other.inherited)
    assert all(torch.equal(tensor, before[name]) for name, tensor in supernet.state_dict().items())


def test_a_third_is_trained_twice_where_nothing_is_said() -> None:
    result = measure(toy.supernet(), Digits(), ARCHS, toy.config(steps=1), progress=False)
    assert [bool(row.again) for row in result.rows] == [i in (0, 2, 5) for i in range(6)]


class Stopped(Exception):
    pass


@pytest.mark.parametrize("place", [None, "checkpoints"])
@pytest.mark.parametrize("stop", [*(pytest.param(stop, marks=pytest.mark.slow) for stop in (1, 20, 79)), 15, 45, 100])
def test_a_report_stopped_anywhere_goes_on_and_trains_nothing_twice(
    stop: int, place: str | None, tmp_path: Path
) -> None:
    """Five trainings of 20 steps: of three networks, and of the first and the last again."""
    directory = None if place is None else tmp_path / place
    supernet, config = toy.supernet(), toy.config(steps=20, evaluate_every=0, checkpoint_every=5)
    steps: list[int] = []

    def counting(limit: float) -> Digits:
        def before(step: int) -> None:
            if len(steps) == limit:
                raise Stopped
            steps.append(step)

        return Digits(before=before)

    def run(task: Digits, done: dict[str, Row], **more: Any) -> Any:
        told = {row.arch.digest: row for row in done.values()}
        try:
            return measure(
                supernet,
                task,
                ARCHS[:3],
                config,
                repeated=ARCHS[:3:2],
                done=done,
                on_row=lambda row: told.update({row.arch.digest: row}),
                progress=False,
                **more,
            )
        except Stopped:
            return told

    whole = run(Digits(), {})
    told = run(counting(stop), {}, directory=directory)
    rows = {row.arch.digest: row for row in told.rows} if stop == 100 else told
    resumed = run(counting(math.inf), rows, directory=directory)
    lost = 0 if stop == 100 else stop % 20 if directory is None else stop % 5
    assert len(steps) == 100 + lost, "what comes after the last checkpoint, or the last row, is all that is repeated"
    assert [(row.standalone, row.again) for row in resumed.rows] == [(row.standalone, row.again) for row in whole.rows]
    assert (resumed.tau, resumed.noise, resumed.verdict) == (whole.tau, whole.noise, whole.verdict)
    if directory is not None:
        assert list(directory.iterdir()) == [], "checkpoints of finished trainings are not kept"


def test_a_training_that_comes_to_nothing_is_a_row(caplog: pytest.LogCaptureFixture) -> None:
    task = Digits(broken=tuple(range(30)))
    result = measure(toy.supernet(), task, ARCHS[:1], toy.config(steps=30), progress=False)
    (row,) = result.rows
    assert row.standalone == math.inf and row.again == (math.inf,) and math.isfinite(row.inherited)
    assert "1 of 1 architectures have no finite metric" in result.verdict and "trained alone" in caplog.text
