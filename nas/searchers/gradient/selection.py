"""Selects an architecture from a mixture by the effect of removing each option (arXiv:2108.04392)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from nas.errors import NasError

Table = dict[str, tuple[float, ...]]
"""Probabilities by path."""


def by_perturbation(
    probabilities: Mapping[str, Sequence[float]],
    score: Callable[[Table], float],
    rng: np.random.Generator,
    tune: Callable[[Table], None] | None = None,
) -> Table:
    """Decide the choices in random order; each takes the option without which the mixture scores worst.

    A learned probability says little about its option's effect in the mixture; removing the option measures it. The
    others' probabilities are then scaled to a sum of 1 (the authors' code leaves them unscaled). Of equal options the
    more probable one is chosen. This takes one score per option with a probability above 0.

    Args:
        probabilities: learned, of choices with any number of options.
        score: returns the score of a mixture on validation data; higher is better.
        tune: called with the mixture so far after each decision except the last, to adapt its weights, as the paper
            does for five epochs.

    Returns:
        Probabilities that are 1 for one option of each choice, in the given order.

    Raises:
        NasError: a score is NaN.
    """
    table: Table = {path: tuple(map(float, vector)) for path, vector in probabilities.items()}
    open_ = [path for path, vector in table.items() if sum(p > 0 for p in vector) > 1]
    table |= {path: only(vector, _largest(vector)) for path, vector in table.items() if path not in open_}
    for number, place in enumerate(rng.permutation(len(open_)), start=1):
        path = open_[place]
        table[path] = only(table[path], _worth_most(table, path, score))
        if tune is not None and number < len(open_):
            tune(dict(table))
    return table


def without(vector: Sequence[float], option: int) -> tuple[float, ...]:
    """Return the probabilities of the other options, scaled to a sum of 1; equal ones if they are all 0."""
    rest = [0.0 if index == option else value for index, value in enumerate(vector)]
    total = sum(rest)
    if total == 0:
        return tuple(0.0 if index == option else 1 / (len(vector) - 1) for index in range(len(vector)))
    return tuple(value / total for value in rest)


def only(vector: Sequence[float], option: int) -> tuple[float, ...]:
    """Return a one-hot vector for one option."""
    return tuple(float(index == option) for index in range(len(vector)))


def _worth_most(table: Table, path: str, score: Callable[[Table], float]) -> int:
    left: dict[int, float] = {}
    for option, probability in enumerate(table[path]):
        if probability > 0:
            left[option] = score(table | {path: without(table[path], option)})
            if np.isnan(left[option]):
                raise NasError(
                    f"without option {option} of {path} the mixture scores NaN: look for NaN in the network's outputs"
                )
    return min(left, key=lambda option: (left[option], -table[path][option]))


def _largest(vector: Sequence[float]) -> int:
    return max(range(len(vector)), key=vector.__getitem__)
