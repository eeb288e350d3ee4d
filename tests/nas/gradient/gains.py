"""A space whose optima are known: blocks that each gain something and cost something; run as a script, it searches."""

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nas.searchers.gradient.config import GradientConfig
from nas.searchers.gradient.loop import search
from search_spaces import Architecture, Space, choice
from supernets import Supernet, one_of
from supernets.relaxation import Mixture

GAINS = (1.0, 2.0, 3.0, 4.0)
LEVELS = {"off": 0.0, "some": 0.5, "on": 1.0}


class Blocks(Space):
    level = choice("off", "some", "on", per=len(GAINS))


class Gain(nn.Module):
    """A constant, which is a weight so that training could change it."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor([value]))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.value


class Sum(nn.Module):
    """What all blocks gain, as a share of what can be gained."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            one_of(level, {name: lambda g=gain, s=share: Gain(g * s) for name, share in LEVELS.items()})
            for gain, level in zip(GAINS, arch.level, strict=True)
        )
        self.drop = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([block(x) for block in self.blocks]).sum(0) / sum(GAINS)


class Price:
    """What the levels cost: `prices` a block that is on."""

    def __init__(self, *prices: float) -> None:
        self.prices = prices or (1.0,) * len(GAINS)

    def __call__(self, mixture: Mixture) -> Tensor:
        vectors = [price * mixture[f"level.{index}"] for index, price in enumerate(self.prices)]
        return torch.stack(vectors).sum(0) @ vectors[0].new_tensor(list(LEVELS.values()))

    def of(self, arch: Architecture) -> float:
        return sum(price * LEVELS[level] for price, level in zip(self.prices, arch.level, strict=True))


class Missing:
    """A task whose loss is the share that is not gained: linear in the probabilities."""

    name = "missing"
    digest = "missing-1"
    metric = "error"
    batch_size = 4
    num_train = 40

    def __init__(self, broken: Sequence[int] = (), before: Callable[[int], None] = lambda step: None) -> None:
        self.broken, self.before = broken, before

    def example(self, batch: int = 1) -> Tensor:
        return torch.ones(batch, 1)

    def batch(self, step: int, seed: int) -> Tensor:
        return self.example(self.batch_size)

    def select(self, indices: Sequence[int], step: int, seed: int) -> Tensor:
        self.before(step)
        assert len(indices) == self.batch_size and set(indices) <= set(range(self.num_train))
        return torch.full((self.batch_size, 1), torch.nan if step in self.broken else 1.0)

    def outputs(self, module: nn.Module, batch: Tensor) -> Tensor:
        outputs: Tensor = module(batch)
        return outputs

    def loss(self, outputs: Tensor, batch: Tensor) -> Tensor:
        return (1 - outputs).mean()

    def losses(self, outputs: Tensor, batch: Tensor) -> Tensor:
        return (1 - outputs).flatten()

    @torch.no_grad()
    def score(self, module: nn.Module, step: int, seed: int) -> float:
        return float(module.eval()(self.example()).mean())

    @torch.no_grad()
    def evaluate(self, module: nn.Module, split: str = "valid") -> dict[str, float]:
        return {"error": 1 - self.score(module, 0, 0)}

    def calibration(self, n: int) -> Iterator[Tensor]:
        yield from [self.example()] * n


def supernet() -> Supernet:
    return Supernet(Blocks(), Sum)


def config(**changes: Any) -> GradientConfig:
    settings: dict[str, Any] = {
        "method": "darts(regulariser=none)",
        "steps": 150,
        "lr_arch": 0.1,
        "train_weights": False,
    }
    return GradientConfig(**{**settings, **changes})


if __name__ == "__main__":
    torch.set_num_threads(1)

    def say(step: int) -> None:
        print(step, flush=True)

    search(
        supernet(),
        Missing(before=say),
        config(steps=int(sys.argv[2]), checkpoint_every=10),
        directory=Path(sys.argv[1]),
        progress=False,
    )
