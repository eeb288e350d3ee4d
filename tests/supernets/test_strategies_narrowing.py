"""Options close while a supernet is trained: noise by its quality, a duplicate by its likeness, and why is said."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from toy import Digits

from search_spaces import Architecture, Space, choice, constraint
from search_spaces.narrowing import Closed, narrowed
from supernets import Supernet, ensemble, one_of
from supernets.sharing import Balanced, Sharing, Split
from supernets.spelling import SpellingError, spell
from supernets.strategies import Course, Feedback, Narrowing, Plan, Strategy, StrategyError, strategy
from supernets.tasks import EachPath
from supernets.training import TrainingConfig, TrainingResult, train
from tests.contracts.strategy import StrategyContract


class TestNarrowing(StrategyContract):
    @pytest.fixture
    def method(self) -> Strategy:
        return Narrowing(choices=("width",), keep=1, start=0.3, stop=0.6, least=2)


# --- planted: one option is noise, and two are one


class Noise(nn.Module):
    """Nothing of the input that a layer could use is left."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(1e4 * x.detach())


OPS: dict[str, Any] = {"relu": nn.ReLU, "twin": nn.ReLU, "abs": lambda: Magnitude(), "noise": Noise}


class Magnitude(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.abs() - 0.5


def planted(*order: str) -> Space:
    class Planted(Space):
        op = choice(*order, per=2)
        width = choice(12, 16)

    return Planted()


def build(arch: Architecture) -> nn.Module:
    width = arch.width
    layers = [nn.Sequential(nn.Linear(width, width), one_of(op, OPS)) for op in arch.op]
    return nn.Sequential(nn.Linear(64, width), *layers, nn.Linear(width, 10))


def trained(space: Space, method: Strategy, steps: int = 300, **settings: Any) -> TrainingResult:
    config = TrainingConfig(steps=steps, lr=1e-2, evaluate_every=0, checkpoint_every=40)
    supernet = Supernet(space, build, seed=1)
    return train(supernet, Digits(), config, method=method, progress=False, **settings)


ORDERS = [("relu", "twin", "abs", "noise"), ("noise", "abs", "twin", "relu")]


@pytest.mark.parametrize("order", ORDERS)
def test_noise_goes_by_quality_and_a_twin_by_likeness_whatever_their_order(order: Sequence[str]) -> None:
    result = trained(planted(*order), Narrowing(keep=2, start=0.4, stop=0.8))
    for position in range(2):
        gone = {one.option: one.why for one in result.closed if one.path == f"op.{position}"}
        assert set(gone) == {"noise", "relu"}, "of twins the first by name goes, in any order"
        assert re.match(
            r"step \d+: it is worse: quality 0\.\d+ in \d+ networks with it and 0\.\d+ without, a", gone["noise"]
        )
        assert re.match(
            r"step \d+: it adds the least: its outputs are [\d.e-]+ from the others', the next", gone["relu"]
        )
    assert all(not one.path.startswith("width") for one in result.closed)
    left = narrowed(planted(*order), result.closed)
    assert {op for arch in left.enumerate() for op in arch.op} == {"twin", "abs"}


def scored(plan: Plan, steps: int, score: Any) -> None:
    """What a plan hears where the quality of networks is planted."""
    for index in range(steps):
        step = plan.step(index)
        rng = np.random.default_rng([index, 5])
        valid = tuple(score(one.arch, rng) for one in step.passes) if "valid" in step.watch else ()
        plan.observe(Feedback(index, step, (1.0,) * len(step.passes), True, valid=valid))


def course(space: Space, steps: int = 100) -> Course:
    return Course(space, 0, steps, lambda step: 1.0, Supernet(space, build, seed=1), Digits())


def test_what_is_closed_is_trained_no_more() -> None:
    space = planted(*ORDERS[0])
    plan = Narrowing(keep=3, start=0.5, stop=0.5).plan(course(space))
    scored(plan, 100, lambda arch, rng: 0.5 - 0.3 * (arch.op[0] == "abs") + 0.01 * rng.random())
    assert {one.path: one.option for one in plan.closed}["op.0"] == "abs"
    assert all(plan.step(index).passes[0].arch.op[0] != "abs" for index in range(50, 100))
    assert any(plan.step(index).passes[0].arch.op[0] == "abs" for index in range(50)) is False, "nor if asked again"
    assert "valid" not in plan.step(60).watch, "nothing is measured once nothing can close"


def test_an_option_of_few_networks_stays() -> None:
    plan = Narrowing(keep=3, start=0.1, stop=0.1, least=50).plan(course(planted(*ORDERS[0])))
    scored(plan, 40, lambda arch, rng: 0.5 - 0.3 * (arch.op[0] == "abs"))
    assert plan.closed == ()


def test_constraints_keep_what_they_need() -> None:
    class Bound(Space):
        op = choice("relu", "abs", "noise", per=2)
        width = choice(12)

        @constraint
        def noisy(op: tuple[str, ...]) -> bool:
            return "noise" in op

    plan = Narrowing(keep=1, start=0.4, stop=0.8, least=2).plan(course(Bound()))
    scored(plan, 100, lambda arch, rng: 0.6 - 0.2 * arch.op.count("noise") + 0.001 * rng.random())
    left = narrowed(Bound(), plan.closed)
    assert left.count() >= 1 and all("noise" in arch.op for arch in left.enumerate())


def test_other_strategies_train_within_what_is_left() -> None:
    method = strategy("narrowing(of=sandwich(distil=none, num_random=1), keep=3, start=0.5, stop=0.5, least=2)")
    assert strategy(spell(method)) == method
    plan = method.plan(course(planted(*ORDERS[0])))
    assert len(plan.step(0).passes) == 3
    scored(plan, 100, lambda arch, rng: 0.5 - 0.3 * (arch.op[0] == "noise") + 0.01 * rng.random())
    assert "op.0" in {one.path for one in plan.closed} and plan.step(60).passes[0].arch.op[0] != "noise"


def test_it_goes_on_after_a_stop_as_if_there_had_been_none(tmp_path: Path) -> None:
    method = Narrowing(keep=2, start=0.4, stop=0.8)
    space = planted(*ORDERS[0])
    whole = trained(space, method, steps=80)

    class Cut(Exception):
        pass

    def before(step: int) -> None:
        if step == 70:
            raise Cut

    config = TrainingConfig(steps=80, lr=1e-2, evaluate_every=0, checkpoint_every=40)
    with pytest.raises(Cut):
        train(Supernet(space, build, seed=1), Digits(before=before), config, method=method, directory=tmp_path)
    resumed = trained(space, method, steps=80, directory=tmp_path)
    assert resumed.resumed_from == 40
    assert resumed.closed == whole.closed and len(whole.closed) == 4
    assert resumed.losses == whole.losses
    assert trained(space, method, steps=80, directory=tmp_path).closed == whole.closed, "and where it was finished"


def test_paths_of_an_ensemble_narrow() -> None:
    class Two(Space):
        split = choice(1, 0)
        first = choice("relu", "abs", "noise", per=1)
        second = choice("relu", "abs", "noise", per=1, start="split")

    def two(arch: Architecture) -> nn.Module:
        def path(ops: Sequence[str | None]) -> list[nn.Module]:
            return [*(nn.Sequential(nn.Linear(16, 16), one_of(op, OPS)) for op in ops if op), nn.Linear(16, 10)]

        return nn.Sequential(nn.Linear(64, 16), ensemble(path(arch.first), path(arch.second)))

    config = TrainingConfig(steps=500, lr=1e-2, evaluate_every=0, checkpoint_every=0)
    supernet = Supernet(Two(), two)
    result = train(supernet, EachPath(Digits()), config, method=Narrowing(start=0.9, stop=0.9), progress=False)
    assert {(one.path, one.option) for one in result.closed} == {("first.0", "noise"), ("second.0", "noise")}


@pytest.mark.parametrize("sharing", [Balanced(models=2), Split(models=2)])
def test_sharings_that_take_part_in_training_pass_on_what_is_closed(sharing: Sharing) -> None:
    space, method = planted(*ORDERS[0]), Narrowing(keep=3, start=0.5, stop=0.5, least=2)
    config = TrainingConfig(steps=40, lr=1e-2, evaluate_every=0, checkpoint_every=0)
    supernet = Supernet(space, build, sharing=sharing, seed=1)
    result = train(supernet, Digits(), config, method=method, progress=False)
    assert {one.path for one in result.closed} == {"op.0", "op.1"}


def test_where_there_is_nothing_to_close_a_line_says_so(caplog: pytest.LogCaptureFixture) -> None:
    space = planted("relu", "noise")
    assert Narrowing().plan(course(space)).closed == ()
    assert re.match(r"narrowing leaves Planted as it is: no choice of names has more than keep = 2", caplog.messages[0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"keep": 0}, r"^keep = 0: it must be 1 or more options"),
        ({"start": 0.0}, r"^start = 0.0: it must be a share of the steps between 0 and 1$"),
        ({"start": 0.5, "stop": 0.4}, r"^stop = 0.4: it must be a share of the steps from start = 0.5 to 1$"),
        ({"confidence": 1.0}, r"^confidence = 1.0: it must be from 0.5 to below 1, 0.95 say$"),
        ({"least": 1}, r"^least = 1: it must be 2 or more networks"),
        ({"probes": 0}, r"^probes = 0: it must be 1 or more"),
        ({"distance": "cosine"}, r"^distance = 'cosine': it must be one of kl, squared$"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(StrategyError, match=message):
        Narrowing(**settings)


def test_what_narrows_what_is_named() -> None:
    with pytest.raises(SpellingError, match=r"^no strategy to narrow by is called 'pada': choose one of uniform"):
        Narrowing(of="pada")
    with pytest.raises(StrategyError, match=r"^choices = 'ops' is no choice of Planted: its choices are op, width$"):
        Narrowing(choices=("ops",)).plan(course(planted("relu", "noise")))
    assert replace(Narrowing(), keep=1) == strategy("narrowing(keep=1)")
    assert Closed("op", "relu") == Closed("op", "relu", "")
