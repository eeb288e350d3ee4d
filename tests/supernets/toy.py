"""A space, two models and a task so small that whole trainings fit into a test; run as a script, it trains one."""

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from search_spaces import Architecture, Space, choice
from supernets.structure import stack
from supernets.supernet import Supernet
from supernets.training import TrainingConfig, train

Batch = tuple[Tensor, Tensor]


class ToySpace(Space):
    width = choice(8, 12, 16)
    depth = choice(1, 2)


def build(arch: Architecture) -> nn.Module:
    """A perceptron with dropout, so that random numbers matter."""
    return _perceptron(arch, lambda width: nn.Dropout(0.1))


def build_normed(arch: Architecture) -> nn.Module:
    """The same with batch norm."""
    return _perceptron(arch, nn.BatchNorm1d)


def _perceptron(arch: Architecture, between: Callable[[int], nn.Module]) -> nn.Module:
    width = arch.width
    blocks = [nn.Sequential(between(width), nn.GELU(), nn.Linear(width, width)) for _ in range(arch.depth)]
    return nn.Sequential(nn.Linear(64, width), stack(blocks), nn.Linear(width, 10))


@cache
def digits() -> Batch:
    images, labels = load_digits(return_X_y=True)
    return torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)


class Digits:
    """Digits by error; `broken` steps have NaN in their batch, `before` is called with each step."""

    name = "digits"
    digest = "digits-1"
    metric = "error"
    batch_size = 32
    num_train = 1200

    def __init__(self, broken: tuple[int, ...] = (), before: Callable[[int], None] = lambda step: None) -> None:
        self.broken = broken
        self.before = before

    def example(self, batch: int = 1) -> Tensor:
        return digits()[0][:batch]

    def batch(self, step: int, seed: int) -> Batch:
        self.before(step)
        chosen = np.random.default_rng([seed, step, 9]).integers(self.num_train, size=self.batch_size)
        images, labels = self._rows(chosen)
        return (images * torch.nan if step in self.broken else images), labels

    def select(self, indices: Sequence[int], step: int, seed: int) -> Batch:
        self.before(step)
        return self._rows(np.asarray(indices))

    @staticmethod
    def _rows(chosen: Any) -> Batch:
        return digits()[0][chosen], digits()[1][chosen]

    def outputs(self, module: nn.Module, batch: Batch) -> Tensor:
        outputs: Tensor = module(batch[0])
        return outputs

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(outputs, batch[1])

    def losses(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(outputs, batch[1], reduction="none")

    @torch.no_grad()
    def score(self, module: nn.Module, step: int, seed: int) -> float:
        images, labels = self._rows(1200 + np.random.default_rng([seed, step, 8]).integers(300, size=32))
        right = float((module.eval()(images).argmax(-1) == labels).float().mean())
        module.train()
        return right

    @torch.no_grad()
    def evaluate(self, module: nn.Module, split: str = "valid") -> dict[str, float]:
        rows = slice(self.num_train, 1500) if split == "valid" else slice(1500, None)
        images, labels = digits()[0][rows], digits()[1][rows]
        outputs = module.eval()(images)
        wrong = (outputs.argmax(-1) != labels).float().mean()
        return {"error": float(wrong), "loss": float(F.cross_entropy(outputs, labels))}

    def calibration(self, n: int) -> Iterator[Tensor]:
        for start in range(0, n * self.batch_size, self.batch_size):
            yield digits()[0][start : start + self.batch_size]


def supernet(builder: Callable[[Architecture], nn.Module] = build) -> Supernet:
    return Supernet(ToySpace(), builder, seed=1)


def config(**changes: object) -> TrainingConfig:
    settings: dict[str, object] = {"steps": 12, "lr": 1e-2, "checkpoint_every": 3, "evaluate_every": 4}
    return TrainingConfig(**{**settings, **changes})  # type: ignore[arg-type]


if __name__ == "__main__":
    torch.set_num_threads(1)

    def say(step: int) -> None:
        print(step, flush=True)

    train(supernet(), Digits(before=say), config(steps=int(sys.argv[2])), directory=Path(sys.argv[1]), progress=False)
