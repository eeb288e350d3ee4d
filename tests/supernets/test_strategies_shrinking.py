"""Progressive and delayed shrinking: the full network first, smaller ones later."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar

import pytest
import torch
import toy
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from toy import Digits, ToySpace

from search_spaces import MobileNetSpace, Space, ViTSpace, choice, constraint
from supernets.losses import at_temperature, soft_cross_entropy
from supernets.strategies import (
    Course,
    DelayedShrinking,
    Distil,
    Pass,
    Progressive,
    Sandwich,
    Step,
    Strategy,
    StrategyError,
    strategy,
)
from supernets.strategies.progressive import FIRST_OPENING, Phase, phases
from supernets.training import train
from tests.contracts.strategy import Cut, course, steps
from tests.search_spaces.strategies import random_spaces

COURSE = course()


@dataclass(frozen=True)
class Full(Strategy):
    """The full network alone."""

    name: ClassVar[str] = "full"

    def step(self, course: Course, index: int) -> Step:
        return Step((Pass(course.space.largest()),))


def cosine(num: int) -> Callable[[int], float]:
    return lambda index: 0.5 * (1 + math.cos(math.pi * index / num))


def on(space: Space, num: int = 100, seed: int = 0) -> Course:
    return Course(space, seed, num, cosine(num), COURSE.supernet, COURSE.task)


def trained(method: Strategy, num: int = 40, until: int | None = None) -> tuple[dict[str, Tensor], list[float]]:
    """Weights and losses after a training, or where it is cut."""

    def before(step: int) -> None:
        if step == until:
            raise Cut

    supernet, losses = toy.supernet(), []
    try:
        result = train(supernet, Digits(before=before), toy.config(steps=num), progress=False, method=method)
        losses = list(result.losses)
    except Cut:
        assert until is not None
    return supernet.state_dict(), losses


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(tensor, b[name]) for name, tensor in a.items())


# --- delayed shrinking ----------------------------------------------------------------------------------------------


def test_weights_are_those_of_the_published_run() -> None:
    """MobileNetV3's: a cosine of 270 epochs from 0.1625, a teacher of 150, a ramp of 5."""
    method, run = DelayedShrinking(start=150 / 270, ramp=5 / 270), on(ToySpace(), 270)
    weights = {epoch: method.weight(run, epoch) for epoch in range(270)}
    assert all(weights[epoch] == 0 for epoch in range(146))
    assert weights[146] == pytest.approx(0.1895, abs=5e-5) and weights[148] == pytest.approx(0.5838, abs=5e-5)
    assert all(weights[epoch] == 1 for epoch in range(150, 270))
    rates = [0.1625 * weights[epoch] * run.rate(epoch) for epoch in range(145, 151)]
    assert rates == pytest.approx([0.1625 * run.rate(150) * i / 5 for i in range(6)])


def test_subnets_enter_with_their_weight_and_imitate_the_full_network() -> None:
    method, run = DelayedShrinking(start=0.5, ramp=0.2, temperature=3.0), on(ToySpace())
    plan, largest, smallest = method.plan(run), ToySpace().largest(), ToySpace().smallest()
    for index in range(100):
        step, weight = plan.step(index), method.weight(run, index)
        assert step.passes[0] == Pass(largest) and step.lr is None and len(step.passes) == (4 if index > 30 else 1)
        assert (weight > 0) == (index > 30)
        imitating = Pass(smallest, weight, 0.0, Distil(at_temperature(soft_cross_entropy, 3.0)))
        assert all(replace(one, arch=smallest) == imitating for one in step.passes[1:])
        assert index <= 30 or step.passes[-1].arch == smallest


def test_before_its_start_the_full_network_trains_alone_bit_for_bit() -> None:
    method = DelayedShrinking(start=0.5, ramp=0.25)  # of 40 steps: from 10, where their weight is still 0
    assert same(trained(method, until=11)[0], trained(Full(), until=11)[0])
    assert not same(trained(method, until=12)[0], trained(Full(), until=12)[0])
    losses, alone = trained(method)[1], trained(Full())[1]
    assert losses[:12] == alone[:12] and losses[12] != alone[12]


