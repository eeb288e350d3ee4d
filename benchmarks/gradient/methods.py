"""What is compared, and how fast each architecture learns."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.gradient.rows import JOINT, QUERIED
from nas.searchers.gradient.methods import method
from supernets.spelling import spell

METHODS: dict[str, float] = {
    "darts": 3e-2,
    "gdas": 3e-3,
    "drnas": 3e-2,
    "snas": 3e-2,
    "small-temperature": 3e-3,
    "small-temperature(adaptive=yes)": 3e-3,
    "darts(order=2)": 3e-2,
    "drnas(regulariser=none)": 3e-2,
}
"""Learning rate of the architecture by method: of those that the pilot tried, and that left the distribution less than
95 % of the entropy of equal probabilities, the one with the lowest mean regret over it."""
PILOT = (3e-4, 3e-3, 3e-2)
"""Learning rates that the pilot tries."""
PILOT_SEED = 100
PILOTED = ("darts", "gdas", "drnas", "snas", "small-temperature")
STRATEGIES = {"image": "fair", "text": "uniform"}
"""What trains a supernet that is asked, by task: the best with entangled weights (results/ranking.md)."""
STRATEGY = "fair"


def spelled(texts: Iterable[str]) -> dict[str, float]:
    """Return the canonical spelling of each method with its learning rate; one without gets that of its kind.

    Raises:
        SpellingError: there is no such method.
    """
    known = {spell(method(text)): rate for text, rate in METHODS.items()}
    kinds = {method(text).name: rate for text, rate in reversed(METHODS.items())}
    return {(one := spell(method(text))): known.get(one, kinds[method(text).name]) for text in texts}


def modes(text: str, wanted: Iterable[str] = (JOINT, QUERIED)) -> list[str]:
    """Return a method's modes: one that differentiates through a step of the weights cannot leave them unchanged."""
    return [mode for mode in wanted if mode == JOINT or method(text).order == 1]
