"""Networks of a space measured on a target set by set, all on one scale.

How fast a machine is changes from day to day, with what else runs on it and with its temperature. A handful of
reference networks of the space runs in every set. The first set says what they take; a later set is multiplied by what
brings its references back to that. So latencies of different days compare, and the day's own speed is kept beside them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from nas.predictors.design import first
from nas.targets.target import Inputs, LatencyResult, Target, TargetError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from search_spaces import Architecture, Space

NUM_REFERENCES = 5
MOST_NETWORKS = 40
"""Networks in a set beside the references."""
MOST_BYTES = 2**30
"""Bytes of weights that the networks of a set hold together, unless one alone holds more."""
_HOPELESS = 0.25
"""Uncertainty of the median network from which measuring tells nothing."""

_logger = logging.getLogger(__name__)

Measured = list[tuple["Architecture", LatencyResult]]


def references(space: Space) -> tuple[Architecture, ...]:
    """The smallest and the largest network and diverse ones between, always the same; all where there are so few."""
    n = min(NUM_REFERENCES, space.count_bound())
    return tuple(space.decode(first(space, n, np.random.default_rng(0))))


@dataclass
class Sets:
    """What measures networks of one space on one target.

    Args:
        network: makes the network of an architecture, independent of shared weights.
        example: one input, with its batch axis, or several.
        scale: milliseconds that references took in the first set, as far as they are known.
    """

    target: Target
    space: Space
    network: Callable[[Architecture], nn.Module]
    example: Tensor | Inputs
    scale: Mapping[Architecture, float] = field(default_factory=dict)

    def measure(self, archs: Sequence[Architecture]) -> Iterator[Measured]:
        """The latencies of networks, set by set; those of references are among them where they are new.

        A set yields all its networks on the scale of the first one. `conditions` tell what lies behind a latency:
        `ratio`, to the geometric mean of the references; `reference_ms`, what that took on this day; `slowdown`, how
        many times as long as in the first set.

        Raises:
            TargetError: a network cannot be measured, or no reference can; or the target is too noisy to measure.
        """
        if self.target.known(self.space) is not None:  # recorded, so there is nothing to repeat
            modules = [self.network(arch) for arch in archs]
            yield list(zip(archs, self.target.measure(modules, self.example, archs), strict=True))
            return
        scale, anchors = dict(self.scale), list(self.scale or references(self.space))
        for part in self._parts(archs):
            anchors, results = self._with(anchors, part)
            found = _scaled(results, anchors, scale)
            scale |= {arch: found[arch].median_ms for arch in anchors if arch not in scale}
            yield [(arch, result) for arch, result in found.items() if arch in part or arch not in self.scale]

    def _parts(self, archs: Sequence[Architecture]) -> Iterator[dict[Architecture, nn.Module]]:
        """Networks in groups that may be held in memory together; at least one group, if of none."""
        part: dict[Architecture, nn.Module] = {}
        held = 0
        for arch in archs:
            module = self.network(arch)
            size = _num_bytes(module)
            if part and (len(part) == MOST_NETWORKS or held + size > MOST_BYTES):
                yield part
                part, held = {}, 0
            part[arch] = module
            held += size
        yield part

    def _with(
        self, anchors: Sequence[Architecture], part: Mapping[Architecture, nn.Module]
    ) -> tuple[list[Architecture], dict[Architecture, LatencyResult]]:
        """References that can be measured, and the latencies of these and of a part, as they were in one set."""
        anchors = list(anchors)
        while True:
            modules = {arch: self.network(arch) for arch in anchors if arch not in part} | dict(part)
            archs = list(modules)
            try:
                found = self.target.measure(list(modules.values()), self.example, archs)
            except TargetError as error:
                failed = archs[error.network] if error.network is not None else None
                if failed is None or failed in part or failed not in anchors:
                    raise
                anchors.remove(failed)
                if not anchors:
                    raise TargetError(
                        f"no reference network of {self.space.name} can be measured on {self.target.name!r}, the last "
                        f"failed so: {error}"
                    ) from error
                _logger.warning("reference network %s is left out: %s", failed.digest[:8], error)
                continue
            _refuse_noise(self.target.name, found)
            return anchors, dict(zip(archs, found, strict=True))


def _scaled(
    found: Mapping[Architecture, LatencyResult], anchors: Sequence[Architecture], scale: Mapping[Architecture, float]
) -> dict[Architecture, LatencyResult]:
    """Latencies of a set on the scale of the first one; as they are where this is the first."""
    slowdown = _middle([found[arch].median_ms / scale[arch] for arch in anchors if arch in scale])
    reference_ms = _middle([found[arch].median_ms for arch in anchors])
    told = {"reference_ms": reference_ms, "slowdown": slowdown}
    return {
        arch: replace(
            result,
            median_ms=result.median_ms / slowdown,
            iqr_ms=result.iqr_ms / slowdown,
            conditions={**result.conditions, "ratio": result.median_ms / reference_ms, **told},
        )
        for arch, result in found.items()
    }


def _middle(values: Sequence[float]) -> float:
    """Geometric mean; 1 of none."""
    return float(np.exp(np.mean(np.log(values)))) if values else 1.0


def _num_bytes(module: nn.Module) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in (*module.parameters(), *module.buffers()))


def _refuse_noise(target: str, found: Sequence[LatencyResult]) -> None:
    """TargetError where half of the latencies are hardly known when time is up."""
    known = [float(result.conditions.get("uncertainty", 0.0)) for result in found]
    middle = float(np.median(known))
    if middle > _HOPELESS:
        raise TargetError(
            f"target {target!r} is too noisy to measure: when time was up half of {len(found)} networks "
            f"were known to {middle:.0%} at best: end what else runs on it, or give it more time (budget_s=..., "
            "max_repeats=...)"
        )
