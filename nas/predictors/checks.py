"""Checks measured latencies before a predictor learns from them."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from nas.errors import NasError
from nas.predictors.models import FloatArray
from nas.predictors.rows import FEWEST, Archs

_FAR = 1.5  # largest ratio of repeated measurements that can belong to one network
_WIDE = 10  # features per measurement above which few kinds can learn
_HOPELESS = 100  # and above which none can
_FOR_WIDE = ("additive", "ridge", "gaussian_process", "ensemble")  # kinds with a prior that supports few measurements
_UNITS = {-6: "nanoseconds", -3: "microseconds", 3: "seconds"}  # by the power of ten that converts to milliseconds
_UNIT_TOLERANCE = 0.35  # in powers of ten: a factor of 2.2 either way


@dataclass(frozen=True, eq=False)
class Measurements:
    """Distinct architectures with one value each, and warnings, one line each."""

    archs: Archs
    y: FloatArray
    notes: tuple[str, ...] = ()


def checked(
    archs: Archs, y: Sequence[float] | FloatArray, kind: str = "ensemble", num_features: int = 0
) -> Measurements:
    """Check latencies and merge repeated ones, so that a predictor can learn from them.

    An architecture measured more than once gets the median, and a note says so.

    Args:
        archs: n architectures or their codes.
        y: n latencies above 0.
        kind: the name of the predictor, one of `PREDICTORS`.
        num_features: number of its columns.

    Raises:
        NasError: the measurements are too few for a fit or for this many features, not finite, not above 0, all equal,
            or repeated with results that differ by more than a factor of 1.5.
    """
    values = np.asarray(y, dtype=float)
    if values.shape != (len(archs),):
        raise NasError(
            f"{len(archs)} architectures with values of shape {values.shape}; give one value per architecture"
        )
    _check_each(archs, values)
    archs, values, notes = _merged(archs, values)
    if len(values) < FEWEST:
        raise NasError(
            f"{len(values)} measured architectures are too few to fit a predictor; measure at least {FEWEST}"
        )
    if np.ptp(values) <= 1e-9 * values.max():
        raise NasError(
            f"all {len(values)} latencies are {values[0]:g}, so this target does not distinguish architectures; "
            "check that it runs the given network, or leave the target out"
        )
    return Measurements(archs, values, (*notes, *_too_wide(len(values), num_features, kind)))


def unit_mistake(new: Sequence[float] | FloatArray, known: Sequence[float] | FloatArray) -> str | None:
    """Return a warning if `new` latencies seem to have another unit than `known` ones of the same architectures.

    `known` are earlier measurements or predictions, one for each of `new`; pairs with values that are not finite or not
    above 0 are ignored. Returns None if nothing looks wrong or nothing can be compared.
    """
    new, known = np.asarray(new, dtype=float), np.asarray(known, dtype=float)
    if new.shape != known.shape:
        raise NasError(f"{new.size} new latencies and {known.size} known ones; give one known latency for each new one")
    both = np.isfinite(new) & np.isfinite(known) & (new > 0) & (known > 0)
    if not both.any():
        return None
    powers = np.log10(known[both] / new[both])
    power = float(np.median(powers))
    for expected, name in _UNITS.items():
        if abs(power - expected) < _UNIT_TOLERANCE:
            than = "smaller" if expected > 0 else "larger"
            return (
                f"the new latencies are about {10 ** abs(power):,.0f} times {than} than known ones of the same "
                f"architectures, as if they were {name} and not milliseconds; multiply them by {10.0**expected:g}, "
                "or measure again"
            )
    return None


def _check_each(archs: Archs, values: FloatArray) -> None:
    for wrong, problem in (
        (~np.isfinite(values), "is not finite"),
        (values <= 0, "is not above 0, as a latency is"),
    ):
        if wrong.any():
            first = int(np.flatnonzero(wrong)[0])
            others = f" (and {wrong.sum() - 1} more)" if wrong.sum() > 1 else ""
            raise NasError(
                f"the latency {values[first]:g} of {_named(archs, first)}{others} {problem}; "
                "leave failed measurements out or measure them again"
            )


def _named(archs: Archs, index: int) -> str:
    return f"row {index}" if isinstance(archs, np.ndarray) else f"architecture {archs[index].digest}"


def _merged(archs: Archs, values: FloatArray) -> tuple[Archs, FloatArray, tuple[str, ...]]:
    """Return distinct architectures in order of first occurrence, the medians of their values, and notes."""
    keys: list[Hashable] = [row.tobytes() for row in archs] if isinstance(archs, np.ndarray) else list(archs)
    places: dict[Hashable, list[int]] = {}
    for index, key in enumerate(keys):
        places.setdefault(key, []).append(index)
    if len(places) == len(keys):
        return archs, values, ()
    groups = list(places.values())
    apart = [float(values[group].max() / values[group].min()) for group in groups]
    worst = int(np.argmax(apart))
    if apart[worst] > _FAR:
        told = ", ".join(f"{value:g}" for value in values[groups[worst]][:5])
        raise NasError(
            f"{_named(archs, groups[worst][0])} was measured {len(groups[worst])} times with very different results "
            f"({told}); measure it again on an idle machine and leave the wrong ones out"
        )
    repeated = sum(len(group) > 1 for group in groups)
    note = f"{repeated} architectures were measured more than once, up to {100 * (apart[worst] - 1):.1f} % apart"
    first = [group[0] for group in groups]
    kept: Archs = archs[first] if isinstance(archs, np.ndarray) else [archs[index] for index in first]
    return kept, np.array([np.median(values[group]) for group in groups]), (f"{note}; the median of each counts",)


def _too_wide(num_measurements: int, num_features: int, kind: str) -> tuple[str, ...]:
    if num_features < _WIDE * num_measurements:
        return ()
    told = f"{num_measurements} measurements for {num_features} features"
    needed = -(-num_features // _WIDE)
    if num_features >= _HOPELESS * num_measurements:
        raise NasError(f"{told} are too few for every predictor; measure at least {needed} architectures")
    if kind not in _FOR_WIDE:
        raise NasError(f"{told} are too few for {kind!r}; use 'ensemble' or measure at least {needed} architectures")
    return (f"{told}: the predictor depends on its prior, so judge it on held-out measurements before you trust it",)
