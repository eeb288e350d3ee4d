"""The balanced mixture: its scaling by the properties it must have, its training against plain weights."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import toy
from torch import nn
from toy import Digits, ToySpace

from search_spaces import Space, choice
from supernets.sharing import Balanced
from supernets.sharing.balanced import (
    BALANCE,
    SHARPEST,
    TABLE,
    BalancedWeights,
    probabilities,
    scalings,
)
from supernets.sharing.copies import SharingError
from supernets.strategies import Feedback, Pass, Plan, Step, strategy
from supernets.supernet import Supernet
from supernets.training import TrainingError, TrainingResult, train
from tests.contracts.strategy import Cut, course

TABLES = [(3, 4), (6, 2), (36, 4), (200, 8)]


class Branching(Space):
    op = choice("conv", "pool")
    kernel = choice(3, 5, when={"op": "conv"})
    width = choice(8, 16, 32)


class Vast(Space):
    width = choice(*range(8, 108), per=3)
    depth = choice(1, 2)
    op = choice("conv", "pool")
    kernel = choice(3, 5, when={"op": "conv"})


def balanced(logits: np.ndarray, tolerance: float = 1e-4) -> np.ndarray:
    return probabilities(logits, scalings(logits, tolerance))


def divergence(shares: np.ndarray) -> float:
    means = shares.mean(axis=0)
    return abs(float(np.sum(means * np.log(means * len(means)))))


def made(method: Balanced | None = None, **changes: object) -> Supernet:
    return Supernet(ToySpace(), toy.build, sharing=method or Balanced(), seed=1, **changes)  # type: ignore[arg-type]


def weights_of(supernet: Supernet) -> BalancedWeights:
    assert isinstance(supernet.weights, BalancedWeights)
    return supernet.weights


# --- balancing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sharp", [1.0, 10.0, 100.0])
@pytest.mark.parametrize("size", TABLES)
def test_rows_sum_to_one_and_columns_are_equally_busy(size: tuple[int, int], sharp: float) -> None:
    shares = balanced(sharp * np.random.default_rng(0).random(size))
    assert np.allclose(shares.sum(axis=1), 1, rtol=0, atol=1e-12)
    assert divergence(shares) <= 1e-4


@pytest.mark.parametrize("size", TABLES)
def test_a_constant_added_to_a_column_changes_nothing(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    logits = 3 * rng.random(size)
    moved = logits + rng.normal(size=size[1])
    assert np.allclose(balanced(logits, tolerance=0), balanced(moved, tolerance=0), rtol=0, atol=1e-12)


@pytest.mark.parametrize("models", [1, 2, 4, 8])
def test_a_constant_table_gives_all_models_the_same(models: int) -> None:
    assert (balanced(100 * np.full((36, models), 0.3)) == 1 / models).all()


def test_gaps_of_one_at_full_sharpness_give_no_nan() -> None:
    table = np.zeros((36, 4))
    table[:, 0] = 1.0
    with np.errstate(all="raise", under="ignore"):
        assert np.allclose(balanced(100 * table), 0.25)  # one model is best at everything: nothing tells rows apart
        table[:9, 0], table[:9, 1] = 0.0, 1.0
        shares = balanced(100 * table)
    assert np.isfinite(shares).all() and divergence(shares) <= 1e-4
    assert np.isfinite(probabilities(100 * table, np.zeros(4))).all()


def test_a_better_model_gets_its_share_and_no_more() -> None:
    table = np.array([[0.9, 0.5], [0.9, 0.6], [0.9, 0.7], [0.9, 0.8]])
    assert balanced(100 * table).argmax(axis=1).tolist() == [0, 0, 1, 1]


# --- which model ----------------------------------------------------------------------------------------------------


def test_models_begin_independent_and_routed_to_the_first() -> None:
    supernet, plain = made(), toy.supernet()
    state = supernet.state_dict()
    for name, tensor in plain.state_dict().items():
        assert torch.equal(state[name], tensor)
        assert len({float(state[f"{name}{model}"].sum()) for model in ("", "@1", "@2", "@3")}) == 4
    assert {supernet.route(arch) for arch in ToySpace().enumerate()} == {0}


def test_a_network_reads_its_model_alone_and_leaves_no_gradient_elsewhere() -> None:
    supernet, arch = made(), ToySpace().largest()
    with torch.no_grad():
        for name, shared in supernet._store.parameters.items():
            if name.endswith("@2"):
                shared.value.zero_()
    images = Digits().example(3)
    assert not supernet.subnet(arch, 2).eval()(images).any() and supernet.subnet(arch, 1).eval()(images).any()
    supernet.subnet(arch, 1)(images).sum().backward()
    assert supernet.gradients() and all(name.endswith("@1") for name in supernet.gradients())


def test_a_route_beyond_the_models_is_refused() -> None:
    with pytest.raises(SharingError, match=r"route = 4: there are 4 models, 0 to 3"):
        made().subnet(ToySpace().largest(), 4)


def test_a_high_score_attracts_and_others_make_way() -> None:
    supernet = made(Balanced(models=2, by=("width",)))
    weights = weights_of(supernet)
    for width, model in ((8, 1), (12, 0), (16, 1)):
        for other in range(2):
            for _ in range(60):
                weights.learn(weights.row(ToySpace().at(width=width).largest()), other, 0.9 if other == model else 0.2)
    weights.balance(SHARPEST)
    routes = {arch: supernet.route(arch) for arch in ToySpace().enumerate()}
    assert all(routes[arch] == (arch.width != 12) for arch in routes)


def test_groups_are_what_the_space_has() -> None:
    def rows(space: Space, *by: str) -> int:
        net = Supernet(space, lambda arch: nn.Linear(1, 1), sharing=Balanced(models=2, by=by))
        assert len({weights_of(net).row(arch) for arch in space.sample_many(50, np.random.default_rng(0))}) <= 9
        return len(net.state_dict()[TABLE])

    assert rows(Branching()) == 9
    assert rows(Branching(), "op", "kernel") == 3
    assert rows(Branching(), "kernel") == 3
    assert rows(Branching().where(op="conv"), "width", "op") == 3
    assert rows(Vast(), "depth", "op", "kernel") == 6  # conv with either kernel, and pool with none
    assert rows(Vast(), "depth", "kernel") == 6


def test_a_space_too_large_for_the_table_says_what_to_do() -> None:
    def made_of(*by: str) -> Supernet:
        return Supernet(Vast(), lambda arch: nn.Linear(1, 1), sharing=Balanced(by=by))

    with pytest.raises(SharingError, match=r"Vast has 6,000,000 networks.*10,000 at most.*balanced\(by=depth\+width\)"):
        made_of()
    with pytest.raises(SharingError, match=r"width.0\+width.1\+width.2: these choices have 1,000,000 combinations"):
        made_of("width")
    with pytest.raises(SharingError, match=r"Vast has no choice 'dept': its choices are width, depth, op, kernel"):
        made_of("dept")
    with pytest.raises(SharingError, match=r"models = 0: it must be 1 or more"):
        Balanced(models=0)


# --- training -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["uniform", "sandwich"])
def test_one_model_is_plain_training_bit_for_bit(method: str) -> None:
    results, states = [], []
    for sharing in (None, Balanced(models=1)):
        supernet = Supernet(ToySpace(), toy.build, sharing=sharing, seed=1)
        results.append(train(supernet, Digits(), toy.config(strategy=method), progress=False))
        states.append({n: t for n, t in supernet.state_dict().items() if not n.startswith("@")})
    assert results[0].losses == results[1].losses and results[0].curve == results[1].curve
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_every_pass_draws_its_model_by_the_table() -> None:
    supernet = made(Balanced(models=2, by=("depth",)))
    weights, drawn = weights_of(supernet), course(supernet=supernet, steps=400)
    plan = weights.accompany(strategy("sandwich").plan(drawn), drawn)
    supernet._store.buffers[TABLE].copy_(torch.tensor([[0.5, 0.0], [0.0, 0.5]]))
    plain = strategy("sandwich").plan(drawn)
    for sharp, expected in ((1, 1 / (1 + math.exp(-0.5))), (50, 1.0)):
        weights.balance(sharp)
        routes: dict[int, list[int]] = {1: [], 2: []}
        for step in (plan.step(k) for k in range(250) if k % 4):  # every fourth of 400 steps begins a period
            assert "valid" in step.watch
            for one in step.passes:
                assert one.route is not None
                routes[one.arch.depth].append(one.route)
        shares = {depth: np.mean(models) for depth, models in routes.items()}
        assert shares[1] == pytest.approx(1 - expected, abs=0.07) and shares[2] == pytest.approx(expected, abs=0.07)
    assert [one.arch for one in plan.step(7).passes] == [one.arch for one in plain.step(7).passes]


def test_scores_are_remembered_where_they_were_made() -> None:
    supernet = made(Balanced(models=3))
    weights, arch = weights_of(supernet), ToySpace().smallest()
    heard: list[Feedback] = []

    class Inner(Plan):
        def step(self, index: int) -> Step:
            return Step((Pass(arch), Pass(arch, route=2)))

        def observe(self, feedback: Feedback) -> None:
            heard.append(feedback)

        def state(self) -> dict[str, torch.Tensor]:
            return {"own": torch.ones(1)}

    plan = weights.accompany(Inner(), course(supernet=supernet))
    step = plan.step(0)
    step = Step((Pass(arch, route=1), step.passes[1]), watch=step.watch)
    assert step.passes[1].route == 2
    plan.observe(Feedback(0, step, (1.0, 1.0), True, valid=(0.5, math.nan)))
    table = supernet.state_dict()[TABLE]
    assert table[weights.row(arch)].tolist() == pytest.approx([1, 0.9 + 0.05, 1], abs=1e-12)
    assert (table.sum() == table.numel() - 0.05) and len(heard) == 1 and plan.state().keys() == {"own"}


def test_training_ends_with_columns_balanced_at_full_sharpness() -> None:
    supernet = made()
    train(supernet, Digits(), toy.config(strategy="sandwich", steps=40), progress=False)
    state = supernet.state_dict()
    assert state[BALANCE][0] == SHARPEST and (state[TABLE] < 1).sum() > 12
    logits = SHARPEST * state[TABLE].numpy()
    assert divergence(probabilities(logits, state[BALANCE][1:].numpy())) <= 1e-4


@pytest.mark.parametrize("cut", [4, 8])
def test_cut_within_a_period_and_resumed_is_as_never_cut(cut: int, tmp_path: Path) -> None:
    def trained(stop: int | None, folder: Path | None) -> tuple[TrainingResult, Supernet]:
        def before(step: int) -> None:
            if step == stop:
                raise Cut

        supernet = made(Balanced(by=("width",)))
        config = toy.config(strategy="sandwich", steps=12, checkpoint_every=1)
        return train(supernet, Digits(before=before), config, directory=folder, progress=False), supernet

    whole, reference = trained(None, None)
    with pytest.raises(Cut):
        trained(cut, tmp_path)
    resumed, supernet = trained(None, tmp_path)
    assert resumed.resumed_from == cut and resumed.losses == whole.losses and resumed.curve == whole.curve
    assert supernet.digest() == reference.digest()


def test_a_task_that_cannot_score_is_refused() -> None:
    class Plain(Digits):
        score = property()  # type: ignore[assignment]

    with pytest.raises(TrainingError, match=r"'digits' has no score\(\), which this strategy or sharing needs"):
        train(made(), Plain(), toy.config(), progress=False)


def test_networks_with_batch_norm_are_scored_with_statistics_of_their_own() -> None:
    """The shared running statistics mix all models; scores by them would tell little of any one."""
    scored: list[tuple[int, float]] = []

    class Watching(Digits):
        def score(self, module: nn.Module, step: int, seed: int) -> float:
            assert isinstance(module, nn.Sequential)
            norm = next(child for child in module.modules() if isinstance(child, nn.BatchNorm1d))
            assert norm.running_mean is not None and norm.num_batches_tracked is not None
            shared = supernet.state_dict()["1.0.0.running_mean"].untyped_storage().data_ptr()
            scored.append(
                (int(norm.num_batches_tracked), float(norm.running_mean.untyped_storage().data_ptr() == shared))
            )
            return super().score(module, step, seed)

    supernet = Supernet(ToySpace(), toy.build_normed, sharing=Balanced(models=2), seed=1)
    result = train(supernet, Watching(), toy.config(strategy="sandwich", steps=3), progress=False)
    assert scored == [(1, 0.0)] * 12 and result.skipped == 0
    assert int(supernet.state_dict()["1.0.0.num_batches_tracked"]) == 12  # of the training passes alone
