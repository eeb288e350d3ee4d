"""Configurations with a hidden quality that shows more clearly the larger the budget: what the tests search."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from nas.fidelity import Hyperband, Outcome
from search_spaces import Architecture

Evaluate = Callable[[Architecture, int], dict[str, float]]
Sets = list[list[tuple[int, frozenset[str]]]]


def draw(rng: np.random.Generator) -> Architecture:
    return Architecture("Point", {"quality": float(rng.random()), "number": int(rng.integers(2**40))})


def noisy(config: Architecture, budget: int) -> dict[str, float]:
    noise = np.random.default_rng([config.number, budget]).standard_normal()
    return {"error": config.quality + 0.3 * noise / budget**0.5}


def unrelated(config: Architecture, budget: int) -> dict[str, float]:
    """One budget tells nothing of the next: the hardest case for what is used again."""
    return {"error": float(np.random.default_rng([config.number, budget]).random())}


def hyperband(
    seed: int, eta: int = 2, reuse: str = "discarding", evaluate: Evaluate = unrelated, path: Path | None = None
) -> Hyperband:
    return Hyperband(draw, evaluate, "error", eta=eta, reuse=reuse, seed=seed, path=path)


def sets(outcome: Outcome) -> Sets:
    """Who is in which rung of which bracket."""
    return [
        [(rung.budget, frozenset(config.digest for config in rung.members)) for rung in bracket.rungs]
        for bracket in outcome.brackets
    ]


class Killed(BaseException):
    """What no evaluator catches."""


class KilledAt:
    """Evaluates as `noisy` until the process would be killed."""

    def __init__(self, after: int) -> None:
        self.left = after

    def __call__(self, config: Architecture, budget: int) -> Mapping[str, float]:
        if self.left == 0:
            raise Killed
        self.left -= 1
        return noisy(config, budget)
