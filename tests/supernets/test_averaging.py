"""Averages of weights: exact on what can be known exactly, and resumed bit for bit."""

from pathlib import Path
from typing import Any

import pytest
import torch
import toy
from test_training import Cut, Fixed, cutting, quietly, same, state
from torch import Tensor
from toy import Digits, ToySpace

from supernets.averaging import Average
from supernets.strategies import Feedback, Pass, Step
from supernets.training import TrainingError, train_network


def test_the_average_is_the_mean_of_the_stored_weights() -> None:
    stored = [torch.randn(3, 4) for _ in range(10)]
    average = Average(0.4, 10)
    for index, weights in enumerate(stored):
        average.observe(index, {"w": weights, "count": torch.tensor(index)})
    means = average.means({"w": stored[-1], "count": torch.tensor(0)})
    expected = torch.stack([weights.double() for weights in stored[-4:]]).mean(0)
    assert torch.allclose(means["w"], expected.float(), atol=1e-7) and means["w"].dtype == torch.float32
    assert means["count"] == 9


def test_the_average_of_constant_weights_is_itself() -> None:
    weights = {"w": torch.randn(50)}
    average = Average(1.0, 7)
    for index in range(7):
        average.observe(index, weights)
    assert torch.equal(average.means(weights)["w"], weights["w"])


def test_a_share_below_one_step_is_one_step_and_none_is_none() -> None:
    for share, expected in ((0.0, False), (0.001, True)):
        average = Average(share, 10)
        for index in range(10):
            average.observe(index, {"w": torch.ones(1)})
        assert bool(average) is expected


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_training_leaves_the_mean_of_its_last_weights(share: float) -> None:
    supernet, after = toy.supernet(), []

    def remember(feedback: Feedback) -> None:
        after.append(state(supernet))

    method = Fixed(lambda index: Step((Pass(ToySpace().largest()),)), remember)
    quietly(supernet, method=method, average=share)
    last = after[-round(share * len(after)) :] if share else after[-1:]
    for name, tensor in state(supernet).items():
        expected = torch.stack([weights[name].double() for weights in last]).mean(0)
        assert torch.equal(tensor, expected.float()) if not share else torch.allclose(tensor, expected.float())


@pytest.mark.parametrize("builder", [toy.build, toy.build_normed])
@pytest.mark.parametrize("cut", [pytest.param(2, marks=pytest.mark.slow), 7, 11])
def test_an_averaged_training_resumes_bit_for_bit(tmp_path: Path, builder: Any, cut: int) -> None:
    whole, resumed = toy.supernet(builder), toy.supernet(builder)
    quietly(whole, average=0.5)
    with pytest.raises(Cut):
        quietly(toy.supernet(builder), Digits(before=cutting(cut)), directory=tmp_path, average=0.5)
    quietly(resumed, directory=tmp_path, average=0.5)
    assert same(state(resumed), state(whole))
    again = toy.supernet(builder)
    quietly(again, directory=tmp_path, average=0.5)  # a finished one is not averaged again
    assert same(state(again), state(whole))


def test_a_single_network_has_the_statistics_of_its_averaged_weights() -> None:
    def trained(steps: float) -> dict[str, Tensor]:
        module = toy.supernet(toy.build_normed).extract(ToySpace().largest())
        result = train_network(module, Digits(), toy.config(average=steps), progress=False)
        assert not module.training and result.final("network") == Digits().evaluate(module)["error"]
        return state(module)

    plain, averaged = trained(0.0), trained(0.5)
    assert any(not torch.equal(plain[name], averaged[name]) for name in plain if "running_mean" in name)


def test_an_average_is_a_share() -> None:
    with pytest.raises(TrainingError, match=r"average = 25: it must be a share of the steps, from 0 to 1"):
        toy.config(average=25)
