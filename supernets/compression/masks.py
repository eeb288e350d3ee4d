"""Structured pruning by learnt masks: from a trained supernet and limits to one architecture of its space.

As in CoFi (arXiv:2204.00408): masks on units (heads, hidden units, channels) and on whole sublayers are learnt together
under a limit on what is expected to be open, while a parent may teach. Then units are put in the order of their masks,
so that those which masks keep are the leading ones, and the architecture is taken that keeps most of what is expected
to be open under the limits. What comes out is an ordinary network of the space, and its weights are the supernet's.
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
"""Of what masks count: so much at least, and at most, is to be closed. What a limit asks for beyond that, choices give
that no mask is on."""


@dataclass(frozen=True)
class Pruned:
    """What was learnt, and the architecture that follows from it."""

    arch: Architecture
    gates: Gates
    sorted: Sorted


def counted(supernet: Supernet, task: Task) -> Costs:
    """Parameters and multiply-accumulates of a network, exactly."""
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
    """Learn masks that close what a limit asks for, sort the supernet by them, and choose the architecture.

    A limit on parameters or multiply-accumulates, the first there is, says what share is to be closed; where there is
    none, `config.sparsity` does. All limits are kept by the architecture.

    Args:
        limits: the most of each cost, as ``{"macs": 1e6}``.
        costs: what limits are on; None is `counted`. Predicted latencies may stand beside.
        sublayers, norms, directory: as of `learn_gates`.

    Raises:
        FitError: the limits cannot be met; nothing is learnt then.
        SupernetError: as `learn_gates` and `sort_units`.
    """
    costs = lru_cache(maxsize=None)(costs or counted(supernet, task))
    fitted(supernet, lambda arch: 0.0, costs, limits)  # what cannot be met is said before anything is learnt
    config = _aimed(supernet, task, limits, config or GateConfig(), costs, sublayers, norms)
    gates = learn_gates(supernet, task, config, sublayers=sublayers, norms=norms, directory=directory)
    arch = left_by(gates, supernet, costs, limits)
    return Pruned(arch, gates, sort_units(supernet, task, gates))


def left_by(gates: Gates, supernet: Supernet, costs: Costs, limits: Mapping[str, float]) -> Architecture:
    """The architecture under limits that keeps most of what masks are expected to leave open, once units are sorted.

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
    """The settings with the share that the first limit on what masks count asks to be closed."""
    name = next((name for name in limits if name in COSTS), None)
    if name is None:
        return config
    config = replace(config, of=name)
    gates, shapes, prices = gates_of(supernet, task, config, sublayers, norms)
    share = (costs(supernet.space.largest())[name] - limits[name]) / whole_size(shapes, gates, prices)
    return replace(config, sparsity=min(max(share, LEAST), MOST))
