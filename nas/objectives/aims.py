"""Aims: objectives to minimise under limits. A study with several targets has one aim per target.

Accuracy does not depend on the hardware and latency does not depend on the weights, so one study serves many targets:
they share the evaluations and the objectives, and each has its own latency, limits and front.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from nas.columns import Columns, Mask
from nas.errors import NasError
from nas.objectives import pareto
from nas.objectives.limits import Limit, parse
from nas.records import Evaluation, StudyRecord

_FORM = re.compile(r"\s*(?P<name>[^\s<>=!~]+)\s*(?P<limit>[<>=!~].*)?")


@dataclass(frozen=True)
class Aim:
    """One front: objectives that are minimised together under limits."""

    objectives: tuple[str, ...]
    limits: tuple[Limit, ...] = ()
    target: str = ""
    """The hardware target; empty if the study has a single front."""

    def holds(self, evaluation: Evaluation) -> bool:
        """Whether an evaluation succeeded and keeps the limits."""
        return evaluation.error is None and all(limit.holds(evaluation.metrics) for limit in self.limits)

    def keeps(self, columns: Columns) -> Mask:
        """Return (n,) bool: which evaluations succeeded and keep the limits."""
        if not columns.succeeded.any():
            return columns.succeeded
        kept = columns.succeeded.copy()
        for limit in self.limits:
            kept &= limit.among(columns.metrics)
        return kept

    def on_front(self, columns: Columns, among: Mask) -> Mask:
        """Return (n,) bool: which of those `among` keep the limits and are not dominated by others that do."""
        found = among & self.keeps(columns)
        if found.any():
            rows = np.flatnonzero(found)
            values = [columns.metrics[name][rows] for name in self.objectives]
            found[rows] = pareto.non_dominated(np.stack(values, axis=1))
        return found

    def front(self, evaluations: Sequence[Evaluation]) -> list[Evaluation]:
        """Return the non-dominated among the evaluations that succeeded and keep the limits, in their order."""
        kept = [evaluation for evaluation in evaluations if self.holds(evaluation)]
        if not kept:
            return []
        return [kept[index] for index in np.flatnonzero(pareto.non_dominated(_values(self, kept)))]


def latency(target: str) -> str:
    """Return the name of a target's latency metric."""
    return f"latency_ms@{target}"


def read_target(text: str) -> tuple[str, str | None]:
    """Return the name of a target and its limit as text, None if it has none; ``pi5 <= 40`` limits milliseconds.

    Raises:
        NasError: the text has another form.
    """
    form = _FORM.fullmatch(text)
    if form is None:
        raise NasError(
            f"{text!r} is not a target: write its name, or its name and a limit in milliseconds as in 'pi5 <= 40'"
        )
    if form["limit"] is None:
        return form["name"], None
    return form["name"], str(parse(f"{latency(form['name'])} {form['limit']}"))


def for_targets(
    objectives: Sequence[str], limits: Sequence[Limit], targets: Mapping[str, Sequence[Limit]]
) -> tuple[Aim, ...]:
    """Return one aim per target, with the shared objectives and the target's latency; without targets a single aim."""
    if not targets:
        return (Aim(tuple(objectives), tuple(limits)),)
    return tuple(Aim((*objectives, latency(name)), (*limits, *own), name) for name, own in targets.items())


def of_study(study: StudyRecord, target: str | None = None) -> tuple[Aim, ...]:
    """Return the aims of a stored study, or the aim of one of its targets.

    Raises:
        NasError: the study has no such target.
    """
    stored: Mapping[str, Sequence[str]] = study.settings.get("targets", {})
    shared = [name for name in study.objectives if name not in map(latency, stored)]
    found = for_targets(
        shared, [parse(text) for text in study.limits], {name: [*map(parse, own)] for name, own in stored.items()}
    )
    if target is None:
        return found
    chosen = tuple(aim for aim in found if aim.target == target)
    if not chosen:
        remedy = f"choose one of {', '.join(stored)}" if stored else "it has a single front, so leave the target out"
        raise NasError(f"study {study.name!r} has no target {target!r}: {remedy}")
    return chosen


def under(aims: Sequence[Aim], where: Sequence[str], study: StudyRecord) -> list[Aim]:
    """Return the aims of a study with further limits, which may be relative to the study's parent.

    Raises:
        NasError: a limit is malformed, or relative although the study does not store the parent's value.
    """
    further = [parse(text).of(study.settings.get("parent", {})) for text in where]
    return [replace(aim, limits=(*aim.limits, *further)) for aim in aims]


def fronts(aims: Sequence[Aim], evaluations: Sequence[Evaluation]) -> dict[str, tuple[Evaluation, tuple[str, ...]]]:
    """Return the networks of all fronts by digest, in the order of `evaluations`, with the targets of their fronts."""
    on: dict[str, list[str]] = {}
    for aim in aims:
        for evaluation in aim.front(evaluations):
            on.setdefault(evaluation.arch.digest, []).append(aim.target)
    return {e.arch.digest: (e, tuple(on[e.arch.digest])) for e in evaluations if e.arch.digest in on}


def distances(aims: Sequence[Aim], evaluations: Sequence[Evaluation]) -> dict[str, dict[str, float]]:
    """Return the distance from each front of the networks that keep the limits of every aim, by digest and target.

    The distance is the share of the front's range by which a network would have to improve in every objective to equal
    a network of the front: the additive epsilon indicator (Zitzler et al. 2003, doi:10.1109/TEVC.2003.810758, section
    IV). It is 0 on the front itself.
    """
    kept = [evaluation for evaluation in evaluations if all(aim.holds(evaluation) for aim in aims)]
    found: dict[str, dict[str, float]] = {evaluation.arch.digest: {} for evaluation in kept}
    for aim in aims:
        values, front = _values(aim, kept), _values(aim, aim.front(evaluations))
        span = np.ptp(front, axis=0) if len(front) else np.ones(len(aim.objectives))
        apart = (values[:, None] - front[None]) / np.where(span > 0, span, 1.0)
        for evaluation, distance in zip(kept, apart.max(axis=2, initial=0.0).min(axis=1, initial=np.inf), strict=True):
            found[evaluation.arch.digest][aim.target] = max(0.0, float(distance))
    return found


def _values(aim: Aim, evaluations: Sequence[Evaluation]) -> npt.NDArray[np.float64]:
    """Return (n, m) objectives."""
    values = [[evaluation.metrics[name] for name in aim.objectives] for evaluation in evaluations]
    return np.array(values, dtype=float).reshape(len(values), len(aim.objectives))
