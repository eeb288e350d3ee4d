"""Where the architecture parameters of all choices come from: a table of them, or whatever computes them.

Parameters are logits, or what a method has in their place (DrNAS: concentrations before their ELU): one vector a choice
that is left open, over the options the space keeps. They live on the CPU, where few numbers are quickest.
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
    """What an architecture is wanted for."""

    objectives: tuple[str, ...]
    """What is minimised, the task's metric first; the others name costs."""
    preference: tuple[float, ...]
    """What each of them counts, 0 or more; the sum is 1."""
    target: int = 0
    """Number of the hardware target the costs belong to."""
    label: str = ""
    """The name its distribution goes by."""


class Source(Protocol):
    """Gives the architecture parameters of all choices under a condition."""

    def logits(self, condition: Condition) -> dict[str, Tensor]:
        """With a graph to `parameters`."""
        ...

    def parameters(self) -> dict[str, Tensor]:
        """The leaves that are learnt, by name."""
        ...


class Table:
    """One vector a choice, the same under every condition."""

    def __init__(self, logits: Logits) -> None:
        self._logits = {path: vector.detach().clone().requires_grad_() for path, vector in logits.items()}

    def logits(self, condition: Condition) -> dict[str, Tensor]:
        return dict(self._logits)

    def parameters(self) -> dict[str, Tensor]:
        return dict(self._logits)

    @torch.no_grad()
    def assign(self, logits: Logits) -> None:
        """Take over these values, as a projection does."""
        for path, vector in self._logits.items():
            vector.copy_(logits[path])


def initial(method: Method, free: Mapping[str, tuple[int, ...]], seed: int) -> dict[str, Tensor]:
    """What a method begins with, for each choice that is left open."""
    rng = generator(seed, 0, "initial")
    return {path: method.initial(len(kept), rng) for path, kept in free.items()}
