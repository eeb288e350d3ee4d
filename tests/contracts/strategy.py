"""What every training strategy promises. Subclass, and give `method`."""

import dataclasses
from pathlib import Path

import pytest
import torch
import toy
from toy import Digits, ToySpace

from search_spaces import Space
from supernets.spelling import parse, spell
from supernets.strategies import Course, Plan, Step, Strategy
from supernets.supernet import Supernet
from supernets.training import TrainingResult, train

STEPS = 12


class Cut(Exception):
    """Stands for whatever ends a training."""


def course(space: Space | None = None, seed: int = 0, steps: int = STEPS, supernet: Supernet | None = None) -> Course:
    supernet = supernet or toy.supernet()
    return Course(space or supernet.space, seed, steps, lambda step: 1 - step / steps, supernet, Digits())


def steps(plan: Plan, n: int = STEPS) -> list[Step]:
    """What a plan says when it hears nothing."""
    return [plan.step(index) for index in range(n)]


class StrategyContract:
    @pytest.fixture
    def method(self) -> Strategy:
        raise AssertionError("a subclass gives this fixture")

    @staticmethod
    def trained(
        method: Strategy, cut: int | None = None, folder: Path | None = None, steps: int = STEPS, lr: float = 1e-2
    ) -> tuple[TrainingResult, Supernet]:
        supernet = toy.supernet()
        first = method.plan(course(steps=steps)).step(0)
        batches_a_step = len(first.passes) if first.batches == "own" else 1

        def before(batch: int) -> None:
            if cut is not None and batch == cut * batches_a_step:
                raise Cut

        config = toy.config(steps=steps, lr=lr)
        return train(supernet, Digits(before=before), config, directory=folder, progress=False, method=method), supernet

    def test_its_text_reads_back(self, method: Strategy) -> None:
        assert parse(spell(method), {method.name: type(method)}, "strategy") == method
        assert dataclasses.is_dataclass(method) and type(method).__doc__

    def test_steps_are_of_the_space_and_begin_with_what_teaches(self, method: Strategy) -> None:
        narrow = ToySpace().where(width=(8, 12))
        for step in steps(method.plan(course(narrow))):
            assert step.passes and all(one.arch in narrow and one.arch.width < 16 for one in step.passes)
            first = step.passes[0]
            assert first.distil is None or first.distil.teacher != "first"
            assert all(one.task > 0 or one.distil is not None for one in step.passes)

    def test_equal_seeds_give_equal_steps(self, method: Strategy) -> None:
        assert steps(method.plan(course(seed=5))) == steps(method.plan(course(seed=5)))

    @pytest.mark.parametrize("cut", [1, 5, pytest.param(10, marks=pytest.mark.slow)])
    def test_cut_and_resumed_is_as_never_cut(self, method: Strategy, cut: int, tmp_path: Path) -> None:
        whole, reference = self.trained(method)
        with pytest.raises(Cut):
            self.trained(method, cut, tmp_path)
        resumed, supernet = self.trained(method, None, tmp_path)
        assert resumed.resumed_from == cut // 3 * 3
        assert resumed.losses == whole.losses and resumed.curve == whole.curve
        for name, tensor in reference.state_dict().items():
            assert torch.equal(supernet.state_dict()[name], tensor), name

    @pytest.mark.slow
    def test_training_teaches(self, method: Strategy) -> None:
        result, _ = self.trained(method, steps=120, lr=2e-2)
        assert result.final("largest") < 0.6 and result.skipped == 0  # chance is 0.9
