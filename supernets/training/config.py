"""Settings of training: learning rates and precision among them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from supernets.errors import SupernetError
from supernets.optim import OPTIMIZERS
from supernets.scaling import scaling
from supernets.spelling import spell
from supernets.strategies import strategy


class TrainingError(SupernetError):
    """A setting that cannot be, or a training that came to nothing."""


def _cosine(share: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * share))


SCHEDULES: dict[str, Callable[[float], float]] = {
    "cosine": _cosine,
    "linear": lambda share: 1 - share,
    "constant": lambda share: 1.0,
}
"""From the share of the steps after warm-up, in [0, 1), to a factor of the learning rate."""

PRECISIONS = ("auto", "fp32", "bf16")


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of a training, checked when made: TrainingError names the field, the value and what it may be."""

    steps: int = 2000
    """Optimiser steps; a step may sum the gradients of several architectures. 0 leaves the weights as they are."""
    optimizer: str = "adamw"
    """One of OPTIMIZERS."""
    lr: float = 3e-3
    """Highest learning rate."""
    weight_decay: float = 0.05
    warmup: float = 0.05
    """Share of the steps in which the learning rate grows linearly."""
    schedule: str = "cosine"
    """One of SCHEDULES: how the learning rate falls after warm-up."""
    scaling: str = "none"
    """One of SCALINGS: how the rate of a network that is trained alone follows its depth, kernels and connections; `lr`
    is that of the largest network. Supernets have one rate for all."""
    average: float = 0.0
    """Share of the steps, the last ones, over which the weights are averaged; the mean is what is left. 0: none."""
    clip: float = 1.0
    """Longest gradient; longer ones are scaled down to it. math.inf clips nothing."""
    precision: str = "auto"
    """fp32, bf16 (autocast; weights stay as they are), or auto: see `resolve_precision`."""
    strategy: str = "sandwich(distil=none)"
    """One of STRATEGIES, with settings where it has some: ``sandwich(num_random=1)``; single networks have none."""
    seed: int = 0
    """Seed of the order of architectures and data, and of dropout."""
    checkpoint_every: int = 500
    """Steps between checkpoints; 0: only at the end."""
    evaluate_every: int = 250
    """Steps between points of the curves; 0: only at the end."""

    def __post_init__(self) -> None:
        for name, known in (
            ("optimizer", OPTIMIZERS),
            ("schedule", SCHEDULES),
            ("precision", PRECISIONS),
        ):
            if getattr(self, name) not in known:
                raise TrainingError(f"{name} = {getattr(self, name)!r} is unknown: choose one of {', '.join(known)}")
        object.__setattr__(self, "strategy", spell(strategy(self.strategy)))  # one spelling, and an error early
        object.__setattr__(self, "scaling", spell(scaling(self.scaling)))
        for name, holds, rule in (
            ("steps", self.steps >= 0, "0 or more"),
            ("lr", 0 < self.lr < math.inf, "above 0 and finite, 3e-3 say"),
            ("weight_decay", 0 <= self.weight_decay < math.inf, "0 or more"),
            ("warmup", 0 <= self.warmup < 1, "a share of the steps, 0 or more and below 1"),
            ("average", 0 <= self.average <= 1, "a share of the steps, from 0 to 1; 0.25 say"),
            ("clip", self.clip > 0, "above 0; math.inf clips nothing"),
            ("seed", self.seed >= 0, "0 or more"),
            ("checkpoint_every", self.checkpoint_every >= 0, "0 (only at the end) or more"),
            ("evaluate_every", self.evaluate_every >= 0, "0 (only at the end) or more"),
        ):
            if not holds:
                raise TrainingError(f"{name} = {getattr(self, name)!r}: it must be {rule}")


def learning_rate(config: TrainingConfig, step: int) -> float:
    """The learning rate of step `step` of 0 ... steps - 1: linear warm-up, then the schedule; never 0."""
    warm = round(config.warmup * config.steps)
    if step < warm:
        return config.lr * (step + 1) / warm
    return config.lr * SCHEDULES[config.schedule]((step - warm) / (config.steps - warm))


def resolve_precision(precision: str, device: torch.device, module: nn.Module) -> str:
    """Return the precision for "auto": bf16 if it is native and faster, on a CPU for dense convolutions only: with
    depthwise ones a step took 2.7 times as long as in fp32.

    Modules whose parameters are not float32 keep their own precision.
    """
    if precision != "auto":
        return precision
    if any(parameter.dtype != torch.float32 for parameter in module.parameters()):
        return "fp32"
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    convolutions = [child for child in module.modules() if isinstance(child, nn.Conv2d | nn.Conv3d)]
    dense = bool(convolutions) and all(convolution.groups == 1 for convolution in convolutions)
    return "bf16" if device.type == "cpu" and native and dense else "fp32"
