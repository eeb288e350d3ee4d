"""Hyperband over stand-alone trainings: longer ones go on from shorter ones bit for bit, and a stopped search too."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nas.errors import NasError
from nas.fidelity import Trial
from nas.fidelity.architectures import StandAlone, architecture_search
from search_spaces import Architecture, Space, choice
from supernets import checkpoints
from supernets.training import TrainingConfig
from tests.nas.tiny_run import TinySpace, build, digits

SPACE, TASK = TinySpace(), digits()
CONSTANT = TrainingConfig(
    steps=3, lr=1e-2, schedule="constant", warmup=0.5, precision="fp32", checkpoint_every=2, evaluate_every=0
)
COSINE = replace(CONSTANT, schedule="cosine")
ARCHS = [TinySpace().largest(), TinySpace().smallest()]


class Counting:
    """The task; how many batches it gave."""

    def __init__(self, stop_at: int = -1) -> None:
        self.batches = 0
        self.stop_at = stop_at

    def __getattr__(self, name: str) -> Any:
        return getattr(TASK, name)

    def batch(self, step: int, seed: int) -> Any:
        if self.batches == self.stop_at:
            raise Stopped
        self.batches += 1
        return TASK.batch(step, seed)


class Stopped(BaseException):
    """As a kill."""


def weights(place: Path) -> dict[str, Tensor]:
    return checkpoints.newest(place).tensors


@pytest.mark.parametrize("arch", ARCHS, ids=["largest", "smallest"])
@pytest.mark.parametrize("average", [0.0, 0.5])
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_through_lower_budgets_or_at_once_a_training_ends_the_same(
    tmp_path: Path, arch: Architecture, schedule: str, average: float
) -> None:
    training = replace(CONSTANT, schedule=schedule, average=average)
    stepwise = StandAlone(SPACE, build, TASK, training, tmp_path / "stepwise")
    at_once = StandAlone(SPACE, build, TASK, training, tmp_path / "at_once")
    found = [stepwise(arch, budget) for budget in (1, 3, 9)][-1]
    assert found == at_once(arch, 9)
    (last,) = (tmp_path / "at_once").iterdir()
    expected, got = weights(last), weights(tmp_path / "stepwise" / last.name)
    assert expected.keys() == got.keys()
    assert all(torch.equal(expected[name], got[name]) for name in expected)


def test_only_a_constant_rate_pays_for_the_added_steps_alone(tmp_path: Path) -> None:
    for training, batches in ((CONSTANT, 27), (COSINE, 3 + 9 + 27)):
        task = Counting()
        trained = StandAlone(SPACE, build, task, training, tmp_path / training.schedule)  # type: ignore[arg-type]
        for budget in (1, 3, 9):
            trained(ARCHS[0], budget)
        assert task.batches == batches


def test_the_warm_up_is_as_long_whatever_the_budget(tmp_path: Path) -> None:
    trained = StandAlone(SPACE, build, TASK, CONSTANT, tmp_path)
    assert [round(trained.config(budget).warmup * trained.config(budget).steps) for budget in (1, 2, 27)] == [2] * 3
    assert StandAlone(SPACE, build, TASK, COSINE, tmp_path).config(27).warmup == 0.5
    with pytest.raises(NasError, match=r"warmup = 0.9 is 3 steps: the smallest budget is 3 steps.*lower it"):
        StandAlone(SPACE, build, TASK, replace(CONSTANT, warmup=0.9), tmp_path)


def test_a_lower_budget_after_a_higher_one_is_trained_for_itself(tmp_path: Path) -> None:
    trained = StandAlone(SPACE, build, TASK, CONSTANT, tmp_path / "a")
    high = trained(ARCHS[0], 9)
    assert trained(ARCHS[0], 3) == StandAlone(SPACE, build, TASK, CONSTANT, tmp_path / "b")(ARCHS[0], 3)
    assert trained(ARCHS[0], 9) == high


@pytest.mark.parametrize("after", [4, 13])
def test_a_training_stopped_while_it_goes_on_ends_the_same(tmp_path: Path, after: int) -> None:
    stopped = StandAlone(SPACE, build, Counting(after), CONSTANT, tmp_path / "a")  # type: ignore[arg-type]
    with pytest.raises(Stopped):
        for budget in (1, 3, 9):
            stopped(ARCHS[0], budget)
    again = StandAlone(SPACE, build, TASK, CONSTANT, tmp_path / "a")
    assert again(ARCHS[0], 9) == StandAlone(SPACE, build, TASK, CONSTANT, tmp_path / "b")(ARCHS[0], 9)


class Narrow(Space):
    width = choice(8, 12, 16, 24)
    depth = choice(0, 1, 2)
    ratio = choice(1, 2, 3, per="depth")
    norm = choice("none")


def told(trials: tuple[Trial, ...]) -> list[tuple[str, int, dict[str, float], str | None]]:
    return [(trial.config.digest, trial.budget, trial.metrics, trial.error) for trial in trials]


def test_a_search_is_stopped_and_goes_on_and_is_raised(tmp_path: Path) -> None:
    def search(folder: str, task: Any = TASK, training: TrainingConfig = CONSTANT) -> Any:
        return architecture_search(Narrow(), build, task, training, tmp_path / folder, eta=2, seed=1)

    whole = search("whole")
    first, raised = whole.run(2), whole.run(4)
    assert first.largest == 2 and raised.best is not None
    assert raised.best.metrics.keys() >= {"error"}
    stopped = search("stopped", Counting(20))
    with pytest.raises(Stopped):
        stopped.run(2)
        stopped.run(4)
    again = search("stopped")
    assert told(again.run(2).paid) == told(first.paid)
    assert told(again.run(4).paid) == told(raised.paid)
    with pytest.raises(NasError, match=r"training is .* there and .* here"):
        search("stopped", training=replace(CONSTANT, lr=1e-3))


def test_a_network_that_cannot_be_trained_is_a_failure(tmp_path: Path) -> None:
    def broken(arch: Architecture) -> nn.Module:
        if arch.width == 8:
            raise ValueError("too narrow")
        return build(arch)

    outcome = architecture_search(Narrow(), broken, TASK, CONSTANT, tmp_path, eta=2, seed=0).run(4)
    failed = [trial for trial in outcome.paid if trial.error]
    assert failed and all("too narrow" in str(trial.error) and trial.config.width == 8 for trial in failed)
    assert outcome.best is not None and outcome.best.config.width > 8
