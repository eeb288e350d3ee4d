"""Sort the units of a supernet by importance, so that small networks, which keep the leading ones, keep the best."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from supernets.compression.coupling import CHANGES, Left, coupled
from supernets.compression.importance import NUM_BATCHES, Calibration, Score
from supernets.compression.scores import score
from supernets.compression.symmetry import Networks, exact, same
from supernets.compression.units import Group, permuted
from supernets.errors import CompressionError, SupernetError
from supernets.sharing import Entangled
from supernets.spelling import spell
from supernets.supernet import Supernet
from supernets.tasks import Task, to_device

Custom = Callable[[Group, Calibration], Tensor]
"""A custom score: importances (units,), where higher comes first."""


@dataclass(frozen=True)
class Sorted:
    """The result of sorting a supernet's units."""

    score: str
    groups: tuple[Group, ...]
    moved: tuple[int, ...]
    """The number of units in each group that changed place."""
    left: tuple[Left, ...]
    """Elastic axes that keep their order, and the reason."""

    def table(self) -> str:
        """Return one line per group, then the axes left alone."""
        total = sum(group.units for group in self.groups)
        lines = [f"sorted by {self.score}: {len(self.groups)} groups, {sum(self.moved):,} of {total:,} units moved"]
        for group, moved in zip(self.groups, self.moved, strict=True):
            also = ", and the outputs' features with them" if group.outputs else ""
            lines.append(f"  {group.label}: {moved} of {group.units} units, {len(group.parts)} axes{also}")
        lines += [
            f"  left {', '.join(left.names[:3])}{', ...' * (len(left.names) > 3)}: {left.why}" for left in self.left
        ]
        return "\n".join(lines)


def sort_units(supernet: Supernet, task: Task, by: str | Score | Custom = "taylor") -> Sorted:
    """Reorder the shared weights in place, the most important unit of every coupled group first.

    The largest network computes the same function as before. If its output features are themselves units, as an
    encoder's embeddings are, they are reordered too, provided that the task's loss does not depend on their order. A
    second call with the same scores changes nothing.

    Args:
        task: provides the batches for scores and the inputs for verification.
        by: a score by name, optionally with settings, or a custom function.

    Raises:
        SupernetError: weights are not entangled, a score is not finite or has the wrong length, or outputs are not
            finite. The weights then stay unchanged.
    """
    if not isinstance(supernet.sharing, Entangled):
        raise SupernetError(
            f"sharing is {spell(supernet.sharing)}: only entangled weights are sorted, so leave one out"
        )
    chosen = score(by) if isinstance(by, str) else by
    networks = Networks(supernet, task.example(2))
    found, left = coupled(networks, _minds(supernet, task))
    calibration = Calibration(supernet, task, getattr(chosen, "batches", NUM_BATCHES))
    orders = {group: _order(group, chosen(group, calibration)) for group in found}
    kept = _kept(networks, orders)
    left += [Left(own.choices, tuple(part.name for part in own.parts), CHANGES) for own in orders if own not in kept]
    supernet.load_state_dict(_sorted(supernet.state_dict(), kept))
    moved = tuple(int((order != torch.arange(len(order))).sum()) for order in kept.values())
    label = spell(chosen) if isinstance(chosen, Score) else getattr(chosen, "__qualname__", type(chosen).__qualname__)
    return Sorted(label, tuple(kept), moved, tuple(left))


def _sorted(values: Mapping[str, Tensor], orders: Mapping[Group, Tensor]) -> dict[str, Tensor]:
    """Return all tensors with their units in these orders."""
    found = dict(values)
    for group, order in orders.items():
        found |= permuted(found, group.parts, order)
    return found


@torch.no_grad()
def _kept(networks: Networks, orders: Mapping[Group, Tensor]) -> dict[Group, Tensor]:
    """Return the orders that preserve what the networks compute with their actual weights.

    Usually these are all orders, because groups were verified on random weights. If something depends on the values of
    weights, the function tests the groups one by one.
    """
    values = {name: exact(tensor) for name, tensor in networks.supernet.state_dict().items()}
    expected = networks.outputs(values)
    if not all(bool(torch.isfinite(output).all()) for own in expected for output in own):
        raise SupernetError(
            "networks give what is no finite number on the example, so nothing can be verified on it: see that the "
            "weights and the data are finite"
        )

    def agrees(orders: Mapping[Group, Tensor], index: Tensor | None) -> bool:
        return same(networks.outputs(_sorted(values, orders)), expected, index)

    def moved(group: Group, order: Tensor) -> list[Tensor | None]:
        return [part.index(order) for part in group.parts if part.blocks == 1] if group.outputs else [None]

    inside = {group: order for group, order in orders.items() if not group.outputs}
    found = inside if agrees(inside, None) else {g: order for g, order in inside.items() if agrees({g: order}, None)}
    shown = {group: order for group, order in orders.items() if group.outputs}
    return found | {g: o for g, o in shown.items() if any(agrees({g: o}, index) for index in moved(g, o))}


@torch.no_grad()
def _minds(supernet: Supernet, task: Task) -> Callable[[Tensor], bool]:
    """Return a function that tells whether an order of the outputs' features changes the loss of a batch."""
    batch = to_device(task.batch(0, 0), supernet.device)
    outputs = task.outputs(supernet.extract(supernet.space.largest()).eval(), batch)
    before = float(task.loss(outputs, batch))

    @torch.no_grad()
    def minds(order: Tensor) -> bool:
        if outputs.shape[-1] != len(order):
            return True
        after = float(task.loss(outputs[..., order.to(outputs.device)], batch))
        return not abs(after - before) <= 1e-5 * abs(before)

    return minds


def _order(group: Group, importance: Tensor) -> Tensor:
    """Return the indices of units by falling importance; ties keep their order.

    Raises:
        CompressionError: the importances are not one finite number per unit.
    """
    if importance.shape != (group.units,) or not bool(torch.isfinite(importance).all()):
        shape = tuple(importance.shape)
        raise CompressionError(
            f"the score of {group.label} is of shape {shape}, or holds what is no number: it must be {group.units} "
            "finite numbers, one a unit"
        )
    return torch.sort(importance.double(), descending=True, stable=True).indices
