"""The interface to hardware: the protocol of targets, and their results."""

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
    """The target cannot measure a network, or cannot be set up; the message says what to change."""

    network: int | None = None
    """Position in its set of the network that cannot be measured; None if the target itself fails."""


@dataclass(frozen=True)
class LatencyResult:
    """The latency of a forward pass in milliseconds: median and interquartile range over `repeats` times."""

    median_ms: float
    iqr_ms: float
    repeats: int
    conditions: dict[str, Any] = field(default_factory=dict)
    """JSON: shapes and types of the input, batch size, threads, warm-up, uncertainty, outliers, drift, load."""
    peak_bytes: int | None = None
    """Peak bytes of weights, inputs and activations; None if the target cannot measure them."""
    energy_mj: float | None = None
    """Millijoules of one pass; None if the machine has no readable counter."""
    notes: tuple[str, ...] = ()
    """Warnings in words."""

    def measurement(self, arch: Architecture, target: TargetRecord, network: str) -> Measurement:
        """Return this result as the record to store.

        Args:
            network: fingerprint of everything about the network that the architecture does not determine.
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
        """JSON that, with name and kind, recreates this target."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return the fingerprint of the machine, as JSON: latencies with equal fingerprints are comparable."""
        ...

    def known(self, space: Space) -> Sequence[Architecture] | None:
        """Return the architectures of a space with known latencies; None if the target measures any network."""
        ...

    def measure(
        self, modules: Sequence[nn.Module], example: Tensor | Inputs, archs: Sequence[Architecture] = ()
    ) -> list[LatencyResult]:
        """Return the latencies of a set of networks with architectures `archs`, in evaluation mode on one example.

        All are measured in the same interleaved rounds, so they are comparable. Latencies of different sets are
        comparable only through networks that occur in both, as in `nas.targets.sets`.

        Args:
            example: one input with its batch axis, or several.

        Raises:
            TargetError: the target cannot measure one of the networks; `network` is its position.
        """
        ...


def target_record(target: Target) -> TargetRecord:
    """Return the target with its fingerprint as the record to store."""
    return TargetRecord(target.name, target.kind, target.describe(), target.settings)
