"""Sources of the architecture parameters: a table, or a network that computes them.

Parameters are logits, or a method's equivalent (DrNAS: concentrations before their ELU): one vector per open choice,
over the options that the space keeps. They are on the CPU, which is fastest for few numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from nas.searchers.gradient.methods import Method
from nas.searchers.gradient.streams import generator

Logits = Mapping[str, Tensor]
"""By path of a choice: the architecture parameters (num_kept,)."""


@dataclass(frozen=True)
class Condition:
    """The objectives, preference and target for which an architecture is learned."""

    objectives: tuple[str, ...]
    """Minimised metrics, the task's metric first; the others name costs."""
    preference: tuple[float, ...]
    """Weight of each objective, 0 or more, summing to 1."""
    target: int = 0
    """Index of the hardware target of the costs."""
    label: str = ""
    """The name of its distribution."""


class Source(Protocol):
    """Computes the architecture parameters of all choices under a condition."""

    def logits(self, condition: Condition) -> dict[str, Tensor]:
        """Return the architecture parameters by path, with a graph to `parameters`."""
        ...

    def parameters(self) -> dict[str, Tensor]:
        """Return the learned leaves by name."""
        ...


class Table:
    """One vector per choice, the same under every condition."""

    def __init__(self, logits: Logits) -> None:
        self._logits = {path: vector.detach().clone().requires_grad_() for path, vector in logits.items()}

    def logits(self, condition: Condition) -> dict[str, Tensor]:
        return dict(self._logits)

    def parameters(self) -> dict[str, Tensor]:
        return dict(self._logits)

    @torch.no_grad()
    def assign(self, logits: Logits) -> None:
        """Overwrite the parameters, for example with projected ones."""
        for path, vector in self._logits.items():
            vector.copy_(logits[path])


def initial(method: Method, free: Mapping[str, tuple[int, ...]], seed: int) -> dict[str, Tensor]:
    """Return the method's initial parameters for each open choice."""
    rng = generator(seed, 0, "initial")
    return {path: method.initial(len(kept), rng) for path, kept in free.items()}
