"""Put the units of a supernet in order once, so that the leading part, which small networks keep, is the right part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from supernets.compression.coupling import CHANGES, Group, Left, Probe, coupled, permuted
from supernets.compression.importance import NUM_BATCHES, Calibration, ImportanceError, Score
from supernets.compression.scores import score
from supernets.errors import SupernetError
from supernets.sharing import Entangled
from supernets.spelling import spell
from supernets.supernet import Supernet
from supernets.tasks import Task, to_device

Custom = Callable[[Group, Calibration], Tensor]
"""A score of the user's own: importances (units,), the higher the earlier."""


@dataclass(frozen=True)
class Sorted:
    """What was done to a supernet's units."""

    score: str
    groups: tuple[Group, ...]
    moved: tuple[int, ...]
    """Of each group, how many units have another place."""
    left: tuple[Left, ...]
    """Elastic axes that stay as they were, and why."""

    def table(self) -> str:
        """One line a group, then what was left alone."""
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

    The largest network computes the same as before. Where its outputs are the units themselves, as an encoder's
    embeddings are, they come in another order, provided that the task's loss is the same for them. A second call with
    the same scores changes nothing.

    Args:
        task: gives the batches that scores are computed on, and inputs to verify with.
        by: a score by name, with settings where it has some, or a function of one's own.

    Raises:
        SupernetError: weights are not entangled; a score is no finite number or of another length; nothing is changed.
    """
    if not isinstance(supernet.sharing, Entangled):
        raise SupernetError(
            f"sharing is {spell(supernet.sharing)}: only entangled weights are sorted, so leave one out"
        )
    chosen = score(by) if isinstance(by, str) else by
    probe = Probe(supernet, task.example(2), _minds(supernet, task))
    found, left = coupled(supernet, probe)
    calibration = Calibration(supernet, task, getattr(chosen, "batches", NUM_BATCHES))
    orders: dict[Group, Tensor] = {}
    for group in found:
        order = _order(group, chosen(group, calibration))
        if probe.agrees(group.parts, order):
            orders[group] = order
        else:
            left.append(Left(group.choices, tuple(part.name for part in group.parts), CHANGES))
    values = dict(supernet.state_dict())
    for group, order in orders.items():
        values |= permuted(values, group.parts, order)
    supernet.load_state_dict(values)
    moved = tuple(int((order != torch.arange(len(order))).sum()) for order in orders.values())
    label = spell(chosen) if isinstance(chosen, Score) else getattr(chosen, "__qualname__", type(chosen).__qualname__)
    return Sorted(label, tuple(orders), moved, tuple(left))


def _minds(supernet: Supernet, task: Task) -> Callable[[Tensor], bool]:
    """Whether the loss of a batch changes with the order of the outputs' features."""

    @torch.no_grad()
    def minds(order: Tensor) -> bool:
        batch = to_device(task.batch(0, 0), supernet.device)
        outputs = task.outputs(supernet.extract(supernet.space.largest()).eval(), batch)
        if outputs.shape[-1] != len(order):
            return True
        before, after = float(task.loss(outputs, batch)), float(task.loss(outputs[..., order], batch))
        return not abs(after - before) <= 1e-5 * abs(before)

    return minds


def _order(group: Group, importance: Tensor) -> Tensor:
    """Units from the most important on; equals keep their places.

    Raises:
        ImportanceError: as many numbers as units are wanted.
    """
    if importance.shape != (group.units,) or not bool(torch.isfinite(importance).all()):
        shape = tuple(importance.shape)
        raise ImportanceError(
            f"the score of {group.label} is of shape {shape}, or holds what is no number: it must be {group.units} "
            "finite numbers, one a unit"
        )
    return torch.sort(importance.double(), descending=True, stable=True).indices
