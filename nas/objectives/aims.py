"""What is wanted of networks: objectives to minimise under limits; of a study with several targets one for each.

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
    """One front: objectives that are minimised together, under limits."""

    objectives: tuple[str, ...]
    limits: tuple[Limit, ...] = ()
    target: str = ""
    """The hardware target that it is for; empty where a study has one front for all."""

    def holds(self, evaluation: Evaluation) -> bool:
        """Whether it succeeded and keeps the limits."""
        return evaluation.error is None and all(limit.holds(evaluation.metrics) for limit in self.limits)

    def keeps(self, columns: Columns) -> Mask:
        """(n,) which succeeded and keep the limits."""
        if not columns.succeeded.any():
            return columns.succeeded
        kept = columns.succeeded.copy()
        for limit in self.limits:
            kept &= limit.among(columns.metrics)
        return kept

    def on_front(self, columns: Columns, among: Mask) -> Mask:
        """(n,) which of those `among` succeeded, keep the limits and are dominated by no other that does."""
        found = among & self.keeps(columns)
        if found.any():
            rows = np.flatnonzero(found)
            values = [columns.metrics[name][rows] for name in self.objectives]
            found[rows] = pareto.non_dominated(np.stack(values, axis=1))
        return found

    def front(self, evaluations: Sequence[Evaluation]) -> list[Evaluation]:
        """Of those that succeeded and keep the limits, the ones that no other dominates, in their order."""
        kept = [evaluation for evaluation in evaluations if self.holds(evaluation)]
        if not kept:
            return []
        return [kept[index] for index in np.flatnonzero(pareto.non_dominated(_values(self, kept)))]


def latency(target: str) -> str:
    """The metric of a target."""
    return f"latency_ms@{target}"


def read_target(text: str) -> tuple[str, str | None]:
    """A target's name and, where it has one, its limit in milliseconds as that on a metric: ``pi5 <= 40``.

    Raises:
        NasError: the text has another form.
    """
    form = _FORM.fullmatch(text)
    if form is None:
        raise NasError(f"{text!r} is no target: write its name, or with a limit in milliseconds as in 'pi5 <= 40'")
    if form["limit"] is None:
        return form["name"], None
    return form["name"], str(parse(f"{latency(form['name'])} {form['limit']}"))


def for_targets(
    objectives: Sequence[str], limits: Sequence[Limit], targets: Mapping[str, Sequence[Limit]]
) -> tuple[Aim, ...]:
    """One aim for each target, of the shared objectives and its latency; without targets a single one."""
    if not targets:
        return (Aim(tuple(objectives), tuple(limits)),)
    return tuple(Aim((*objectives, latency(name)), (*limits, *own), name) for name, own in targets.items())


def of_study(study: StudyRecord, target: str | None = None) -> tuple[Aim, ...]:
    """Those of a stored study, or that of one of its targets.

    Raises:
        NasError: it has no such target.
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
        there = f"its targets are {', '.join(stored)}" if stored else "it has one front for all"
        raise NasError(f"study {study.name!r} has no target {target!r}: {there}")
    return chosen


def under(aims: Sequence[Aim], where: Sequence[str], study: StudyRecord) -> list[Aim]:
    """The aims of a study under further limits, which may be relative to the parent it was searched with.

    Raises:
        NasError: a malformed limit, or a relative one where the study does not know its parent's value.
    """
    further = [parse(text).of(study.settings.get("parent", {})) for text in where]
    return [replace(aim, limits=(*aim.limits, *further)) for aim in aims]


def fronts(aims: Sequence[Aim], evaluations: Sequence[Evaluation]) -> dict[str, tuple[Evaluation, tuple[str, ...]]]:
    """The networks of all fronts by digest, in the order of `evaluations`, each with the targets on whose it is."""
    on: dict[str, list[str]] = {}
    for aim in aims:
        for evaluation in aim.front(evaluations):
            on.setdefault(evaluation.arch.digest, []).append(aim.target)
    return {e.arch.digest: (e, tuple(on[e.arch.digest])) for e in evaluations if e.arch.digest in on}


def distances(aims: Sequence[Aim], evaluations: Sequence[Evaluation]) -> dict[str, dict[str, float]]:
    """How far networks that keep the limits of every aim are from each front, by digest and target.

    The distance is by which share of the front's range a network would have to be better in every objective to be as
    good as a network of the front: the additive epsilon indicator (Zitzler et al. 2003, doi:10.1109/TEVC.2003.810758,
    section IV), 0 on the front itself.
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
    """(n, m) objectives."""
    values = [[evaluation.metrics[name] for name in aim.objectives] for evaluation in evaluations]
    return np.array(values, dtype=float).reshape(len(values), len(aim.objectives))
