"""The CPU target: the contract, and with a clock of its own what it makes of the times it sees."""

import gc
import itertools
from collections.abc import Iterable
from statistics import median
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nas.records import TargetRecord
from nas.targets import TARGETS, CPUTarget, Target, TargetError, target_record
from nas.targets.memory import peak_bytes
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
    module = Scripted(itertools.chain(seconds, itertools.repeat(0.0)))
    (result,) = CPUTarget(clock=module.clock, **settings).measure([module], X)
    return result, module


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
    rng, found = np.random.default_rng(0), {}
    for asked in (0.02, 0.01):
        noisy = iter(lambda: float(rng.lognormal(-4.6, 0.2)), None)
        result, _ = measure(noisy, budget_s=1000, warmup=0, uncertainty=asked, max_repeats=10_000)
        assert result.conditions["settled"] and result.conditions["uncertainty"] <= asked
        assert result.repeats == result.conditions["rounds"] // 4
        found[asked] = result.repeats
    # four times as many for half of it, and a look is taken every tenth more
    assert 2.5 < found[0.01] / found[0.02] < 6


def test_of_rounds_that_follow_one_another_the_fastest_pass_counts() -> None:
    """Every other pass is interrupted, for as long as the network takes."""
    rng = np.random.default_rng(0)
    noisy = iter(lambda: 0.01 * (1 + float(rng.random() < 0.5)), None)
    result, _ = measure(noisy, budget_s=0, min_repeats=100)
    assert (result.repeats, result.median_ms, result.iqr_ms) == (25, pytest.approx(10), pytest.approx(0))
    assert measure(itertools.repeat(0.01), budget_s=0)[0].repeats == 10, "not of few rounds"


def test_time_and_repeats_are_bounded() -> None:
    result, module = measure(itertools.cycle([0.1, 1.0]), budget_s=10)
    assert not result.conditions["settled"] and 10 <= module.now <= 12.1, "and a pass for memory"
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
        CPUTarget(threads=before + 1, clock=module.clock).measure([module], X)
    assert torch.get_num_threads() == before and gc.isenabled() and module.training


def test_the_real_clock_agrees_with_itself() -> None:
    module, seen = nn.Linear(256, 256), []
    target = CPUTarget(budget_s=0.05)
    for _ in range(3):
        seen.append(target.measure([module], torch.randn(64, 256))[0].median_ms)
    assert 0 < median(seen) < 1000


def test_weights_elsewhere_are_an_error() -> None:
    with pytest.raises(TargetError, match=r"'weight' is on meta.*\.to\('cpu'\)"):
        CPUTarget().measure([nn.Linear(1, 1, device="meta")], X)
    with pytest.raises(TargetError, match="'input 0' is on meta"):
        CPUTarget().measure([nn.Linear(1, 1)], X.to("meta"))


def test_a_flat_storage_filled_by_its_own_parameters_is_no_view() -> None:
    flat, module = torch.randn(6), nn.Linear(2, 2)
    module.weight, module.bias = nn.Parameter(flat[:4].view(2, 2)), nn.Parameter(flat[4:])
    assert CPUTarget(budget_s=0.01).measure([module], torch.randn(1, 2))[0].repeats >= 10


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"threads": 0}, "threads=0: give 1 or more"),
        ({"precision": "int3"}, "precision='int3' is unknown: choose one of float32, bfloat16, float16"),
        ({"warmup": -1}, "warmup=-1, min_repeats=10 and max_repeats=1000: give a warm-up of 0 or more"),
        ({"min_repeats": 1}, "min_repeats=1 and max_repeats=1000: give .* 2 <= min_repeats"),
        ({"max_repeats": 3}, "min_repeats=10 and max_repeats=3: give .* 2 <= min_repeats"),
        ({"budget_s": -1.0}, "budget_s=-1.0: give numbers, 0 or more"),
        ({"uncertainty": float("nan")}, "uncertainty=nan"),
    ],
)
def test_settings_out_of_range_are_an_error(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(TargetError, match=message):
        CPUTarget(**settings)


def test_a_result_becomes_the_record_that_is_stored() -> None:
    arch, target = Architecture("Tiny", {"width": 8}), TargetRecord("cpu", "cpu", {"threads": 1})
    result, _ = measure(itertools.repeat(0.002))
    record = result.measurement(arch, target, "a network")
    assert (record.arch_digest, record.architecture) == (arch.digest, arch.json())
    assert (record.target, record.version, record.network) == ("cpu", target.version, "a network")
    assert (record.median_ms, record.iqr_ms, record.repeats) == (result.median_ms, result.iqr_ms, result.repeats)
    assert (record.peak_bytes, record.energy_mj, record.notes) == (4, None, ())


def test_another_precision_is_a_copy_and_another_version() -> None:
    module, x = nn.Linear(64, 64), torch.randn(8, 64)
    plain, half = CPUTarget(budget_s=0.01), CPUTarget(budget_s=0.01, precision="bfloat16")
    assert half.measure([module], x)[0].conditions["dtypes"] == ["bfloat16"]
    assert module.weight.dtype == torch.float32 and plain.measure([module], x)[0].conditions["dtypes"] == ["float32"]
    assert target_record(plain).version != target_record(half).version
    assert target_record(half).settings == {"budget_s": 0.01, "precision": "bfloat16"}


def test_peak_memory_is_what_is_held_at_once() -> None:
    """4-byte numbers: the weights of both layers, the input, and the outputs of two operations at a time."""
    module = nn.Sequential(nn.Linear(10, 100, bias=False), nn.Linear(100, 20, bias=False))
    (result,) = CPUTarget(budget_s=0.01).measure([module], torch.randn(5, 10))
    assert result.peak_bytes == 4 * (10 * 100 + 100 * 20 + 5 * 10 + 5 * 100 + 5 * 20)


def test_what_is_let_go_of_is_no_longer_counted() -> None:
    def run() -> None:
        for _ in range(10):
            torch.zeros(1000).add_(1).view(10, 100).relu()

    assert peak_bytes(run) == 8000


def test_energy_is_that_of_one_pass() -> None:
    """A counter of 3 mJ a second, read over passes of 0.25 s for as long as it needs."""
    module = Scripted(itertools.repeat(0.25))

    class Counted:
        span_s = 1.0

        def read(self) -> float:
            return 3 * module.now

        def used_mj(self, before: float, after: float) -> float:
            return after - before

    (result,) = CPUTarget(clock=module.clock, energy=Counted()).measure([module], X)
    assert result.energy_mj == pytest.approx(0.75)
