"""Symptoms of a search that has collapsed or learned nothing; each is one line with a remedy.

Probabilities by path are the learned ones: one vector per choice, over the options that the space keeps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

BY_CHANCE = 0.05
"""Probability, under equally likely options, below which the number of parameter-free options is a symptom."""
UNDECIDED = 0.8
"""Mean entropy, as a share of its maximum, above which little has been learned."""
AHEAD = 0.7
"""Least share of pairs in which a network drawn from the distribution must beat a random one.

Both follow from benchmarks/results/gradient.jsonl and reruns of it; docs/decisions/gradient-search.md has the figures.
"""
DISAGREEMENT = 0.1
"""Largest share of the mixture's score that the derived architecture may lose."""
WINDOW, DISTANCE, RATIO = 5, 5, 0.75
"""R-DARTS (arXiv:1909.09656): averages over 5 checks, compared with those 5 checks before."""

Probabilities = Mapping[str, Sequence[float]]


def warnings(
    probabilities: Probabilities,
    parameter_free: Mapping[str, Sequence[bool]],
    *,
    mixed: float | None = None,
    derived: float | None = None,
    learnt: float | None = None,
    curvatures: Sequence[float] = (),
) -> tuple[str, ...]:
    """Return one line for each symptom.

    Args:
        parameter_free: for paths of choices among operations, which options have no parameters.
        mixed: score of the mixture on validation data; higher is better.
        derived: score of the architecture derived from it, with the same weights.
        learnt: share of pairs in which a network drawn from the distribution scores better than a random one.
        curvatures: `dominant_eigenvalue` at successive checks.
    """
    found = (
        parameter_free_preferred(probabilities, parameter_free),
        undecided(probabilities),
        by_chance(learnt) if learnt is not None else None,
        disagreeing(mixed, derived) if mixed is not None and derived is not None else None,
        sharpening(curvatures),
    )
    return tuple(line for line in found if line is not None)


def parameter_free_preferred(probabilities: Probabilities, parameter_free: Mapping[str, Sequence[bool]]) -> str | None:
    """Whether operations without parameters win far more often than by chance: the collapse of DARTS.

    DARTS+ (arXiv:1909.06035) stops at two skip connections in a cell. Choices and options differ between spaces, so the
    criterion here is how likely this number would be if all options were equally likely.
    """
    chances, preferred = [], 0
    for path, free in parameter_free.items():
        if path in probabilities and 0 < sum(free) < len(free):
            chances.append(sum(free) / len(free))
            preferred += free[_largest(probabilities[path])]
    if not chances or preferred <= len(chances) / 2 or at_least(preferred, chances) > BY_CHANCE:
        return None
    return (
        f"{preferred} of {len(chances)} choices prefer an option without parameters, where {sum(chances):.1f} are "
        "expected by chance: the search has collapsed to the operations that learn fastest; stop it earlier, give the "
        "weights a longer warm-up, or use snas or drnas"
    )


def undecided(probabilities: Probabilities) -> str | None:
    """Whether the search has learned hardly anything."""
    entropies = [relative_entropy(vector) for vector in probabilities.values() if len(vector) > 1]
    mean = sum(entropies) / len(entropies) if entropies else 0.0
    if mean <= UNDECIDED:
        return None
    return (
        f"the probabilities have {100 * mean:.0f} % of the entropy of equal ones, so many architectures are almost as "
        "likely as the derived one: take more steps or a higher lr_arch, or evaluate draws from the distribution"
    )


def by_chance(learnt: float) -> str | None:
    """Whether networks of the distribution are hardly better than random ones: it prefers the wrong options, or none.

    Args:
        learnt: share of pairs in which one of them scores better with the current weights; 1/2 if they are no better.
    """
    if learnt >= AHEAD:
        return None
    return (
        f"a network drawn from the learned distribution scores better than a random one in {100 * learnt:.0f} % of "
        "pairs, where 50 % is chance: take more steps, train the weights longer, use snas or drnas, or let a study "
        "evaluate more"
    )


def disagreeing(mixed: float, derived: float) -> str | None:
    """Whether the architecture derived from a mixture scores worse than the mixture: the discretisation gap."""
    lost = (mixed - derived) / (abs(mixed) or 1.0)
    if not lost > DISAGREEMENT:
        return None
    return (
        f"the mixture scores {mixed:.3g}, the architecture derived from it {derived:.3g} with the same weights: choose "
        "by perturbation, or use snas or small-temperature, whose mixtures end near an architecture"
    )


def sharpening(curvatures: Sequence[float]) -> str | None:
    """Whether the curvature of the validation loss grows, which R-DARTS found to precede bad generalisation."""
    if len(curvatures) < WINDOW + DISTANCE:
        return None
    before, now = (
        sum(curvatures[end - WINDOW : end]) / WINDOW for end in (len(curvatures) - DISTANCE, len(curvatures))
    )
    if not (now > 0 and before / now < RATIO):
        return None
    return (
        f"the largest curvature of the validation loss has grown from {before:.3g} to {now:.3g} in {DISTANCE} checks: "
        "architectures derived from now on generalise badly; stop earlier, or raise the weight decay of the weights"
    )


def relative_entropy(probabilities: Sequence[float]) -> float:
    """Entropy as a share of log n, the entropy of n equal probabilities; 0 for a single option."""
    if len(probabilities) < 2:
        return 0.0
    return -math.fsum(p * math.log(p) for p in probabilities if p > 0) / math.log(len(probabilities))


def at_least(number: int, chances: Sequence[float]) -> float:
    """The probability that at least `number` of independent events with these chances happen."""
    counts = [1.0]
    for chance in chances:
        counts = [(1 - chance) * none + chance * one for none, one in zip([*counts, 0.0], [0.0, *counts], strict=True)]
    return math.fsum(counts[number:])


def dominant_eigenvalue(
    gradient: Callable[[Tensor], Tensor], at: Tensor, rng: torch.Generator, rounds: int = 20, length: float = 1e-2
) -> float:
    """The largest eigenvalue by magnitude of a loss's Hessian, by power iteration; R-DARTS monitors it.

    Products with the Hessian are central differences of gradients, so there are no second derivatives: each round takes
    two gradients.

    Args:
        gradient: returns the gradient of the validation loss at architecture parameters (n,), all choices concatenated.
        at: point (n,) at which to evaluate the Hessian.
        length: step length of the differences.
    """
    direction = torch.randn(len(at), dtype=torch.float64, device=rng.device, generator=rng).to(at)
    value = 0.0
    for _ in range(rounds):
        step = length * direction / direction.norm()
        product = (gradient(at + step) - gradient(at - step)) / (2 * length)
        value = float((product @ step) / length)
        if float(product.norm()) == 0:
            break
        direction = product
    return value


def _largest(values: Sequence[float]) -> int:
    return max(range(len(values)), key=values.__getitem__)
