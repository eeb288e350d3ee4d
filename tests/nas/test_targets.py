"""The CPU target: the contract, and with a clock of its own what it makes of the times it sees."""

import gc
import itertools
from collections.abc import Iterable
from statistics import median

import pytest
import torch
from torch import Tensor, nn

from nas.targets import TARGETS, CPUTarget, Target, TargetError
from search_spaces import Architecture
from tests.contracts.target import TargetContract

X = torch.zeros(1, 1)


class TestCPUTarget(TargetContract):
    @pytest.fixture
    def target(self) -> Target:
        return TARGETS["cpu"](budget_s=0.02, max_repeats=20)


class Scripted(nn.Module):
    """A network whose passes take the given seconds, on a clock that only they move."""

    def __init__(self, seconds: Iterable[float]) -> None:
        super().__init__()
        self.seconds = iter(seconds)
        self.now = 0.0
        self.threads: list[int] = []
        self.modes: list[tuple[bool, bool, bool]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.now += next(self.seconds)
        self.threads.append(torch.get_num_threads())
        self.modes.append((self.training, torch.is_inference_mode_enabled(), gc.isenabled()))
        return x

    def clock(self) -> float:
        return self.now


def measure(seconds: Iterable[float], **settings):
    module = Scripted(seconds)
    return CPUTarget(clock=module.clock, **settings).measure(module, X), module


def test_equal_times_settle_at_once() -> None:
    result, _ = measure(itertools.repeat(0.004), budget_s=0)
    assert result.median_ms == pytest.approx(4) and result.iqr_ms == pytest.approx(0)
    assert result.repeats == 10 and result.conditions["settled"] and result.conditions["warmup"] == 3


def test_warm_up_does_not_count() -> None:
    result, _ = measure([9.0, 9.0, 9.0, *[0.001] * 10])
    assert result.median_ms == pytest.approx(1)


def test_short_passes_are_warmed_up_for_a_tenth_of_the_budget() -> None:
    result, _ = measure(itertools.repeat(0.01), budget_s=2)
    assert result.conditions["warmup"] == 20


def test_interrupted_passes_do_not_move_the_result() -> None:
    quiet = [0.0100, 0.0101, 0.0102, 0.0103]
    result, _ = measure(itertools.cycle([*quiet, 5.0, *quiet]), budget_s=0)
    assert 10 <= result.median_ms <= 10.3 and result.iqr_ms < 0.5


def test_noise_is_repeated_until_the_median_is_known() -> None:
    noisy = itertools.cycle([0.008, 0.009, 0.010, 0.011, 0.012])
    result, _ = measure(noisy, budget_s=1000, warmup=0)
    assert result.conditions["settled"]
    # IQR is 2 ms: 1.57 * 2 / sqrt(n) <= 0.02 * 10 from n = 247 on
    assert 200 <= result.repeats <= 260
    assert result.median_ms == pytest.approx(10, rel=0.02)


def test_time_and_repeats_are_bounded() -> None:
    result, module = measure(itertools.cycle([0.1, 1.0]), budget_s=10)
    assert not result.conditions["settled"] and 10 <= module.now <= 11
    result, _ = measure(itertools.cycle([0.1, 1.0]), budget_s=1000, max_repeats=12)
    assert result.repeats == 12 and not result.conditions["settled"]


def test_slow_networks_still_get_their_least_repeats() -> None:
    result, _ = measure(itertools.repeat(60.0), budget_s=1, min_repeats=4, warmup=1)
    assert result.repeats == 4 and result.median_ms == pytest.approx(60_000)


def test_threads_and_modes_are_set_and_put_back() -> None:
    before = torch.get_num_threads()
    result, module = measure(itertools.repeat(0.5), threads=before + 1)
    assert set(module.threads) == {before + 1} and torch.get_num_threads() == before
    assert set(module.modes) == {(False, True, False)} and gc.isenabled() and module.training
    assert result.conditions["threads"] == before + 1


def test_all_is_put_back_when_the_network_fails() -> None:
    before, module = torch.get_num_threads(), Scripted([])
    with pytest.raises(StopIteration):
        CPUTarget(threads=before + 1, clock=module.clock).measure(module, X)
    assert torch.get_num_threads() == before and gc.isenabled() and module.training


def test_the_real_clock_agrees_with_itself() -> None:
    module, seen = nn.Linear(256, 256), []
    target = CPUTarget(budget_s=0.05)
    for _ in range(3):
        seen.append(target.measure(module, torch.randn(64, 256)).median_ms)
    assert 0 < median(seen) < 1000


def test_weights_elsewhere_are_an_error() -> None:
    with pytest.raises(TargetError, match=r"'weight' is on meta.*\.to\('cpu'\)"):
        CPUTarget().measure(nn.Linear(1, 1, device="meta"), X)
    with pytest.raises(TargetError, match="'input 0' is on meta"):
        CPUTarget().measure(nn.Linear(1, 1), X.to("meta"))


def test_a_flat_storage_filled_by_its_own_parameters_is_no_view() -> None:
    flat, module = torch.randn(6), nn.Linear(2, 2)
    module.weight, module.bias = nn.Parameter(flat[:4].view(2, 2)), nn.Parameter(flat[4:])
    assert CPUTarget(budget_s=0.01).measure(module, torch.randn(1, 2)).repeats >= 10


@pytest.mark.parametrize("settings", [{"threads": 0}, {"warmup": -1}, {"min_repeats": 1}, {"max_repeats": 3}])
def test_settings_out_of_range_are_an_error(settings: dict[str, int]) -> None:
    with pytest.raises(TargetError, match="target 'cpu' has"):
        CPUTarget(**settings)


def test_a_result_becomes_the_record_that_is_stored() -> None:
    arch = Architecture("Tiny", {"width": 8})
    result, _ = measure(itertools.repeat(0.002))
    record = result.measurement(arch, "cpu")
    assert (record.arch_digest, record.architecture, record.target) == (arch.digest, arch.json(), "cpu")
    assert (record.median_ms, record.iqr_ms, record.repeats) == (result.median_ms, result.iqr_ms, result.repeats)
