"""Settings of a gradient search, and its error."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nas.errors import NasError
from nas.searchers.gradient.methods import method
from supernets.optim import OPTIMIZERS
from supernets.spelling import spell
from supernets.training import PRECISIONS

BOUNDS = ("projection", "lagrangian")
SELECTIONS = ("probability", "perturbation")
_WORDS = {"optimizer": OPTIMIZERS, "precision": PRECISIONS, "bounds": BOUNDS, "selection": SELECTIONS}


class GradientSearchError(NasError):
    """An invalid setting, a limit that no architecture keeps, or a search without finite losses."""


@dataclass(frozen=True)
class GradientConfig:
    """How to search. The constructor raises GradientSearchError, which names the field, the value and the rule."""

    method: str = "snas"
    """One of METHODS, optionally with settings: ``gdas(temperature=5)``. The default and its learning rate found the
    best networks in benchmarks/results/gradient.md."""
    steps: int = 2000
    """Each step updates the weights, if they are trained, and after warm-up the architecture."""
    warmup: float = 0.2
    """Share of the steps that train only the weights; none if weights are not trained."""
    train_weights: bool = True
    """Whether to train the supernet's weights, in place. Otherwise they stay fixed, and the architecture learns from
    validation examples: the result has seen them, so report figures of the test split."""
    lr_arch: float = 3e-2
    """Adam's learning rate for the architecture; its betas are those of DARTS, .5 and .999."""
    optimizer: str = "adamw"
    """Optimiser of the weights: one of OPTIMIZERS."""
    lr: float = 3e-3
    """Initial learning rate of the weights, with cosine decay."""
    weight_decay: float = 0.05
    clip: float = 1.0
    """Largest gradient norm of the weights; math.inf disables clipping."""
    precision: str = "fp32"
    """fp32, bf16 (autocast) or auto: see `supernets.training.resolve_precision`."""
    bounds: str = "projection"
    """How to keep limits during the search: projection onto them after each step, or an augmented Lagrangian."""
    selection: str = "probability"
    """How to derive an architecture: the likeliest options, or those without which the mixture scores worst
    (arXiv:2108.04392), with one forward pass of a validation batch per option; the latter ignores limits."""
    partial: int = 1
    """Operations of a `one_of` see one channel in `partial`, different ones in each pass (PC-DARTS, arXiv:1907.05737):
    noise that holds parameter-free operations back and saves no time. Weights then learn as parts of operations, unlike
    in single networks, so judge the derived architecture after training it. The paper's edge normalisation is omitted:
    no choice here is among edges."""
    annealing: float = 0.5
    """Share of the architecture's steps in which bounds decrease from the unconstrained cost to the limit."""
    stop_on_collapse: bool = False
    """Whether a collapse warning ends the search."""
    seed: int = 0
    checkpoint_every: int = 500
    """Steps between checkpoints; 0: only one at the end."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "method", spell(method(self.method)))  # one spelling, and an error early
        for name, known in _WORDS.items():
            if getattr(self, name) not in known:
                raise GradientSearchError(
                    f"{name} = {getattr(self, name)!r} is unknown: choose one of {', '.join(known)}"
                )
        for name, holds, rule in (
            ("steps", self.steps >= 1, "at least 1"),
            ("warmup", 0 <= self.warmup < 1, "a share of the steps, 0 or more and below 1"),
            ("lr_arch", 0 < self.lr_arch < math.inf, "above 0 and finite, for example 3e-2"),
            ("lr", 0 < self.lr < math.inf, "above 0 and finite, for example 3e-3"),
            ("weight_decay", 0 <= self.weight_decay < math.inf, "0 or more"),
            ("clip", self.clip > 0, "above 0; math.inf disables clipping"),
            ("partial", self.partial >= 1, "at least 1: 1 for all channels, n for one channel in n"),
            ("annealing", 0 <= self.annealing <= 1, "a share of the steps, from 0 to 1"),
            ("seed", 0 <= self.seed < 2**63, "0 or more and below 2**63"),
            ("checkpoint_every", self.checkpoint_every >= 0, "0 (only at the end) or more"),
        ):
            if not holds:
                raise GradientSearchError(f"{name} = {getattr(self, name)!r}: it must be {rule}")

    @property
    def first(self) -> int:
        """The first step that updates the architecture."""
        return min(round(self.warmup * self.steps), self.steps - 1) if self.train_weights else 0

    def progress(self, step: int) -> float:
        """Progress of the architecture's steps, in [0, 1]; 0 during warm-up."""
        return min(1.0, max(0, step - self.first) / max(1, self.steps - 1 - self.first))

    def learning_rate(self, step: int) -> float:
        """Learning rate of the weights."""
        return self.lr * 0.5 * (1 + math.cos(math.pi * step / self.steps))
