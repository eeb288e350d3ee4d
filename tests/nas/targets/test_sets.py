"""Sets of networks of different days on one scale, tied together by reference networks."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
import torch
from torch import nn

from nas.targets import LatencyResult, TargetError
from nas.targets.sets import MOST_NETWORKS, NUM_REFERENCES, Sets, references
from search_spaces import Architecture, Space, choice


class Wide(Space):
    width = choice(*range(1, 101))


SPACE = Wide()
ARCHS = list(SPACE.enumerate())


@dataclass
class Machine:
    """Latencies of `width` ms, times what the machine is slowed down by on its day."""

    slow: float = 1.0
    fails: frozenset[int] = frozenset()
    uncertainty: float = 0.0
    name: str = "machine"
    sets: list[list[int]] = field(default_factory=list)

    def known(self, space: Space) -> None:
        return None

    def measure(
        self, modules: Sequence[nn.Module], example: torch.Tensor, archs: Sequence[Architecture] = ()
    ) -> list[LatencyResult]:
        widths = [arch.width for arch in archs]
        for position, width in enumerate(widths):
            if width in self.fails:
                error = TargetError(f"width {width} does not run here")
                error.network = position
                raise error
        self.sets.append(widths)
        told = {"uncertainty": self.uncertainty}
        return [LatencyResult(width * self.slow, 0.1 * width * self.slow, 50, told) for width in widths]


def sets(machine: Machine, scale: dict[Architecture, float] | None = None) -> Sets:
    return Sets(machine, SPACE, lambda arch: nn.Linear(arch.width, 1), torch.zeros(1), scale or {})  # type: ignore[arg-type]


def measured(machine: Machine, archs: Sequence[Architecture], **more: object) -> dict[Architecture, LatencyResult]:
    return {arch: result for part in sets(machine, **more).measure(archs) for arch, result in part}  # type: ignore[arg-type]


def test_references_are_the_ends_and_some_between_always_the_same() -> None:
    found = references(SPACE)
    assert len(set(found)) == NUM_REFERENCES and found == references(Wide())
    assert {SPACE.smallest(), SPACE.largest()} < set(found)
    few = SPACE.where(width=(3, 7))
    assert set(references(few)) == set(few.enumerate())


def test_the_first_set_says_what_references_take() -> None:
    machine = Machine(slow=1.5)
    found = measured(machine, ARCHS[:3])
    assert set(found) == {*references(SPACE), *ARCHS[:3]} and len(machine.sets) == 1
    assert all(result.median_ms == pytest.approx(1.5 * arch.width) for arch, result in found.items())
    assert {result.conditions["slowdown"] for result in found.values()} == {1.0}


def test_a_later_set_is_brought_to_the_scale_of_the_first() -> None:
    scale = {arch: result.median_ms for arch, result in measured(Machine(), []).items()}
    today = Machine(slow=1.1)
    found = measured(today, ARCHS[40:44], scale=scale)
    new = [arch for arch in ARCHS[40:44] if arch not in scale]
    assert set(found) - set(scale) == set(new) and set(today.sets[0]) >= {arch.width for arch in scale}
    for arch in new:
        assert found[arch].median_ms == pytest.approx(arch.width) and found[arch].iqr_ms == pytest.approx(
            0.1 * arch.width
        )
        told = found[arch].conditions
        assert told["slowdown"] == pytest.approx(1.1)
        assert told["ratio"] * told["reference_ms"] == pytest.approx(1.1 * arch.width), "of that day"


def test_many_networks_come_in_several_sets_on_one_scale() -> None:
    machine = Machine()
    found: dict[Architecture, LatencyResult] = {}
    for number, part in enumerate(sets(machine).measure(ARCHS)):
        found |= dict(part)
        machine.slow = 1.0 + number / 2
    assert len(machine.sets) == 3 and max(map(len, machine.sets)) <= MOST_NETWORKS + NUM_REFERENCES
    assert [found[arch].median_ms for arch in ARCHS] == pytest.approx([arch.width for arch in ARCHS])


def test_large_networks_are_not_all_held_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.targets.sets.MOST_BYTES", 4 * 3 * (100 + 1))
    machine = Machine()
    wide = [arch for arch in ARCHS if arch.width >= 90]
    assert len(measured(machine, wide)) >= len(wide) and len(machine.sets) == 4


def test_a_reference_that_fails_is_left_out_and_the_others_serve(caplog: pytest.LogCaptureFixture) -> None:
    lost = references(SPACE)[2]
    found = measured(Machine(fails=frozenset({lost.width})), ARCHS[:1])
    assert lost not in found and len(found) >= NUM_REFERENCES - 1
    assert f"reference network {lost.digest[:8]} is left out: width {lost.width} does not run here" in caplog.text


def test_without_any_reference_there_is_no_scale() -> None:
    widths = frozenset(arch.width for arch in references(SPACE))
    with pytest.raises(
        TargetError, match="no reference network of Wide can be measured on 'machine'; the last error was"
    ):
        measured(Machine(fails=widths), [next(arch for arch in ARCHS if arch.width not in widths)])


def test_a_network_that_was_asked_for_and_fails_is_an_error() -> None:
    arch = next(arch for arch in ARCHS if arch not in references(SPACE))
    with pytest.raises(TargetError, match=f"width {arch.width} does not run here"):
        measured(Machine(fails=frozenset({arch.width})), [arch])


def test_a_machine_that_is_too_noisy_says_so_and_what_to_do() -> None:
    rule = (
        r"'machine' is too noisy to measure: when time was up, the latencies of half of \d networks were uncertain "
        r"by 40% or more: stop other programs"
    )
    with pytest.raises(TargetError, match=rule):
        measured(Machine(uncertainty=0.4), ARCHS[:2])
