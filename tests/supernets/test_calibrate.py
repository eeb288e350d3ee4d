"""Batch-norm statistics of a subnet are its own, and nothing shared changes."""

from collections.abc import Callable

import pytest
import torch
import toy
from torch import Tensor, nn
from toy import Digits, ToySpace

from supernets import calibrate
from supernets.calibrate import CalibrationError, Calibrator, calibrated, evaluate, has_batch_norm, recalibrate
from supernets.optim import OptimizerConfig
from supernets.supernet import Supernet

ARCHS = [ToySpace().smallest(), ToySpace().largest()]


def shared(supernet: Supernet) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in supernet.state_dict().items()}


def first_norm(module: nn.Module) -> nn.BatchNorm1d:
    return next(child for child in module.modules() if isinstance(child, nn.BatchNorm1d))


@pytest.mark.parametrize("arch", ARCHS)
def test_statistics_are_the_average_over_the_batches(arch: toy.Architecture) -> None:
    supernet = toy.supernet(toy.build_normed)
    batches = list(Digits().calibration(3))
    norm = first_norm(calibrated(supernet, arch, batches))
    inputs = [supernet.subnet(arch).get_submodule("0")(batch) for batch in batches]
    assert norm.running_mean is not None and norm.running_var is not None
    assert torch.allclose(norm.running_mean, torch.stack([x.mean(0) for x in inputs]).mean(0), atol=1e-6)
    assert torch.allclose(norm.running_var, torch.stack([x.var(0) for x in inputs]).mean(0), atol=1e-6)
    assert norm.momentum == 0.1 and not any(child.training for child in norm.modules())


@pytest.mark.parametrize("arch", ARCHS)
def test_nothing_shared_changes(arch: toy.Architecture) -> None:
    supernet = toy.supernet(toy.build_normed)
    before = shared(supernet)
    module = calibrated(supernet, arch, Digits().calibration(3))
    assert all(torch.equal(tensor, before[name]) for name, tensor in supernet.state_dict().items())
    assert not torch.equal(first_norm(module).running_mean, first_norm(supernet.subnet(arch)).running_mean)


def test_calibration_mends_statistics_that_are_wrong() -> None:
    supernet = toy.supernet(toy.build_normed)
    arch = ToySpace().largest()
    expected = calibrated(supernet, arch, Digits().calibration(3))(Digits().example(4))
    with torch.no_grad():
        for name, tensor in supernet.state_dict().items():
            if "running" in name:
                tensor.fill_(torch.nan)
    assert torch.equal(calibrated(supernet, arch, Digits().calibration(3))(Digits().example(4)), expected)


def test_only_batch_norm_runs_as_in_training() -> None:
    module = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(64))
    batch = Digits().example(20)
    recalibrate(module, [batch])
    assert torch.allclose(first_norm(module).running_mean, batch.mean(0), atol=1e-6)


def test_momentum_comes_back_when_a_batch_is_bad() -> None:
    module = nn.Sequential(nn.BatchNorm1d(64, momentum=0.3))
    with pytest.raises(ValueError, match="expected 2D"):
        recalibrate(module, [torch.zeros(64)])
    assert first_norm(module).momentum == 0.3


def test_without_batch_norm_nothing_runs() -> None:
    def never() -> list[Tensor]:
        raise AssertionError

    supernet = toy.supernet()
    module = calibrated(supernet, ARCHS[0], (batch for _ in [0] for batch in never()))
    assert not has_batch_norm(module) and not module.training
    assert has_batch_norm(toy.build_normed(ARCHS[0]))
    assert not has_batch_norm(nn.BatchNorm1d(3, track_running_stats=False))


def test_without_a_batch_there_are_no_statistics() -> None:
    with pytest.raises(CalibrationError, match="at least one training batch"):
        calibrated(toy.supernet(toy.build_normed), ARCHS[0], [])


def test_evaluation_is_of_the_calibrated_network() -> None:
    supernet, task = toy.supernet(toy.build_normed), Digits()
    module = calibrated(supernet, ARCHS[1], task.calibration(calibrate.NUM_BATCHES))
    assert evaluate(supernet, ARCHS[1], task) == task.evaluate(module)
    assert evaluate(supernet, ARCHS[1], task, "test") == task.evaluate(module, "test")


class Counting:
    """Batches, and how often they were run through."""

    def __init__(self) -> None:
        self.batches = list(Digits().calibration(2))
        self.runs = 0

    def __iter__(self) -> object:
        self.runs += 1
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Tensor:
        return self.batches[index]


def change_by_step(supernet: Supernet) -> None:
    supernet.subnet(ToySpace().smallest())(Digits().example(4)).sum().backward()
    supernet.optimizer(OptimizerConfig()).step()


def change_by_loading(supernet: Supernet) -> None:
    supernet.load_state_dict({name: tensor * 2 for name, tensor in supernet.state_dict().items()})


@pytest.mark.parametrize("change", [change_by_step, change_by_loading])
def test_statistics_are_kept_until_weights_change(change: Callable[[Supernet], None]) -> None:
    supernet = toy.supernet(toy.build_normed)
    batches = Counting()
    calibrator = Calibrator(supernet, batches)  # type: ignore[arg-type]
    example = Digits().example(4)
    first = calibrator(ARCHS[1])(example)
    assert torch.equal(calibrator(ARCHS[1])(example), first) and batches.runs == 1
    assert torch.equal(calibrated(supernet, ARCHS[1], batches.batches)(example), first)
    change(supernet)
    assert torch.equal(calibrator(ARCHS[1])(example), calibrated(supernet, ARCHS[1], batches.batches)(example))
    assert batches.runs == 2


def test_the_oldest_statistics_go_first() -> None:
    batches = Counting()
    calibrator = Calibrator(toy.supernet(toy.build_normed), batches, size=1)  # type: ignore[arg-type]
    for arch in (ARCHS[0], ARCHS[1], ARCHS[1], ARCHS[0]):
        calibrator(arch)
    assert batches.runs == 3


def test_training_a_cached_network_does_not_touch_the_cache() -> None:
    calibrator = Calibrator(toy.supernet(toy.build_normed), list(Digits().calibration(2)))
    example = Digits().example(4)
    module = calibrator(ARCHS[1])
    expected = module(example)
    module.train()(example * 100)
    assert torch.equal(calibrator(ARCHS[1])(example), expected)
