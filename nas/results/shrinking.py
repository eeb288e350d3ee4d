"""Finds options that no good network needs, from the evaluations of a study, and narrows the space.

An option is closed if the front loses almost nothing without all networks that have it. The loss is a share of the
hypervolume. A bootstrap over the evaluated networks, in which corrected metrics vary by their uncertainty, gives its
interval; the upper end decides, jointly for everything that is closed. An option with few evaluated networks stays.

The space is narrowed as by `Space.where`; the declared space does not change.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from nas.errors import NasError
from nas.objectives import pareto
from nas.objectives.aims import Aim
from nas.records import Evaluation
from nas.results.corrected import Corrected, judged
from search_spaces import Space, SpaceError
from search_spaces.narrowing import Closed, narrowed

RESAMPLES = 200

Floats = npt.NDArray[np.float64]
Option = tuple[int, int]
"""A slot of the space, and the code of one of its options."""


@dataclass(frozen=True)
class Interval:
    """A share of hypervolume lost, with its confidence interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.1%} [{self.low:.1%}, {self.high:.1%}]"


@dataclass(frozen=True)
class Judged:
    """The evidence about one option."""

    path: str
    option: Any
    seen: int
    """Number of evaluated networks with it."""
    on_front: int
    loss: Interval
    """The front's loss without all of them; of several fronts, the largest loss."""
    stays: str = ""
    """Why it is not closed; empty if it is."""

    @property
    def why(self) -> str:
        """The evidence as a sentence."""
        return f"{self.on_front} of {self.seen} networks with it are on the front; without them it loses {self.loss}"


@dataclass(frozen=True)
class Shrunk:
    """A proposal: options in the order in which they were judged, those with the least loss first."""

    space: Space
    """The narrower one."""
    options: tuple[Judged, ...]
    loss: Interval
    """The front's loss without all closed options."""
    closed: tuple[Closed, ...] = field(init=False)

    def __post_init__(self) -> None:
        closed = tuple(Closed(one.path, one.option, one.why) for one in self.options if not one.stays)
        object.__setattr__(self, "closed", closed)

    def as_json(self) -> dict[str, Any]:
        """Return plain values: the number of remaining networks, the front's loss, and the evidence on every option."""
        options = [{**asdict(one), "closed": not one.stays} for one in self.options]
        return {"networks": self.space.count_bound(), "loss": asdict(self.loss), "options": options}


def shrink(
    space: Space,
    aims: Sequence[Aim],
    evaluations: Sequence[Evaluation],
    correction: Corrected | None = None,
    *,
    tolerance: float = 0.01,
    confidence: float = 0.9,
    least: int = 10,
    seed: int = 0,
) -> Shrunk:
    """Close options one by one, the least needed first, as long as the fronts of all aims hardly change.

    Args:
        evaluations: of networks of the space, including failed ones.
        correction: corrected metrics from the trust report.
        tolerance: share of a front's hypervolume that all closed options together may cost; the upper end of the
            interval must not exceed it.
        confidence: level of the intervals.
        least: fewest evaluated networks by which an option can be judged; with fewer, it stays.

    Raises:
        NasError: a setting is out of range, or no evaluated network keeps the limits of an aim.
    """
    _check(tolerance, confidence, least)
    evidence = _Evidence(space, aims, evaluations, correction, confidence, np.random.default_rng(seed))
    alone = {option: evidence.loss({option}) for option in evidence.options()}
    order = sorted(alone, key=lambda option: (alone[option].high, alone[option].value, -evidence.seen(option)))
    closed: set[Option] = set()
    found = []
    for option in order:
        stays = evidence.reason(option, closed, least)
        if not stays and evidence.loss(closed | {option}).high > tolerance:
            stays = f"without it the front could lose more than {tolerance:.1%}"
        if not stays and not evidence.leaves_any(closed | {option}):
            stays = "without it no network would be left"
        if not stays:
            closed.add(option)
        found.append(evidence.told(option, alone[option], stays))
    space = evidence.without(closed)
    return Shrunk(space, tuple(found), evidence.loss(closed))


def _check(tolerance: float, confidence: float, least: int) -> None:
    if not 0 <= tolerance < 1:
        raise NasError(f"tolerance = {tolerance}: it must be a share of the front's hypervolume, for example 0.01")
    if not 0 < confidence < 1:
        raise NasError(f"confidence = {confidence}: it must be a share between 0 and 1, for example 0.9")
    if least < 1:
        raise NasError(f"least = {least}: it must be 1 network or more, for example 10")


