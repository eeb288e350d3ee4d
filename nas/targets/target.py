"""The seam to hardware: what a target is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from nas.errors import NasError
from nas.records import Measurement, TargetRecord

if TYPE_CHECKING:
    from torch import Tensor, nn

    from search_spaces import Architecture, Space

Inputs = tuple["Tensor", ...]


class TargetError(NasError):
    """A network that this target cannot measure, or a target that cannot be set up; the message says what to change."""

    network: int | None = None
    """Position in its set of the network that cannot be measured; None where it is the target that fails."""


@dataclass(frozen=True)
class LatencyResult:
    """How long a forward pass took, in milliseconds: median and interquartile range of `repeats` that count."""

    median_ms: float
    iqr_ms: float
    repeats: int
    conditions: dict[str, Any] = field(default_factory=dict)
    """JSON: shapes and types of the input, batch size, threads, warm-up, uncertainty, outliers, drift, load."""
    peak_bytes: int | None = None
    """Most bytes that weights, inputs and activations held at once; None where the target cannot tell."""
    energy_mj: float | None = None
    """Millijoules of one pass; None where the machine has no counter that may be read."""
    notes: tuple[str, ...] = ()
    """What was odd, in words."""

    def measurement(self, arch: Architecture, target: TargetRecord, network: str) -> Measurement:
        """This result as the record that is stored.

        Args:
            network: fingerprint of what the choices of an architecture leave open.
        """
        return Measurement(
            arch.digest,
            arch.json(),
            target.name,
            target.version,
            network,
            self.median_ms,
            self.iqr_ms,
            self.repeats,
            dict(self.conditions),
            self.peak_bytes,
            self.energy_mj,
            self.notes,
        )


class Target(Protocol):
    """A machine that networks are measured on."""

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> str: ...

    @property
    def settings(self) -> dict[str, Any]:
        """JSON that makes this target again, beside its name and kind."""
        ...

    def describe(self) -> dict[str, Any]:
        """The fingerprint of the machine, as JSON: latencies of equal fingerprints can be compared."""
        ...

    def known(self, space: Space) -> Sequence[Architecture] | None:
        """The architectures of a space that it can tell of; None where it measures any network."""
        ...

    def measure(
        self, modules: Sequence[nn.Module], example: Tensor | Inputs, archs: Sequence[Architecture] = ()
    ) -> list[LatencyResult]:
        """The latencies of a set of networks, `archs` in their space, in evaluation mode on one example.

        All are measured in the same interleaved rounds, so that they compare with one another. Latencies of different
        sets compare only where networks that both hold tie them together, as `nas.targets.sets` does.

        Args:
            example: one input, with its batch axis, or several.

        Raises:
            TargetError: one of the networks is not one this target can measure; `network` tells which.
        """
        ...


def target_record(target: Target) -> TargetRecord:
    """The target with its fingerprint as the record that is stored."""
    return TargetRecord(target.name, target.kind, target.describe(), target.settings)
