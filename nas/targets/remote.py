"""A machine of a Ray cluster, such as a board, that joins with `ray start --address=... --resources='{"pi5": 1}'`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from nas.execution.cluster import Machine
from nas.targets import networks
from nas.targets.cpu import CPUTarget
from nas.targets.cuda import CUDATarget
from nas.targets.measuring import Repeats
from nas.targets.onnx import ONNXTarget
from nas.targets.settings import settings_of
from nas.targets.target import Inputs, LatencyResult, Target, TargetError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from search_spaces import Architecture

_THERE: dict[str, Callable[..., Target]] = {"cpu": CPUTarget, "cuda": CUDATarget, "onnx": ONNXTarget}


@dataclass(frozen=True)
class RemoteTarget(Repeats, networks.AnyNetwork):
    """The machine of a cluster that has this target's name as a resource; a worker on it measures.

    Raises:
        TargetError: a setting is out of range.
    """

    name: str = "remote"
    on: str = "cpu"
    """How the worker measures: cpu, cuda or onnx."""
    threads: int = 1
    precision: str = "float32"
    address: str = "auto"
    """Address of the Ray cluster: auto, or an address such as ray://head:10001."""
    timeout_s: float = 300.0
    """Seconds to wait for an answer, in addition to the measuring time."""

    kind = "remote"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.on not in _THERE:
            raise TargetError(f"on={self.on!r} is unknown: choose one of {', '.join(_THERE)}")
        networks.check_threads(self.threads)
        networks.check_precision(self.precision)

    @property
    def settings(self) -> dict[str, Any]:
        return settings_of(self)

    def describe(self) -> dict[str, Any]:
        """Return the fingerprint of the worker's machine, and how the worker measures.

        Raises:
            NasError: Ray is missing, no cluster answers, or no machine of it has the name as a resource.
        """
        return dict(self._description)

    def measure(
        self, modules: Sequence[nn.Module], example: Tensor | Inputs, archs: Sequence[Architecture] = ()
    ) -> list[LatencyResult]:
        """Send the networks with their classes; return the worker's measurements, all in the same rounds.

        Raises:
            NasError: as in `describe`; also if another machine now has the name.
        """
        inputs = networks.as_inputs(example)
        networks.check_inputs(inputs)
        networks.each(modules, networks.check)
        busy_s = self.budget_s * len(modules)
        found: list[LatencyResult] = self._machine.call("measure", list(modules), inputs, busy_s=busy_s)
        if (now := self._described()) != self._description:
            other = ", ".join(sorted(key for key in now if now[key] != self._description.get(key)))
            raise TargetError(f"the machine behind {self.name!r} has changed meanwhile ({other}): measure again")
        return found

    @cached_property
    def _description(self) -> dict[str, Any]:
        return self._described()

    def _described(self) -> dict[str, Any]:
        return {**self._machine.call("describe"), "on": self.on}

    @cached_property
    def _machine(self) -> Machine:
        known = {field.name for field in fields(_THERE[self.on])}  # type: ignore[arg-type]
        settings = {field.name: getattr(self, field.name) for field in fields(self) if field.name in known}
        make = partial(_THERE[self.on], **settings)
        return Machine(self.name, make, self.address, int(self.on == "cuda"), self.timeout_s)
