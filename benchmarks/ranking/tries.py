"""What may lift ranks, tried with the strategy that ranks best: one job a setting, by the same budget of passes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from supernets.calibrate import NUM_BATCHES
from supernets.spelling import parse
from supernets.training import TrainingConfig


@dataclass(frozen=True)
class Tuned:
    """How a training differs from the stand-alone trainings of the truth; the defaults differ in nothing."""

    name: ClassVar[str] = "tuned"

    lr: float = 1.0
    """Factor of the learning rate."""
    decay: float = 1.0
    """Factor of the weight decay."""
    warmup: float = 0.05
    schedule: str = "cosine"
    average: float = 0.0
    """Share of the steps over which weights are averaged."""
    calibration: int = NUM_BATCHES
    """Batches for batch-norm statistics of each network."""

    def of(self, config: TrainingConfig) -> TrainingConfig:
        """The settings with these differences."""
        return replace(
            config,
            lr=config.lr * self.lr,
            weight_decay=config.weight_decay * self.decay,
            warmup=self.warmup,
            schedule=self.schedule,
            average=self.average,
        )


TRIES = (
    ("fair", "tuned(average=0.25)"),
    ("fair(batches=own)", "tuned(average=0.25)"),
    ("fair(rounds=4, batches=own)", "tuned(lr=1.5, average=0.25)"),
    ("fair(rounds=4)", "tuned(lr=1.5, average=0.25)"),
    ("fair(rounds=4)", "tuned"),
    ("fair(rounds=4)", "tuned(lr=3)"),
    ("fair(rounds=2)", "tuned(average=0.25)"),
    ("fair(batches=own)", "tuned"),
    ("fair", "tuned(lr=0.5)"),
    ("fair", "tuned(lr=2)"),
    ("fair", "tuned(schedule=constant, average=0.25)"),
    ("fair", "tuned(calibration=32)"),
    ("fair", "tuned(decay=0)"),
    ("fair", "tuned(warmup=0.3)"),
)
"""Strategies and how their trainings differ."""


def tuning(text: str) -> Tuned:
    """What a text says; an empty one differs in nothing."""
    return parse(text or Tuned.name, {Tuned.name: Tuned}, "tuning")