class _Front:
    """The feasible networks of one aim, and the front's loss without some of them."""

    def __init__(self, codes: npt.NDArray[np.int16], values: Floats, stds: Floats, rng: np.random.Generator) -> None:
        self.codes = codes
        self.values = values
        self.is_best = pareto.non_dominated(values)
        self.corner = pareto.reference_point(values[self.is_best])
        rows = rng.integers(len(values), size=(RESAMPLES, len(values)))
        noise = rng.standard_normal((RESAMPLES, *values.shape))
        self.draws = [(which, values[which] + stds[which] * own) for which, own in zip(rows, noise, strict=True)]
        self.volume = self._volume(values)
        self.volumes = np.array([self._volume(drawn) for _, drawn in self.draws])

    def losses(self, options: Collection[Option]) -> tuple[float, Floats]:
        """The share lost without all networks that have one of the options, and the shares of each resample."""
        kept = ~np.any([self.codes[:, slot] == code for slot, code in options], axis=0)
        if kept.all():
            return 0.0, np.zeros(RESAMPLES)
        left = np.array([self._volume(drawn[kept[which]]) for which, drawn in self.draws])
        shares = 1 - left / np.where(self.volumes > 0, self.volumes, 1.0)
        return 1 - self._volume(self.values[kept]) / self.volume, np.where(self.volumes > 0, shares, 0.0)

    def _volume(self, values: Floats) -> float:
        return pareto.hypervolume(values[(values < self.corner).all(axis=1)], self.corner)


class _Evidence:
    """The evidence of evaluations about options."""

    def __init__(
        self,
        space: Space,
        aims: Sequence[Aim],
        evaluations: Sequence[Evaluation],
        correction: Corrected | None,
        confidence: float,
        rng: np.random.Generator,
    ) -> None:
        self.space = space
        self._tails = ((1 - confidence) / 2, (1 + confidence) / 2)
        self._codes = space.codes([one.arch for one in evaluations])
        seen = judged(evaluations, correction)
        self._fronts = [self._front(aim, seen, correction, rng) for aim in aims]

    def _front(
        self, aim: Aim, seen: Sequence[Evaluation], correction: Corrected | None, rng: np.random.Generator
    ) -> _Front:
        kept = [number for number, one in enumerate(seen) if aim.holds(one)]
        if not kept:
            whose = f" of target {aim.target}" if aim.target else ""
            raise NasError(f"none of {len(seen)} evaluated networks keeps the limits{whose}: search longer first")
        values = np.array([[seen[number].metrics[name] for name in aim.objectives] for number in kept], dtype=float)
        stds = np.zeros_like(values)
        if correction is not None and correction.metric in aim.objectives:
            column = aim.objectives.index(correction.metric)
            found = [correction.estimates.get(seen[number].arch.digest) for number in kept]
            stds[:, column] = [0.0 if one is None else one.std for one in found]
        return _Front(self._codes[kept], values, stds, rng)

    def options(self) -> Iterator[Option]:
        """The options of choices that still have several."""
        for slot, domain in enumerate(self.space.domains):
            if len(domain) > 1:
                yield from ((slot, code) for code in domain)

    def seen(self, option: Option) -> int:
        return int((self._codes[:, option[0]] == option[1]).sum())

    def loss(self, options: Collection[Option]) -> Interval:
        """The loss of the front that loses most."""
        if not options:
            return Interval(0.0, 0.0, 0.0)
        found = [front.losses(options) for front in self._fronts]
        drawn = np.max([shares for _, shares in found], axis=0)
        low, high = np.quantile(drawn, self._tails)
        return Interval(max(value for value, _ in found), float(low), float(high))

    def reason(self, option: Option, closed: Collection[Option], least: int) -> str:
        """Why an option stays regardless of the loss; empty if it may be closed."""
        slot, code = option
        if (seen := self.seen(option)) < least:
            return f"only {seen} evaluated networks have it, {least} are needed"
        if all((slot, other) in closed for other in self.space.domains[slot] if other != code):
            return "it is the last option of its choice"
        return ""

    def leaves_any(self, closed: Collection[Option]) -> bool:
        """Whether the constraints of the space allow a network without these options."""
        try:
            self.without(closed)
        except SpaceError:
            return False
        return True

    def without(self, closed: Collection[Option]) -> Space:
        slots = self.space.slots
        return narrowed(self.space, [Closed(slots[slot].path, slots[slot].options[code]) for slot, code in closed])

    def told(self, option: Option, loss: Interval, stays: str) -> Judged:
        slot, code = option
        on_front = len(
            {tuple(row) for front in self._fronts for row in front.codes[front.is_best].tolist() if row[slot] == code}
        )
        chosen = self.space.slots[slot]
        return Judged(chosen.path, _plain(chosen.options[code]), self.seen(option), on_front, loss, stays)


def _plain(option: Any) -> Any:
    """The option as a JSON value."""
    return [_plain(one) for one in option] if isinstance(option, tuple) else option
