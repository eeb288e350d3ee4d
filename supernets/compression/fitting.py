"""Choose the architecture that keeps the most important units under limits.

When units are sorted by importance, a smaller network keeps the leading ones, so every network of the space has a
worth: with learnt gates, the expected open part of what it keeps; with scores, the sum over the units it keeps. A
greedy descent starts at the largest network and repeatedly takes the smaller option that loses the least worth per
saving, as NViT (arXiv:2110.04869) removes units by saliency over latency. This requires worths that are comparable
across layers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from search_spaces import Architecture, Space
from supernets.compression.importance import NUM_BATCHES, Calibration, Score
from supernets.compression.scores import score
from supernets.compression.units import Group
from supernets.errors import CompressionError
from supernets.layout import Shape
from supernets.skeleton import Build, build_skeleton
from supernets.supernet import Supernet
from supernets.tasks import Task
from supernets.views import tensors

Worth = Callable[[Architecture], float]
Costs = Callable[[Architecture], Mapping[str, float]]
"""Maps an architecture to its costs by name: parameters, multiply-accumulates, predicted latencies."""


class FitError(CompressionError):
    """The descent met no network within the limits, or a limit is invalid."""


def shapes_of(build: Build, arch: Architecture) -> dict[str, Shape]:
    """Return the shapes of a network's parameters and buffers by name, without initialising it."""
    return {name: tuple(tensor.shape) for name, tensor in tensors(build_skeleton(build, arch)).items()}


def saliency(supernet: Supernet, task: Task, groups: Sequence[Group], by: str | Score = "hessian") -> Worth:
    """Return the worth of a network as the sum of a score over the units it keeps, once sorted by that score.

    The score must be comparable across groups, as the gradient-based `hessian` and `taylor` are.
    """
    chosen = score(by) if isinstance(by, str) else by
    calibration = Calibration(supernet, task, getattr(chosen, "batches", NUM_BATCHES))
    sums: dict[Group, Tensor] = {
        group: torch.sort(chosen(group, calibration).double(), descending=True).values.cumsum(0) for group in groups
    }

    def worth(arch: Architecture) -> float:
        shapes = shapes_of(supernet.plan.build, arch)
        kept = ((own, _units(group, shapes)) for group, own in sums.items())
        return sum(float(own[units - 1]) for own, units in kept if units)

    return worth


def _units(group: Group, shapes: Mapping[str, Shape]) -> int:
    there = next((part for part in group.parts if part.name in shapes), None)
    return 0 if there is None else shapes[there.name][there.axis] * group.units // there.size


def fitted(supernet: Supernet, worth: Worth, costs: Costs, limits: Mapping[str, float]) -> Architecture:
    """Return an architecture within every limit, of high worth: a greedy descent, then local improvement.

    After the descent, single choices change while that increases the worth within the limits; no single change would
    improve the result.

    Args:
        limits: the upper bound of each cost.

    Raises:
        FitError: the descent ends above a limit (the message gives the costs it reached), `limits` is empty, or a limit
            names no cost or is not a positive finite number.
    """
    return _Descent(supernet.space, worth, costs, limits).run()


class _Descent:
    """The greedy descent from the largest network to one within the limits."""

    def __init__(self, space: Space, worth: Worth, costs: Costs, limits: Mapping[str, float]) -> None:
        self.space, self.limits = space, limits
        self.worth = lru_cache(maxsize=None)(worth)
        self.costs = lru_cache(maxsize=None)(costs)
        known = self.costs(space.largest())
        for name, most in limits.items():
            if name not in known or not 0 < most < math.inf:
                there = ", ".join(known)
                raise FitError(f"limit {name} <= {most!r}: it must be above 0, on one of {there}")
        if not limits:
            raise FitError(f"limits is empty: name the most of one or more of {', '.join(known)}")

    def run(self) -> Architecture:
        arch = self.space.largest()
        while (over := self._excess(arch)) > 0:
            steps = [one for one in self._smaller(arch) if self._excess(one) < over]
            if not steps:
                raise FitError(self._unreached(arch))
            arch = min(steps, key=lambda one: (self._lost(arch, one) / (over - self._excess(one)), one.digest))
        while better := [one for one in self.space.neighbours(arch) if self._better(one, arch)]:
            arch = max(better, key=lambda one: (self.worth(one), one.digest))
        return arch

    def _excess(self, arch: Architecture) -> float:
        """Return the sum of the excesses over the limits, each relative to its limit."""
        return sum(max(0.0, self.costs(arch)[name] / most - 1) for name, most in self.limits.items())

    def _lost(self, arch: Architecture, one: Architecture) -> float:
        return self.worth(arch) - self.worth(one)

    def _better(self, one: Architecture, arch: Architecture) -> bool:
        return self._excess(one) == 0 and self.worth(one) > self.worth(arch)

    def _smaller(self, arch: Architecture) -> list[Architecture]:
        """Return, for each choice, the change that saves least, so that units go a few at a time."""
        here, now = self.space.codes([arch])[0], self._load(arch)
        found: dict[int, tuple[float, Architecture]] = {}
        for one in self.space.neighbours(arch):
            slot, saved = int((self.space.codes([one])[0] != here).argmax()), now - self._load(one)
            if saved > 0 and (slot not in found or saved < found[slot][0]):
                found[slot] = saved, one
        return [one for _, one in found.values()]

    def _load(self, arch: Architecture) -> float:
        return sum(self.costs(arch)[name] / most for name, most in self.limits.items())

    def _unreached(self, arch: Architecture) -> str:
        reached = ", ".join(f"{name} = {self.costs(arch)[name]:g}" for name in self.limits)
        asked = ", ".join(f"{name} <= {most:g}" for name, most in self.limits.items())
        return f"limits {asked}: the smallest that was reached has {reached}; raise them, or widen the space"
