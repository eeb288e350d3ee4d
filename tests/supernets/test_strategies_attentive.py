"""Attention: sizes are kept to, the best or the worst are taken, and what was learnt is state."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import toy
from torch import nn
from toy import Digits, ToySpace

from search_spaces import Architecture, Space, choice
from supernets.strategies import Attentive, Course, Distil, Feedback, Pass, Plan, Step, StrategyError
from supernets.supernet import Supernet
from tests.supernets.test_training import Cut, cutting, quietly, same, state


class Shaped(Space):
    """Many networks of each size: shapes with equal numbers of parameters, and an operation that costs none."""

    width = choice(8, 16, 24)
    depth = choice(1, 2, 3, 4)
    act = choice("gelu", "relu", "tanh", per=2)


ACTS = {"gelu": nn.GELU, "relu": nn.ReLU, "tanh": nn.Tanh}


def shaped(arch: Architecture) -> nn.Module:
    acts = (ACTS[arch.act[index % 2]] for index in range(arch.depth))
    blocks = [nn.Sequential(act(), nn.Linear(arch.width, arch.width)) for act in acts]
    return nn.Sequential(nn.Linear(64, arch.width), nn.Sequential(*blocks), nn.Linear(arch.width, 10))


def course(steps: int = 400, seed: int = 0, space: Space | None = None) -> Course:
    supernet = Supernet(Shaped(), shaped)
    return Course(space or Shaped(), seed, steps, lambda step: 1.0, supernet, Digits())


def planted(arch: Architecture) -> float:
    """Of each activation, of which the last is the worst, and a little of the size."""
    return sum({"gelu": 0.0, "relu": 0.3, "tanh": 0.9}[act] for act in arch.act) - 0.01 * arch.width


def run(plan: Plan, steps: range, noise: float = 0.05) -> list[Step]:
    """Steps whose losses are planted, with what is hard about each batch added to all."""
    said = []
    for index in steps:
        rng = np.random.default_rng([index, 99])
        step = plan.step(index)
        hard = 5 * rng.random()
        losses = tuple(hard + planted(one.arch) + noise * float(rng.normal()) for one in step.passes)
        plan.observe(Feedback(index, step, losses, True))
        said.append(step)
    return said


@pytest.mark.parametrize(("towards", "favoured"), [("best", "gelu"), ("worst", "tanh")])
def test_what_is_favoured_is_what_was_planted(towards: str, favoured: str) -> None:
    said = run(Attentive(towards=towards).plan(course()), range(400))
    acts = Counter(act for step in said[100:] for one in step.passes[1:-1] for act in one.arch.act)
    before = Counter(act for step in said[:4] for one in step.passes[1:-1] for act in one.arch.act)
    assert acts.most_common(1)[0][0] == favoured and acts[favoured] > 0.45 * acts.total()  # by chance 0.33
    assert before[favoured] < 0.7 * before.total()


def test_the_chosen_one_is_the_best_of_the_candidates() -> None:
    plan = Attentive(candidates=4).plan(course())
    run(plan, range(200), noise=0.0)
    right = 0
    for index in range(200, 260):
        candidates = plan._candidates(plan._course.rng(index))  # type: ignore[attr-defined]
        archs = [[plan._pool.archs[place] for place in places] for places in candidates]  # type: ignore[attr-defined]
        (step,) = run(plan, range(index, index + 1), noise=0.0)
        for one, choices in zip(step.passes[1:-1], archs, strict=True):
            assert 1 <= len(choices) == len({*choices}) <= 4
            right += planted(one.arch) <= min(map(planted, choices)) + 0.02
    assert right > 0.9 * 120


def test_sizes_are_kept_to() -> None:
    """What is planted likes width; the sizes that are trained are those of the space all the same."""
    here = course()
    for towards in ("best", "worst"):
        said = run(Attentive(towards=towards).plan(here), range(400))
        counts = Counter((one.arch.width, one.arch.depth) for step in said for one in step.passes[1:-1])
        assert len(counts) == 12 and all(40 < count < 100 for count in counts.values())  # of 800, each 67
    plan = Attentive().plan(here)
    pool = plan._pool  # type: ignore[attr-defined]
    for size in (700, 1500, 4000):
        near = pool.near(size, 50)
        assert all(abs(here.size(pool.archs[place]) - size) <= 0.1 * size for place in near)
        distances = [abs(here.size(pool.archs[place]) - size) for place in near]
        assert distances == sorted(distances)


def test_a_step_is_a_sandwich() -> None:
    space = ToySpace()
    supernet = toy.supernet()
    plan = Attentive(num_random=3).plan(Course(space, 0, 9, lambda step: 1.0, supernet, Digits()))
    step = plan.step(0)
    assert step.passes[0] == Pass(space.largest()) and len(step.passes) == 5
    assert step.passes[-1] == Pass(space.smallest(), task=0.0, distil=Distil())
    assert all(one == Pass(one.arch, task=0.0, distil=Distil()) for one in step.passes[1:])


def test_without_random_ones_only_the_extremes_are_left() -> None:
    plan = Attentive(num_random=0).plan(course())
    assert all(len(step.passes) == 2 for step in run(plan, range(5)))


def test_a_long_training_looks_beyond_its_pool() -> None:
    space = Shaped()
    seen = {one.arch for step in run(Attentive(candidates=1).plan(course()), range(400)) for one in step.passes[1:-1]}
    assert len(seen) > 0.95 * space.count()  # 108, of which a pool of 200 has 84 % or so


def test_what_was_learnt_is_state() -> None:
    whole, cut = Attentive().plan(course()), Attentive().plan(course())
    expected = run(whole, range(60))
    first = run(cut, range(37))
    resumed = Attentive().plan(course())
    resumed.restore(cut.state())
    assert first + run(resumed, range(37, 60)) == expected
    assert all(torch.equal(tensor, whole.state()[name]) for name, tensor in resumed.state().items())


def test_a_step_that_was_left_out_teaches_nothing() -> None:
    plan = Attentive().plan(course())
    step = plan.step(0)
    plan.observe(Feedback(0, step, (float("nan"),) * 4, False))
    assert int(plan.state()["seen"]) == 0 and not plan.state()["squares"].any()


@pytest.mark.parametrize("cut", [7, 13])
def test_cut_after_it_has_begun_to_predict_and_resumed_is_as_never_cut(tmp_path: Path, cut: int) -> None:
    """The toy space's encoding has two columns, so that it predicts from the third step on."""
    settings = {"method": Attentive(), "steps": 16}
    whole = toy.supernet()
    expected = quietly(whole, **settings)
    with pytest.raises(Cut):
        quietly(toy.supernet(), Digits(before=cutting(cut)), directory=tmp_path, **settings)
    resumed = toy.supernet()
    assert quietly(resumed, directory=tmp_path, **settings).losses == expected.losses
    assert same(state(resumed), state(whole))


def test_settings_that_cannot_be() -> None:
    for settings, message in (
        ({"towards": "up"}, "towards = 'up'"),
        ({"candidates": 0}, "candidates = 0: it must be 1"),
    ):
        with pytest.raises(StrategyError, match=message):
            Attentive(**settings)  # type: ignore[arg-type]
    with pytest.raises(StrategyError, match="num_random = -1: it must be 0"):
        Attentive(num_random=-1)