def test_from_the_first_step_it_is_the_sandwich_rule() -> None:
    method = DelayedShrinking(start=0, ramp=0)
    assert steps(method.plan(course(seed=3))) == steps(Sandwich().plan(course(seed=3)))
    assert same(trained(method, 12)[0], trained(Sandwich(), 12)[0])
    spelled = strategy("deps(start=0, ramp=0, num_random=1, temperature=2, sample=choices)")
    other = strategy("sandwich(num_random=1, temperature=2, sample=choices)")
    assert steps(spelled.plan(course(seed=3))) == steps(other.plan(course(seed=3)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("deps(start=1)", "start = 1.0: it must be a share of the steps"),
        ("deps(start=0.1, ramp=0.2)", "ramp = 0.2: it ends at start = 0.1"),
        ("deps(num_random=-1)", "num_random = -1"),
        ("progressive(full=0)", "full = 0.0: it must be a share"),
        ("progressive(peak=2)", "peak = 2.0: it must be a factor"),
        ("progressive(sample=all)", "sample = 'all'"),
    ],
)
def test_wrong_settings_are_named(text: str, message: str) -> None:
    with pytest.raises(StrategyError, match=message):
        strategy(text)


# --- progressive shrinking ------------------------------------------------------------------------------------------


class Bounded(Space):
    width = choice(8, 12, 16)
    depth = choice(1, 2, 3)
    ratio = choice(1, 2, per="depth")

    @constraint
    def small(width: int, depth: int) -> bool:
        return width * depth <= 24


def options(phase: Phase, name: str) -> tuple[object, ...]:
    found = {getattr(arch, name) for _, arch in phase.space.variants()}
    flat = {item for value in found for item in (value if isinstance(value, tuple) else (value,))}
    return tuple(sorted(flat, key=float))  # type: ignore[arg-type]


def test_choices_open_one_after_the_other_and_gradually() -> None:
    found = phases(Progressive(), ViTSpace(), 1000)
    shown = [
        (options(phase, "ratio"), options(phase, "heads"), options(phase, "depth"), options(phase, "width"))
        for phase in found[1:]
    ]
    all4 = (1, 2, 3, 4)
    assert shown == [
        ((3, 4), (4,), (4,), (64,)),
        (all4, (4,), (4,), (64,)),
        (all4, (3, 4), (4,), (64,)),
        (all4, all4, (4,), (64,)),
        (all4, all4, (3, 4), (64,)),
        (all4, all4, (2, 3, 4), (64,)),
        (all4, all4, (2, 3, 4), (48, 64)),
        (all4, all4, (2, 3, 4), (32, 48, 64)),
    ]
    assert [phase.num_subnets for phase in found[1:]] == [1, 1, 2, 2, 4, 4, 4, 4]
    assert found[-1].space == ViTSpace()


def test_phases_share_the_steps() -> None:
    found = phases(Progressive(full=0.4), ViTSpace(), 1000)
    assert (found[0].start, found[0].stop, found[-1].stop) == (0, 400, 1000)
    assert all(a.stop == b.start for a, b in pairwise(found))
    short, long = (phase.stop - phase.start for phase in found[1:3])
    assert short + long == 150 and short == round(150 * FIRST_OPENING)
    few = phases(Progressive(), ViTSpace(), 5)
    assert [phase.stop for phase in few][-1] == 5 and all(phase.start < phase.stop for phase in few)
    assert len(phases(Progressive(), ViTSpace(), 1)) == 1
    (alone,) = phases(Progressive(), ViTSpace().at(**ViTSpace().largest()), 50)
    assert alone.stop == 50


def opened(text: str) -> list[str]:
    """The choices of MobileNetSpace in the order in which they are no longer narrowed anywhere."""
    method = strategy(text)
    assert isinstance(method, Progressive)
    shut = []
    for phase in phases(method, MobileNetSpace(), 10_000):
        narrowing = phase.space.declaration()["narrowing"]
        assert isinstance(narrowing, dict)
        shut.append({re.sub(r"\.\d+", "", path) for path in narrowing})
    return [name for before, after in pairwise(shut) for name in before - after]


