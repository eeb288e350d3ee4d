"""Corrects a study's front from its trust report and its evaluations whenever they are read.

Only the labels are stored, never the correction, so equal records give equal corrections. An evaluation keeps its
inherited metric; the corrected one is returned beside it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from nas.columns import Columns
from nas.objectives.units import metric
from nas.records import Evaluation, StudyRecord, Trust
from nas.results.correction import Check, Label, Network, correct
from nas.storage import Repository
from search_spaces import Architecture

INHERITED = "inherited_"
"""Prefix of an inherited metric whose corrected value has the plain name."""
SHORTEST = 1 / 12
"""Share of the supernet's steps: after shorter stand-alone trainings, metrics are too far from what networks reach."""
_SIZES = ("params", "macs")


@dataclass(frozen=True, slots=True)
class Estimate:
    """The expected metric of a network trained alone."""

    value: float
    std: float
    """Standard deviation of one stand-alone training, including its noise."""


@dataclass(frozen=True)
class Corrected:
    """Corrected metrics of a study's evaluations, from its labels."""

    metric: str
    steps: int
    """Steps of the stand-alone training behind each label."""
    estimates: Mapping[str, Estimate] = field(default_factory=dict)
    """By digest of the architecture; empty if `refused`."""
    check: Check | None = None
    refused: str = ""

    @property
    def sentence(self) -> str:
        """A sentence for display: what the corrected values are and how accurate, or why there are none."""
        name = metric(self.metric)
        if self.refused or self.check is None:
            return f"{name.phrase} {self.refused}" if self.refused else ""
        miss, before = name.text(self.check.gap), name.text(self.check.gap_before)
        held = f"leave-one-out error {miss}, of inherited metrics {before}"
        ranks = f"; tau {self.check.tau:.2f}, of inherited {self.check.tau_before:.2f}".replace("-", "−")
        ranks = "" if math.isnan(self.check.tau + self.check.tau_before) else ranks
        told = f"what a network is expected to reach when trained alone for {self.steps:,} steps"
        return f"corrected {name.phrase}: {told}, from {self.check.labels} that were ({held}{ranks})"


def of_study(repository: Repository, study: StudyRecord, evaluations: Sequence[Evaluation]) -> Corrected | None:
    """Return the correction of a study's evaluations; None if no network was trained alone."""
    trust = repository.trust(study.supernet_digest) if study.supernet_digest else None
    if trust is None or study.supernet_digest is None:
        return None
    steps = repository.supernet(study.supernet_digest).steps
    if trust.steps < SHORTEST * steps:
        why = f"is not corrected: the stand-alone trainings had {trust.steps:,} steps, the supernet {steps:,}"
        rule = f"train for {math.ceil(SHORTEST * steps):,} or more, so that they give values and not only an order"
        return Corrected(trust.metric, trust.steps, refused=f"{why}; {rule}")
    return corrected(trust, evaluations)


def corrected(trust: Trust, evaluations: Sequence[Evaluation]) -> Corrected | None:
    """Return the correction of evaluations by a trust report; None if no evaluation has its metric."""
    known = [one for one in evaluations if trust.metric in one.metrics]
    if not known:
        return None
    sizes = [name for name in _SIZES if all(name in one.metrics for one in known)]
    networks = [Network(one.arch, one.metrics[trust.metric], tuple(one.metrics[s] for s in sizes)) for one in known]
    found = correct([_label(row, sizes) for row in trust.rows], networks)
    if found.refused:
        return Corrected(trust.metric, trust.steps, check=found.check, refused=found.refused)
    pairs = zip(known, map(float, found.values), map(float, found.spreads), strict=True)
    estimates = {one.arch.digest: Estimate(value, std) for one, value, std in pairs}
    return Corrected(trust.metric, trust.steps, estimates, found.check)


def _label(row: Mapping[str, Any], sizes: Sequence[str]) -> Label:
    arch = Architecture.from_json(row["architecture"])
    trainings = [_number(value) for value in (row["standalone"], *row["again"])]
    return Label(Network(arch, _number(row["inherited"]), tuple(row[name] for name in sizes)), tuple(trainings))


def _number(stored: float | None) -> float:
    return math.nan if stored is None else stored


def judged(evaluations: Sequence[Evaluation], found: Corrected | None) -> list[Evaluation]:
    """Return the evaluations with the corrected metric under the plain name, and the inherited as `inherited_NAME`."""
    if found is None or not found.estimates:
        return list(evaluations)
    return [_judged(one, found.metric, found.estimates.get(one.arch.digest)) for one in evaluations]


def judged_columns(columns: Columns, found: Corrected | None) -> Columns:
    """Do the same for columns; a network without an estimate keeps only its inherited metric, under the plain name."""
    if found is None or not found.estimates:
        return columns
    inherited = columns.metrics[found.metric]
    values, before = inherited.copy(), np.full(len(columns), np.nan)
    for digest, estimate in found.estimates.items():
        row = columns.index[digest]
        values[row], before[row] = estimate.value, inherited[row]
    return columns.with_metrics({found.metric: values, INHERITED + found.metric: before})


def _judged(one: Evaluation, name: str, estimate: Estimate | None) -> Evaluation:
    if estimate is None:
        return one
    return replace(one, metrics={**one.metrics, name: estimate.value, INHERITED + name: one.metrics[name]})
