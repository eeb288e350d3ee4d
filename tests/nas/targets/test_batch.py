"""Many networks in a row on a machine that becomes slower meanwhile."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

from nas.targets import LatencyResult
from nas.targets.batch import Series
from search_spaces import Architecture

ARCHS = [Architecture("Tiny", {"width": width}) for width in range(1, 13)]


@dataclass
class Machine:
    """Latencies of `width` ms, times what the machine is slowed down by from the n-th measurement on."""

    factors: dict[int, float]
    asked: int = 0
    factor: float = 1.0

    def measure(self, module: nn.Linear, example: torch.Tensor, arch: Architecture | None = None) -> LatencyResult:
        self.asked += 1
        self.factor = self.factors.get(self.asked, self.factor)
        return LatencyResult(module.in_features * self.factor, 0.001, 100, notes=("its own",))


def measured(machine: Any, calls: int = 1) -> list[tuple[int, LatencyResult]]:
    series = Series(machine, lambda arch: nn.Linear(arch.width, 1), torch.zeros(1), every=4)
    parts = [ARCHS[start : start + len(ARCHS) // calls] for start in range(0, len(ARCHS), len(ARCHS) // calls)]
    return [(arch.width, result) for part in parts for arch, result in series.measure(part)]


def test_a_steady_machine_is_measured_once_and_looked_at_now_and_then() -> None:
    machine = Machine({})
    found = measured(machine)
    assert [(width, result.median_ms) for width, result in found] == [(width, width) for width in range(1, 13)]
    assert machine.asked == len(ARCHS) + 3
    assert {result.notes for _, result in found} == {("its own",)}


@pytest.mark.parametrize("calls", [1, 2, 12])
def test_what_was_measured_on_a_slower_machine_says_so(calls: int) -> None:
    """Slower from the 7th measurement, the 6th network, to the 15th, the look after the 12th."""
    found = measured(Machine({7: 1.5, 15: 1.0}), calls)
    last = dict(found)
    note = "the machine was 50% slower (50% to 50%) than when it began"
    assert [width for width, _ in found] == [*range(1, 9), *range(5, 13)], "the second four come again with the note"
    assert [width for width, result in last.items() if note in result.notes] == list(range(5, 13))
    assert all(result.notes[0] == "its own" for result in last.values())


def test_a_machine_that_is_as_it_was_again_is_not_spoken_of() -> None:
    last = dict(measured(Machine({7: 0.5, 10: 1.0})))
    assert [width for width, result in last.items() if len(result.notes) > 1] == []
    last = dict(measured(Machine({7: 0.5, 12: 1.0})))
    assert [width for width, result in last.items() if "faster" in result.notes[-1]] == [5, 6, 7, 8, 9, 10, 11, 12]