def test_the_order_can_be_set_and_nested_choices_open_in_all_places() -> None:
    names = ["head", "stages.expansion", "stages.kernel", "stages.depth", "stages.width", "stem"]
    assert opened("progressive") == names
    kernel_first = [names[2], names[3], names[0], names[1], *names[4:]]
    assert opened("progressive(order=stages.kernel+stages.depth)") == kernel_first
    with pytest.raises(StrategyError, match=r"order = 'kernel' is no choice with options to open: name some of stem, "):
        strategy("progressive(order=kernel)").plan(on(MobileNetSpace()))


def test_each_phase_has_a_schedule_of_its_own_with_a_lower_peak() -> None:
    run = on(ToySpace(), 400)
    plan, found = Progressive(peak=0.5).plan(run), phases(Progressive(peak=0.5), ToySpace(), 400)
    assert [phase.peak for phase in found] == pytest.approx([1, 0.5, 0.5 / 3, 0.5])  # depth has two options
    for phase in found:
        rates = [plan.step(index).lr for index in range(phase.start, phase.stop)]
        shares = [index / (phase.stop - phase.start) for index in range(phase.stop - phase.start)]
        expected = [phase.peak * 0.5 * (1 + math.cos(math.pi * share)) for share in shares]
        assert rates == pytest.approx(expected, abs=0.01 * phase.peak)
        assert rates == sorted(rates, reverse=True)  # type: ignore[type-var]


def test_subnets_learn_the_task_and_the_frozen_full_network() -> None:
    plan, largest = Progressive().plan(on(ToySpace())), ToySpace().largest()
    for index in range(100):
        step = plan.step(index)
        assert step.freeze == (largest if index == 30 else None)
        if index < 30:
            assert step.passes == (Pass(largest),)
        else:
            assert all((one.task, one.weight, one.distil) == (1, 1, Distil(teacher="frozen")) for one in step.passes)


def test_the_teacher_is_the_full_network_as_it_was_when_choices_opened() -> None:
    seen: list[Tensor] = []

    def spy(outputs: Tensor, teacher: Tensor) -> Tensor:
        seen.append(teacher)
        return soft_cross_entropy(outputs, teacher)

    @dataclass(frozen=True)
    class Spied(Strategy):
        """Progressive shrinking, with an ear to its teacher."""

        name: ClassVar[str] = "spied"

        def step(self, course: Course, index: int) -> Step:
            step = Progressive(full=0.5).plan(course).step(index)
            spied = (replace(one, distil=one.distil and replace(one.distil, loss=spy)) for one in step.passes)
            return replace(step, passes=tuple(spied))

    config = toy.config(steps=8)
    train(toy.supernet(), Digits(), config, progress=False, method=Spied())
    weights, _ = trained(Spied(), 8, until=4)
    supernet = toy.supernet()
    supernet.load_state_dict(weights)
    teacher = supernet.extract(ToySpace().largest()).eval()
    batches = [index for index in range(4, 8) for _ in Progressive(full=0.5).plan(on(ToySpace(), 8)).step(index).passes]
    assert len(batches) == len(seen) > 4
    for index, said in zip(batches, seen, strict=True):
        assert torch.equal(said, teacher(Digits().batch(index, config.seed)[0]))


def test_a_constraint_holds_options_back_but_not_for_ever() -> None:
    found = phases(Progressive(), Bounded(), 1000)
    assert Bounded().largest().depth == 1  # at width 16 nothing deeper is allowed
    assert [options(phase, "depth") for phase in found[1:]] == [(1,), (1, 2), (1, 2, 3)]
    assert [options(phase, "width") for phase in found[1:]] == [(16,), (12, 16), (8, 12, 16)]
    assert found[-1].space == Bounded() and found[-1].stop == 1000


@given(space=random_spaces(), seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_phases_of_random_spaces_widen_to_the_whole_space(space: Space, seed: int) -> None:
    plan, largest = Progressive().plan(on(space, 30, seed)), space.largest()
    for index in range(30):
        assert all(one.arch in space for one in plan.step(index).passes)
    found = phases(Progressive(), space, 10_000)
    assert [arch for _, arch in found[0].space.variants()] == [largest]
    assert all(largest in phase.space and phase.space.largest() == largest for phase in found)
    if len(found) > 1:
        last = {arch for _, arch in found[-1].space.variants()}
        assert last == {arch for _, arch in space.variants()}
    for a, b in pairwise(found):
        assert all(arch in b.space for _, arch in a.space.variants())
