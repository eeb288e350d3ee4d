"""Fits a predictor of the networks' latency on one target by measuring a few of them at a time.

It first measures a diverse design, then the networks near the limits of which the predictor is least certain, until it
predicts held-out measurements well enough or reaches the allowed number. A predictor that decides on limits must
satisfy `serves`; otherwise up to `PATIENCE` times as many networks are measured before it is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from nas.predictors import Archs, Ensemble, Features, Predictor
from nas.predictors.checks import checked, unit_mistake
from nas.predictors.conformal import Bounded, needed
from nas.predictors.design import enough, first, next_to_measure
from nas.predictors.models import FloatArray
from nas.predictors.quality import Quality, Wanted, judged
from nas.predictors.rows import FEWEST
from nas.predictors.stored import Stored, dumps, loads
from nas.predictors.transfer import Transfer
from nas.records import PredictorRecord, TargetRecord
from search_spaces import Architecture, Space

GOOD_ENOUGH = Wanted(spearman=0.95, mape=0.03)
AT_FIRST = 10
AT_A_TIME = 10
PATIENCE = 3
_CANDIDATES = 2000
_LET_THROUGH = 0.8
_BOUNDS_KEPT = Wanted(spearman=-1, mape=np.inf)

Measure = Callable[[Sequence[Architecture]], Sequence[float]]
"""Returns milliseconds of architectures, in their order; repeated architectures are not measured again."""


@dataclass(frozen=True)
class Latency:
    """A predictor of latencies on one target, in milliseconds, and its quality."""

    space: Space
    codes: npt.NDArray[np.int16]
    """(n, num_slots) measured architectures."""
    ms: FloatArray
    """(n,) measured latencies."""
    bounded: Bounded
    quality: Quality | None
    """Quality on held-out measurements; None if there are too few to hold any out."""
    others: tuple[str, ...] = ()
    """The targets from whose predictors it starts."""
    notes: tuple[str, ...] = ()

    def predict(self, archs: Archs) -> tuple[FloatArray, FloatArray]:
        """Return mean and standard deviation of a measurement, each (n,)."""
        return self.bounded.predict(archs)

    def upper(self, archs: Archs, coverage: float) -> FloatArray:
        """Return (n,) bounds that this share of networks keeps as measured; measured networks get their own latency."""
        codes = archs if isinstance(archs, np.ndarray) else self.space.codes(archs)
        known = dict(zip(map(bytes, self.codes), self.ms.tolist(), strict=True))
        took = np.array([known.get(bytes(row), np.nan) for row in codes], dtype=float)
        return np.where(np.isnan(took), self.bounded.upper(codes, coverage), took)

    def is_whole(self) -> bool:
        """Return whether all networks of the space were measured."""
        return len(self.codes) >= self.space.count_bound()


class LatencyFitter:
    """Measures networks until a predictor is accurate enough.

    Args:
        most: number of networks to measure, unless limits need more.
        known: predictors of other targets of the space, by name; the new one starts from them.
        before: the predictor of an earlier version of this target, to detect wrong units.
        given: architectures that the first design includes, such as the references of a target.
        allowed: the only architectures that can be measured, such as those of a table; None for all.
        limits: limits of the latency in milliseconds on which the predictor must decide.
        coverage: share of the networks chosen under a limit that must keep it as measured.
        wanted: quality at which measuring stops before `most`; None always measures `most`.
        features: features of networks in addition to their choices.
    """

    def __init__(
        self,
        space: Space,
        measure: Measure,
        *,
        most: int,
        known: Mapping[str, Predictor] | None = None,
        before: Predictor | None = None,
        given: Sequence[Architecture] = (),
        allowed: Sequence[Architecture] | None = None,
        limits: Sequence[float] = (),
        coverage: float = 0.9,
        wanted: Wanted | None = GOOD_ENOUGH,
        features: Features | None = None,
        seed: int = 0,
    ) -> None:
        self.space = space
        self.measure = measure
        self.most = most
        self.known = dict(known or {})
        self.before = before
        self.given = space.codes(given)
        self.allowed = None if allowed is None else space.codes(allowed)
        self.limits = tuple(limits)
        self.coverage = coverage
        self.wanted = wanted
        self.features = features
        self.seed = seed

    def fit(self, begun: Archs = ()) -> Latency:
        """Return a fitted predictor; measuring continues from the networks `begun`, or starts with a diverse design."""
        codes = begun if isinstance(begun, np.ndarray) else self.space.codes(begun)
        if not len(codes):
            codes = self._first(min(AT_FIRST, self.most))
        while True:
            found = self.fitted(codes)
            more = self._next(found, self._aim(found) - len(found.codes))
            if not len(more):
                return found
            codes = np.vstack([found.codes, more])

    def fitted(self, codes: npt.NDArray[np.int16]) -> Latency:
        """Return a predictor fitted to these networks' measurements, its quality judged on held-out ones.

        Raises:
            NasError: there are too few, or nothing can be learned from them.
        """
        measured = checked(codes, self.measure(self.space.decode(codes)), num_features=len(self.space.feature_names()))
        bounded = Bounded(self.make())
        bounded.fit(measured.archs, measured.y)
        can_judge = len(measured.y) > FEWEST
        quality = judged(self.make, measured.archs, measured.y, self.coverage) if can_judge else None
        codes = np.asarray(measured.archs)
        notes = (*measured.notes, *self._mistakes(codes, measured.y))
        return Latency(self.space, codes, measured.y, bounded, quality, tuple(self.known), notes)

    def _mistakes(self, codes: npt.NDArray[np.int16], ms: FloatArray) -> list[str]:
        """Return probable mistakes of units, compared with known targets and an earlier version of this one."""
        against = {f"beside {name}": predictor for name, predictor in self.known.items()}
        against |= {"beside earlier measurements": self.before} if self.before else {}
        found = {where: unit_mistake(ms, predictor.predict(codes)[0]) for where, predictor in against.items()}
        return [f"{where}: {mistake}" for where, mistake in found.items() if mistake]

    def make(self) -> Predictor:
        """Return an unfitted predictor."""
        if self.known:
            return Transfer(self.space, known=self.known, features=self.features)
        return Ensemble(self.space, features=self.features)

    def _aim(self, found: Latency) -> int:
        """Return the number of networks to measure in total; the current number ends the measuring."""
        now, quality = len(found.codes), found.quality
        if now < self.most and (self.wanted is None or quality is None or not enough(quality, self.wanted)):
            return min(now + AT_A_TIME, self.most)
        most = max(PATIENCE * self.most, needed(self.coverage) + FEWEST)
        if self.limits and now < most and not serves(found, self.limits, self.coverage):
            return min(now + AT_A_TIME, most)
        return now

    def _first(self, n: int) -> npt.NDArray[np.int16]:
        rng = np.random.default_rng([self.seed, 1])
        if self.allowed is None:
            design = np.vstack([self.given, first(self.space, min(n, self.space.count_bound()), rng)])
            _, positions = np.unique(design, axis=0, return_index=True)
            return design[np.sort(positions)[:n]]
        return self.allowed[np.sort(rng.permutation(len(self.allowed))[:n])]

    def _next(self, found: Latency, n: int) -> npt.NDArray[np.int16]:
        """Return (at most n, num_slots) architectures to measure next; fewer if no more exist."""
        if n < 1:
            return found.codes[:0]
        rng = np.random.default_rng([self.seed, 2, len(found.codes)])
        pool = self._pool(rng)
        measured = {row.tobytes() for row in found.codes}
        new = np.array([row for row in np.unique(pool, axis=0) if row.tobytes() not in measured], dtype=np.int16)
        if not len(new):
            return found.codes[:0]
        near = self.limits or None
        return np.asarray(next_to_measure(found.bounded, new, min(n, len(new)), rng, near), dtype=np.int16)

    def _pool(self, rng: np.random.Generator) -> npt.NDArray[np.int16]:
        if self.allowed is not None:
            return self.allowed
        if self.space.count_bound() <= _CANDIDATES:
            return self.space.codes(self.space.enumerate())
        return self.space.sample_codes(_CANDIDATES, rng, uniform="choices")


def serves(found: Latency, limits: Sequence[float] = (), coverage: float = 0.9) -> bool:
    """Return whether a predictor may decide on limits.

    It may if all of the space is measured or `Quality.serves_limits`; or if its bounds hold and accept nearly all of
    the measured networks that keep these limits, as when a limit is far from most latencies.
    """
    if found.is_whole():
        return True
    if found.quality is None:
        return False
    if found.quality.serves_limits:
        return True
    if found.quality.shortfalls(_BOUNDS_KEPT) or not limits:
        return False
    upper = found.bounded.upper(found.codes, coverage)
    let_through = [upper[found.ms <= limit] <= limit for limit in limits]
    return all(len(let) > 0 and let.mean() >= _LET_THROUGH for let in let_through)


def refusal(found: Latency, target: str) -> str:
    """Return why a predictor may not decide on limits, and the remedy, in one line."""
    if found.quality is None:
        return f"{len(found.codes)} measurements on {target} are too few to decide on a limit: measure more"
    return found.quality.refusal(target)


# --- stored


def record(found: Latency, target: TargetRecord, network: str, features: str = "") -> PredictorRecord:
    """Return the record of a predictor for the database; `features` names its additional features."""
    quality: dict[str, Any] = {}
    if found.quality is not None:
        quality = asdict(found.quality) | {
            "verdict": found.quality.verdict,
            "serves_limits": serves(found),
            "refusal": "" if serves(found) else refusal(found, target.name),
            "helped_by": list(found.others),
        }
    stored = Stored.of("ensemble", found.space, found.codes, found.ms, features=features)
    return PredictorRecord(
        target=target.name,
        version=target.version,
        space_digest=found.space.digest,
        network=network,
        kind="transfer" if found.others else "ensemble",
        quality=quality,
        content=dumps(stored),
        warnings=found.notes,
    )


def measured_for(found: PredictorRecord, space: Space) -> npt.NDArray[np.int16]:
    """Return the (n, num_slots) architectures to which a stored predictor was fitted.

    Raises:
        NasError: the record is damaged or belongs to another space.
    """
    return np.array(loads(found.content, space).codes, dtype=np.int16)


def of_record(found: PredictorRecord, space: Space) -> Predictor:
    """Return a stored predictor, fitted to its own measurements without additional features."""
    return replace(loads(found.content, space), features="").fitted()
