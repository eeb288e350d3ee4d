"""Two stages: what each step says, with a teacher and without, and the spaces of LightHuBERT."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import toy
from torch import nn
from toy import Digits, ToySpace

from search_spaces import Architecture, Space, choice
from supernets.features import frame_loss
from supernets.strategies import Course, Distil, Pass, StrategyError, TwoStage
from supernets.supernet import Supernet
from supernets.training import train
from tests.supernets.test_features import wide_teacher
from tests.supernets.test_training import Cut, cutting, quietly, same, state

IMITATE = Distil(frame_loss, teacher="frozen", what="features")


class Base(Space):
    """LightHuBERT's, arXiv:2203.15610."""

    width = choice(512, 640, 768)
    heads = choice(8, 10, 12, per=12)
    ratio = choice(3.5, 4, per=12)


class Small(Space):
    width = choice(256, 384, 512)
    depth = choice(10, 11, 12)
    heads = choice(4, 6, 8, per="depth")
    ratio = choice(3, 3.5, 4, per="depth")


def course(taught: bool, steps: int = 20) -> Course:
    supernet = toy.supernet()
    return Course(supernet.space, 0, steps, lambda step: 1.0, supernet, Digits(), taught)


def test_the_spaces_have_as_many_networks_as_published() -> None:
    assert Base().count() == 3 * 6**12 == 6_530_347_008
    assert Small().count() == 3 * (9**10 + 9**11 + 9**12) == 951_892_141_473


def test_with_a_teacher_the_largest_imitates_it_first() -> None:
    plan = TwoStage(first=0.25, task=0.5).plan(course(taught=True))
    largest = ToySpace().largest()
    for index in range(5):
        assert plan.step(index).passes == (Pass(largest, task=0.5, distil=IMITATE),)
    later = [plan.step(index) for index in range(5, 20)]
    assert len({step.passes[0].arch for step in later}) > 3
    assert all(step.passes == (Pass(step.passes[0].arch, task=0.5, distil=IMITATE),) for step in later)
    assert all(plan.step(index).freeze is None for index in range(20))


def test_without_one_the_largest_learns_the_task_and_is_frozen() -> None:
    plan = TwoStage(first=0.25).plan(course(taught=False))
    largest = ToySpace().largest()
    assert all(plan.step(index).passes == (Pass(largest),) for index in range(5))
    assert [index for index in range(20) if plan.step(index).freeze == largest] == [5]
    assert all(plan.step(index).passes[0].distil == IMITATE for index in range(5, 20))


def test_every_network_is_sampled_equally_often() -> None:
    plan = TwoStage(first=0.0).plan(course(taught=True, steps=1800))
    archs = [plan.step(index).passes[0].arch for index in range(1800)]
    assert all(230 < archs.count(arch) < 370 for arch in ToySpace().enumerate())


def plain(arch: Architecture) -> nn.Module:
    return nn.Sequential(nn.Linear(64, arch.width), nn.GELU(), nn.Linear(arch.width, 10))


def test_the_frozen_network_has_nothing_to_learn_from_itself() -> None:
    supernet = Supernet(ToySpace(), plain)
    space, method = ToySpace().at(width=16, depth=2), TwoStage(first=0.5, task=0.0)
    config = toy.config(steps=8, weight_decay=0.0)
    result = train(supernet, Digits(), config, space=space, method=method, progress=False)
    least = math.log(1 + math.exp(-1))
    assert result.losses[4] == pytest.approx(least, rel=1e-5)
    assert all(loss > least * (1 - 1e-5) for loss in result.losses[5:])


def test_after_training_what_is_extracted_is_what_was_sliced() -> None:
    supernet = toy.supernet()
    quietly(supernet, method=TwoStage(), teacher=wide_teacher())
    images = toy.digits()[0][:9]
    for arch in ToySpace().enumerate():
        assert torch.equal(supernet.extract(arch).eval()(images), supernet.subnet(arch).eval()(images))
    assert state(supernet).keys() == state(toy.supernet()).keys()  # the map is not the supernet's


@pytest.mark.parametrize("taught", [True, False])
@pytest.mark.parametrize("cut", [2, 5, 10])
def test_cut_and_resumed_is_as_never_cut(tmp_path: Path, taught: bool, cut: int) -> None:
    settings: dict[str, Any] = {"method": TwoStage(first=0.4), "teacher": wide_teacher() if taught else None}
    whole = toy.supernet(toy.build_normed)
    expected = quietly(whole, **settings)
    with pytest.raises(Cut):
        quietly(toy.supernet(toy.build_normed), Digits(before=cutting(cut)), directory=tmp_path, **settings)
    resumed = toy.supernet(toy.build_normed)
    assert quietly(resumed, directory=tmp_path, **settings).losses == expected.losses
    assert same(state(resumed), state(whole))


def test_settings_that_cannot_be() -> None:
    for settings, message in (
        ({"first": 1.5}, "first = 1.5"),
        ({"task": -1.0}, "task = -1"),
        ({"sample": "x"}, "sample"),
    ):
        with pytest.raises(StrategyError, match=message):
            TwoStage(**settings)
    with pytest.raises(StrategyError, match=r"first = 0\.01: that is none of 20 steps.*train\(teacher=\.\.\.\)"):
        TwoStage(first=0.01).plan(course(taught=False))
