"""CUDA targets: the contract where there is a device; elsewhere what is asked of a made-up one."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from nas.targets import CUDATarget, Target, TargetError, networks
from tests.contracts.target import TargetContract


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
class TestCUDATarget(TargetContract):
    @pytest.fixture
    def target(self) -> Target:
        return CUDATarget(budget_s=0.02, max_repeats=20)

    def test_it_knows_its_memory(self, target: Target) -> None:
        (result,) = target.measure([nn.Linear(1000, 1000, bias=False)], torch.randn(10, 1000))
        assert result.peak_bytes is not None and 4_000_000 <= result.peak_bytes < 30_000_000


def test_a_device_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(TargetError, match="target 'gpu' needs CUDA device 0, but PyTorch finds 0 devices: check"):
        CUDATarget("gpu").describe()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(TargetError, match="target 'gpu' needs CUDA device 2, but PyTorch finds 2 devices: choose"):
        CUDATarget("gpu", index=2).measure([nn.Linear(1, 1)], torch.zeros(1, 1))
    with pytest.raises(TargetError, match="index=-1: give 0 for the first CUDA device"):
        CUDATarget(index=-1)


def test_passes_are_timed_by_events_of_the_device_after_they_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device on which every pass takes 2 ms, and which says so only when it has been waited for."""
    log: list[str] = []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            self.waited = not enable_timing

        def record(self) -> None:
            log.append("event")

        def synchronize(self) -> None:
            log.append("waited")
            self.waited = True

        def elapsed_time(self, end: "Event") -> float:
            assert end.waited and log[-3:-1] != ["event", "event"], "a pass lies between the events"
            end.waited = False
            return 2.0

    class Logged(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            log.append("pass")
            return super().forward(x)

    class Device:
        def __init__(self, *_: Any) -> None: ...
        def __enter__(self) -> None: ...
        def __exit__(self, *_: Any) -> None: ...

    allocated = iter([500])
    fakes: dict[str, Any] = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "device": Device,
        "Event": Event,
        "synchronize": lambda device: log.append("synchronised"),
        "memory_allocated": lambda device: next(allocated),
        "reset_peak_memory_stats": lambda device: log.append("reset"),
        "max_memory_allocated": lambda device: 1700,
        "get_device_properties": lambda device: SimpleNamespace(uuid="1"),
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    for name in ("ready", "inputs_in"):
        on_cpu = getattr(networks, name)
        monkeypatch.setattr(networks, name, lambda x, precision, device, made=on_cpu: made(x, precision))
    (result,) = CUDATarget(budget_s=0, min_repeats=4).measure([Logged(4, 2)], torch.randn(3, 4))
    assert (result.median_ms, result.iqr_ms, result.repeats) == (2.0, 0.0, 4)
    assert log[:4] == ["event", "pass", "event", "waited"]
    assert log[-3:] == ["reset", "pass", "synchronised"]
    assert result.peak_bytes == 1200 + 4 * (4 * 2 + 2 + 3 * 4), "without what was there before, with weights and inputs"
