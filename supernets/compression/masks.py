"""Structured pruning by learnt masks: from a trained supernet and limits to one architecture of its space.

As in CoFi (arXiv:2204.00408), the method learns masks on units (heads, hidden units, channels) and on whole sublayers
together under a limit on their expected size, optionally with distillation. It then sorts the units by their masks, so
that the kept ones come first, and selects the architecture that keeps the largest expected open part under the limits.
The result is an ordinary network of the space with the supernet's weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from search_spaces import Architecture
from supernets.compression.fitting import Costs, fitted, shapes_of
from supernets.compression.gates import whole_size
from supernets.compression.learnt_gates import COSTS, GateConfig, Gates, gates_of, learn_gates
from supernets.compression.sorting import Sorted, sort_units
from supernets.supernet import Supernet
from supernets.tasks import Task

LEAST, MOST = 0.01, 0.95
"""Least and greatest target share of the masked cost to close. Choices without masks must meet the rest of a limit."""


@dataclass(frozen=True)
class Pruned:
    """The learnt gates, the sorted units, and the selected architecture."""

    arch: Architecture
    gates: Gates
    sorted: Sorted


def counted(supernet: Supernet, task: Task) -> Costs:
    """Return a function that counts the parameters and multiply-accumulates of a network exactly."""
    example = task.example()

    def costs(arch: Architecture) -> dict[str, float]:
        profile = supernet.profile(arch, example)
        return {"params": float(profile.params), "macs": float(profile.macs)}

    return costs


def prune(
    supernet: Supernet,
    task: Task,
    limits: Mapping[str, float],
    config: GateConfig | None = None,
    *,
    costs: Costs | None = None,
    sublayers: Sequence[str] = (),
    norms: bool = False,
    directory: Path | str | None = None,
) -> Pruned:
    """Learn masks that close the share a limit requires, sort the supernet by them, and choose the architecture.

    The first limit on parameters or multiply-accumulates sets the share to close; without one, `config.sparsity` does.
    The architecture meets all limits.

    Args:
        limits: the upper bound of each cost, as ``{"macs": 1e6}``.
        costs: computes the costs that limits bound, such as predicted latencies; None means `counted`.
        sublayers, norms, directory: see `learn_gates`.

    Raises:
        FitError: the limits cannot be met; the check precedes the learning.
        SupernetError: as `learn_gates` and `sort_units`.
    """
    costs = lru_cache(maxsize=None)(costs or counted(supernet, task))
    fitted(supernet, lambda arch: 0.0, costs, limits)  # fail before learning if the limits cannot be met
    config = _aimed(supernet, task, limits, config or GateConfig(), costs, sublayers, norms)
    gates = learn_gates(supernet, task, config, sublayers=sublayers, norms=norms, directory=directory)
    arch = left_by(gates, supernet, costs, limits)
    return Pruned(arch, gates, sort_units(supernet, task, gates))


def left_by(gates: Gates, supernet: Supernet, costs: Costs, limits: Mapping[str, float]) -> Architecture:
    """Return the architecture within the limits that keeps the largest expected open part, once units are sorted.

    Raises:
        FitError: the limits cannot be met.
    """

    def worth(arch: Architecture) -> float:
        return gates.kept(shapes_of(supernet.plan.build, arch))

    return fitted(supernet, worth, costs, limits)


def _aimed(
    supernet: Supernet,
    task: Task,
    limits: Mapping[str, float],
    config: GateConfig,
    costs: Costs,
    sublayers: Sequence[str],
    norms: bool,
) -> GateConfig:
    """Return the settings with the sparsity that the first limit on a cost in COSTS requires."""
    name = next((name for name in limits if name in COSTS), None)
    if name is None:
        return config
    config = replace(config, of=name)
    gates, shapes, prices = gates_of(supernet, task, config, sublayers, norms)
    share = (costs(supernet.space.largest())[name] - limits[name]) / whole_size(shapes, gates, prices)
    return replace(config, sparsity=min(max(share, LEAST), MOST))
