"""Whether a search has gone astray: symptoms of collapse and of not having learnt, each a line with its remedy.

Probabilities by path are those learnt, one vector over the options a choice keeps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

BY_CHANCE = 0.05
"""How likely so many parameter-free options may be among equals before they count as a symptom."""
UNDECIDED = 0.8
"""Mean entropy as a share of the largest, above which little has been learnt."""
AHEAD = 0.7
"""How often what is drawn from a distribution that has learnt something beats what is drawn at random.

Both are read off benchmarks/results/gradient.jsonl and reruns of it: docs/decisions/gradient-search.md has the figures.
"""
DISAGREEMENT = 0.1
"""Share of the mixture's score that may be lost where an architecture is derived from it."""
WINDOW, DISTANCE, RATIO = 5, 5, 0.75
"""R-DARTS (arXiv:1909.09656): averages over 5 looks, compared with those 5 looks before."""

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
    """All symptoms there are.

    Args:
        parameter_free: for paths of choices among operations, which options have no parameters.
        mixed: the score of the mixture, on validation data; higher is better.
        derived: that of the architecture derived from it, with the same weights.
        learnt: how often a network drawn from the distribution scores better than one drawn at random.
        curvatures: `dominant_eigenvalue` at several looks, from the first to the last.
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
    """Whether operations without parameters win by far more than chance: the collapse of DARTS.

    DARTS+ (arXiv:1909.06035) stops at two skip-connections in a cell. As choices and options differ between spaces,
    what counts here is how likely so many would be if each option were as likely as any other.
    """
    chances, preferred = [], 0
    for path, free in parameter_free.items():
        if path in probabilities and 0 < sum(free) < len(free):
            chances.append(sum(free) / len(free))
            preferred += free[_largest(probabilities[path])]
    if not chances or preferred <= len(chances) / 2 or at_least(preferred, chances) > BY_CHANCE:
        return None
    return (
        f"{preferred} of {len(chances)} choices prefer an option without parameters, where chance makes it "
        f"{sum(chances):.1f}: the search has collapsed to what learns fastest; stop it earlier, give the weights a "
        "longer warm-up, or use snas or drnas"
    )


def undecided(probabilities: Probabilities) -> str | None:
    """Whether hardly anything was learnt."""
    entropies = [relative_entropy(vector) for vector in probabilities.values() if len(vector) > 1]
    mean = sum(entropies) / len(entropies) if entropies else 0.0
    if mean <= UNDECIDED:
        return None
    return (
        f"the probabilities have {100 * mean:.0f} % of the entropy of equal ones, so many architectures are hardly "
        "less likely than the derived one: take more steps or a higher lr_arch, or evaluate draws of the distribution"
    )


def by_chance(learnt: float) -> str | None:
    """Whether networks of the distribution are hardly better than random ones: it prefers the wrong options, or none.

    Args:
        learnt: how often one of them scores better, with the weights there are; 1/2 for what is no better.
    """
    if learnt >= AHEAD:
        return None
    return (
        f"a network drawn from what was learnt scores better than a random one in {100 * learnt:.0f} % of pairs, where "
        "50 % is chance: take more steps, train the weights longer, use snas or drnas, or let a study evaluate more"
    )


def disagreeing(mixed: float, derived: float) -> str | None:
    """Whether the architecture derived from a mixture is worse than that: the gap of discretisation."""
    lost = (mixed - derived) / (abs(mixed) or 1.0)
    if not lost > DISAGREEMENT:
        return None
    return (
        f"the mixture scores {mixed:.3g}, the architecture derived from it {derived:.3g} with the same weights: choose "
        "by perturbation, or use snas or small-temperature, whose mixtures end near an architecture"
    )


def sharpening(curvatures: Sequence[float]) -> str | None:
    """Whether the curvature of the validation loss grows as R-DARTS found before architectures generalise badly."""
    if len(curvatures) < WINDOW + DISTANCE:
        return None
    before, now = (
        sum(curvatures[end - WINDOW : end]) / WINDOW for end in (len(curvatures) - DISTANCE, len(curvatures))
    )
    if not (now > 0 and before / now < RATIO):
        return None
    return (
        f"the largest curvature of the validation loss has grown from {before:.3g} to {now:.3g} in {DISTANCE} looks: "
        "architectures derived from here generalise badly; stop earlier, or raise the weight decay of the weights"
    )


def relative_entropy(probabilities: Sequence[float]) -> float:
    """As a share of log n, that of n equal probabilities; 0 for a single option."""
    if len(probabilities) < 2:
        return 0.0
    return -math.fsum(p * math.log(p) for p in probabilities if p > 0) / math.log(len(probabilities))


def at_least(number: int, chances: Sequence[float]) -> float:
    """The probability that so many or more of independent events, with these chances, happen."""
    counts = [1.0]
    for chance in chances:
        counts = [(1 - chance) * none + chance * one for none, one in zip([*counts, 0.0], [0.0, *counts], strict=True)]
    return math.fsum(counts[number:])


def dominant_eigenvalue(
    gradient: Callable[[Tensor], Tensor], at: Tensor, rng: torch.Generator, rounds: int = 20, length: float = 1e-2
) -> float:
    """The eigenvalue of largest size of a loss's Hessian, by power iteration; what R-DARTS watches.

    Products with the Hessian are central differences of gradients, so no second derivatives are taken: each of the
    rounds takes two gradients.

    Args:
        gradient: of the validation loss at architecture parameters (n,), all choices in one vector.
        at: where the Hessian is wanted (n,).
        length: how far the differences reach.
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
