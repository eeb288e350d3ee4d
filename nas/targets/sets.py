"""Measures networks of a space on a target in sets, all on one scale.

The speed of a machine changes from day to day, with other load and with temperature. A few reference networks of the
space run in every set. The first set records their latencies; a later set is multiplied by the factor that restores
these. So latencies of different days are comparable, and the day's own speed is stored beside them.
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
"""Most networks in a set, in addition to the references."""
MOST_BYTES = 2**30
"""Most bytes of weights of the networks in a set, unless one alone has more."""
_HOPELESS = 0.25
"""Relative uncertainty of the median network above which measurements are refused."""

_logger = logging.getLogger(__name__)

Measured = list[tuple["Architecture", LatencyResult]]


def references(space: Space) -> tuple[Architecture, ...]:
    """Return the smallest and the largest network and diverse ones between, always the same; all of a tiny space."""
    n = min(NUM_REFERENCES, space.count_bound())
    return tuple(space.decode(first(space, n, np.random.default_rng(0))))


@dataclass
class Sets:
    """Measures networks of one space on one target.

    Args:
        network: makes the network of an architecture, independent of shared weights.
        example: one input with its batch axis, or several.
        scale: milliseconds of the references in the first set, as far as known.
    """

    target: Target
    space: Space
    network: Callable[[Architecture], nn.Module]
    example: Tensor | Inputs
    scale: Mapping[Architecture, float] = field(default_factory=dict)

    def measure(self, archs: Sequence[Architecture]) -> Iterator[Measured]:
        """Yield the latencies of networks set by set, including those of new references.

        All latencies are on the scale of the first set. `conditions` contain the measured values: `ratio`, to the
        geometric mean of the references; `reference_ms`, that mean on this day; `slowdown`, relative to the first set.

        Raises:
            TargetError: a network cannot be measured, no reference can, or the target is too noisy.
        """
        if self.target.known(self.space) is not None:  # a table: no references needed
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
        """Group networks that fit in memory together; yields at least one group, which may be empty."""
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
        """Measure the references and a part in one set; return the measurable references and all latencies."""
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
                        f"no reference network of {self.space.name} can be measured on {self.target.name!r}; the last "
                        f"error was: {error}"
                    ) from error
                _logger.warning("reference network %s is left out: %s", failed.digest[:8], error)
                continue
            _refuse_noise(self.target.name, found)
            return anchors, dict(zip(archs, found, strict=True))


def _scaled(
    found: Mapping[Architecture, LatencyResult], anchors: Sequence[Architecture], scale: Mapping[Architecture, float]
) -> dict[Architecture, LatencyResult]:
    """Scale the latencies of a set to the first set; unchanged if this is the first."""
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
    """Return the geometric mean; 1 for no values."""
    return float(np.exp(np.mean(np.log(values)))) if values else 1.0


def _num_bytes(module: nn.Module) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in (*module.parameters(), *module.buffers()))


def _refuse_noise(target: str, found: Sequence[LatencyResult]) -> None:
    """Raise TargetError if at least half of the latencies are too uncertain when time is up."""
    known = [float(result.conditions.get("uncertainty", 0.0)) for result in found]
    middle = float(np.median(known))
    if middle > _HOPELESS:
        raise TargetError(
            f"target {target!r} is too noisy to measure: when time was up, the latencies of half of {len(found)} "
            f"networks were uncertain by {middle:.0%} or more: stop other programs on it, or give it more time "
            "(budget_s=..., max_repeats=...)"
        )
