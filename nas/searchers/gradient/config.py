"""Settings of a gradient search, and the error it ends with."""

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
    """A setting that cannot be, a limit that no architecture keeps, or a search that came to nothing."""


@dataclass(frozen=True)
class GradientConfig:
    """How to search. Checked when it is made: GradientSearchError names the field, the value and what it may be."""

    method: str = "snas"
    """One of METHODS, with settings where it has some: ``gdas(temperature=5)``. The default and its learning rate are
    those that found the best networks in benchmarks/results/gradient.md."""
    steps: int = 2000
    """Each steps the weights, if they are trained, and, after warm-up, the architecture."""
    warmup: float = 0.2
    """Share of the steps that train the weights alone; without training of weights there is none."""
    train_weights: bool = True
    """Whether the supernet's weights are trained, in place; otherwise they are asked as they are, and the architecture
    learns from validation examples: what is learnt has seen them, so report figures of the test split."""
    lr_arch: float = 3e-2
    """Adam's learning rate of the architecture; its averages are those of DARTS, .5 and .999."""
    optimizer: str = "adamw"
    """Of the weights: one of OPTIMIZERS."""
    lr: float = 3e-3
    """Highest learning rate of the weights; it falls as a cosine."""
    weight_decay: float = 0.05
    clip: float = 1.0
    """Longest gradient of the weights; math.inf clips nothing."""
    precision: str = "fp32"
    """fp32, bf16 (autocast) or auto: see `supernets.training.resolve_precision`."""
    bounds: str = "projection"
    """How limits are kept on the way: projection onto them after each step, or an augmented Lagrangian."""
    selection: str = "probability"
    """How an architecture is derived: by the likeliest options, or by those without which the mixture does worst
    (arXiv:2108.04392), one forward pass of a validation batch for each option; that one knows no limits."""
    partial: int = 1
    """Operations of a `one_of` see one channel in so many, others in each pass (PC-DARTS, arXiv:1907.05737): noise that
    holds parameter-free operations back, at no saving. Weights then learn as parts of operations, which single networks
    are not, so look at what is derived once it is trained. Without the paper's edge normalisation: no choice is one
    among edges."""
    annealing: float = 0.5
    """Share of the architecture's steps in which bounds come down from the unconstrained cost to the limit."""
    stop_on_collapse: bool = False
    """Whether a warning of collapse ends the search."""
    seed: int = 0
    checkpoint_every: int = 500
    """Steps between checkpoints; 0: only at the end."""

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
            ("lr_arch", 0 < self.lr_arch < math.inf, "above 0 and finite, 3e-2 say"),
            ("lr", 0 < self.lr < math.inf, "above 0 and finite, 3e-3 say"),
            ("weight_decay", 0 <= self.weight_decay < math.inf, "0 or more"),
            ("clip", self.clip > 0, "above 0; math.inf clips nothing"),
            ("partial", self.partial >= 1, "1 for all channels, or one in so many"),
            ("annealing", 0 <= self.annealing <= 1, "a share of the steps, from 0 to 1"),
            ("seed", 0 <= self.seed < 2**63, "0 or more and below 2**63"),
            ("checkpoint_every", self.checkpoint_every >= 0, "0 (only at the end) or more"),
        ):
            if not holds:
                raise GradientSearchError(f"{name} = {getattr(self, name)!r}: it must be {rule}")

    @property
    def first(self) -> int:
        """The step that first moves the architecture."""
        return min(round(self.warmup * self.steps), self.steps - 1) if self.train_weights else 0

    def progress(self, step: int) -> float:
        """How far the architecture's steps have come, in [0, 1]; 0 during warm-up."""
        return min(1.0, max(0, step - self.first) / max(1, self.steps - 1 - self.first))

    def learning_rate(self, step: int) -> float:
        """Of the weights."""
        return self.lr * 0.5 * (1 + math.cos(math.pi * step / self.steps))
