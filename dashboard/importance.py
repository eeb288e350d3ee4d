"""Computes the importance of each choice for a metric, and the effect of each option, both with intervals.

Importances are those of functional ANOVA (Hutter, Hoos and Leyton-Brown 2014) in optuna: the share of a metric's
variance over the space that one choice explains by itself. Effects are those of an additive model of all choices: the
difference of an option from the mean, all other choices being equal.

Intervals are estimates of the middle 90 % over other samples of as many networks: for effects by the bootstrap, for
importances by halves of the networks, drawn without replacement (Politis and Romano 1994), since a forest would take
duplicates of a network for independent agreement. They show whether there are too few networks, but not what regions a
search has never tried.
"""

import math
import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dashboard.encoding import ABSENT, Encoded

FEWEST = 30
"""Fewest networks for importances and effects."""
MOST = 300
"""Most networks for importances, sampled from all: more take long and change little."""
MOST_FITTED = 2000
"""Most networks for effects."""
REPEATS = 10
_EFFECT_REPEATS = 100
_TREES = 16
_RIDGE = 1e-3
_ENDS = (5, 95)

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Effects:
    """`table` has choice, option, effect, low, high and count; `explained` is the share of the variance (R²) that the
    additive model accounts for in networks it was not fitted to."""

    table: pd.DataFrame
    explained: float


def importances(found: Encoded, values: Values, rng: np.random.Generator, repeats: int = REPEATS) -> pd.DataFrame:
    """Return columns choice, importance, low and high of the choices that vary, most important first.

    `values` (n,) are finite values of one metric, in the order of the rows of `found`.
    """
    shown, values = _drawn(found, values, rng, MOST)
    shown = shown.open()
    if not shown.names or np.ptp(values) == 0:
        return pd.DataFrame(columns=["choice", "importance", "low", "high"])
    whole = _anova(shown.codes, shown, values, 0)
    draws = []
    for repeat in range(repeats):
        half = rng.choice(len(values), len(values) // 2, replace=False)
        draws.append(_anova(shown.codes[half], shown, values[half], repeat + 1))
    apart = np.array(draws) - np.mean(draws, axis=0)  # small samples bias the mean of halves, not their spread
    low, high = np.clip(whole + np.percentile(apart, _ENDS, axis=0), 0, 1)
    table = pd.DataFrame({"choice": shown.names, "importance": whole, "low": low, "high": high})
    return table.sort_values("importance", ascending=False, ignore_index=True)


def _drawn(found: Encoded, values: Values, rng: np.random.Generator, most: int) -> tuple[Encoded, Values]:
    if len(values) <= most:
        return found, values
    keep = np.zeros(len(values), dtype=bool)
    keep[rng.choice(len(values), most, replace=False)] = True
    return found.at(keep), values[keep]


def _anova(codes: NDArray[np.int16], shown: Encoded, values: Values, seed: int) -> Values:
    """Return importances in the order of the choices, from optuna with the networks as trials."""
    import optuna
    from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

    kinds: dict[str, BaseDistribution] = {}
    for index, name in enumerate(shown.names):
        known = [ABSENT, *range(len(shown.options[index]))]
        is_number = all(isinstance(value, int | float) for value in shown.options[index])
        whole = is_number and (shown.codes[:, index] != ABSENT).all()
        kinds[name] = IntDistribution(0, len(known) - 2) if whole else CategoricalDistribution(known)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study()
    trials = [
        optuna.trial.create_trial(
            params=dict(zip(shown.names, map(int, row), strict=True)), distributions=kinds, value=float(value)
        )
        for row, value in zip(codes, values, strict=True)
    ]
    study.add_trials(trials)
    evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=_TREES, max_depth=12, seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            told = evaluator.evaluate(study, params=list(shown.names))
        except (RuntimeError, ValueError, ZeroDivisionError):  # a sample without variance has no importances
            told = {}
    return np.array([told.get(name, 0.0) for name in shown.names])


def effects(found: Encoded, values: Values, rng: np.random.Generator) -> Effects:
    """Return each option's difference, in the metric's unit, from the mean over options weighted by frequency.

    `values` as in `importances`.
    """
    shown, values = _drawn(found, values, rng, MOST_FITTED)
    shown = shown.open()
    slots = [
        (index, code)
        for index in range(len(shown.names))
        for code in np.unique(shown.codes[:, index]).tolist()
        if code != ABSENT
    ]
    design = np.array([shown.codes[:, index] == code for index, code in slots], dtype=float).T
    whole = _fitted(design, values)
    draws = []
    for _ in range(_EFFECT_REPEATS):
        rows = rng.integers(len(values), size=len(values))
        draws.append(_centred(_fitted(design[rows], values[rows]), design, slots))
    low, high = np.percentile(np.array(draws), _ENDS, axis=0)
    table = pd.DataFrame(
        {
            "choice": [shown.names[index] for index, _ in slots],
            "option": [str(shown.options[index][code]) for index, code in slots],
            "effect": _centred(whole, design, slots),
            "low": low,
            "high": high,
            "count": design.sum(axis=0).astype(int),
        }
    )
    return Effects(table, _explained(design, values))


def _fitted(design: Values, values: Values) -> Values:
    """Return the coefficients of a ridge regression on centred data."""
    x, y = design - design.mean(axis=0), values - values.mean()
    found: Values = np.linalg.solve(x.T @ x + _RIDGE * len(y) * np.eye(x.shape[1]), x.T @ y)
    return found


def _centred(effect: Values, design: Values, slots: list[tuple[int, int]]) -> Values:
    """Return effects minus the mean of their choice, weighted by the frequency of options."""
    owners, counts = np.array([index for index, _ in slots]), design.sum(axis=0)
    found = effect.copy()
    for owner in np.unique(owners):
        own = owners == owner
        found[own] -= np.average(effect[own], weights=counts[own])
    return found


def _explained(design: Values, values: Values, folds: int = 5) -> float:
    """Return the cross-validated R²; NaN if all values are equal."""
    total = float(np.square(values - values.mean()).sum())
    if total == 0:
        return math.nan
    missed = 0.0
    for fold in range(folds):
        held = np.arange(len(values)) % folds == fold
        kept = ~held
        fitted = _fitted(design[kept], values[kept])
        said = values[kept].mean() + (design[held] - design[kept].mean(axis=0)) @ fitted
        missed += float(np.square(values[held] - said).sum())
    return 1 - missed / total
