"""The correction of a study's front, from its trust report and its evaluations, each time they are read.

The stored labels are the truth: nothing of a correction is stored, and equal records give equal corrections. An
evaluation keeps the inherited metric that it was stored with; what is corrected stands beside it.
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
"""Before the name of a metric whose corrected value has the plain name."""
SHORTEST = 1 / 12
"""Of the supernet's steps: what networks reach alone in fewer is too far from what they can reach to correct by."""
_SIZES = ("params", "macs")


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a network is expected to reach alone."""

    value: float
    std: float
    """Of one training alone about it, its noise included."""


@dataclass(frozen=True)
class Corrected:
    """What the labels of a study say of its evaluations."""

    metric: str
    steps: int
    """Of the training alone that each label is the metric of."""
    estimates: Mapping[str, Estimate] = field(default_factory=dict)
    """By the digest of the architecture; empty where `refused`."""
    check: Check | None = None
    refused: str = ""

    @property
    def sentence(self) -> str:
        """For people: what the corrected values are and how far they held, or why there are none."""
        name = metric(self.metric)
        if self.refused or self.check is None:
            return f"{name.phrase} {self.refused}" if self.refused else ""
        miss, before = name.text(self.check.gap), name.text(self.check.gap_before)
        held = f"left out, these are missed by {miss}, inherited by {before}"
        ranks = f"; tau {self.check.tau:.2f}, inherited {self.check.tau_before:.2f}".replace("-", "−")
        ranks = "" if math.isnan(self.check.tau + self.check.tau_before) else ranks
        told = f"what a network is expected to reach trained alone for {self.steps:,} steps"
        return f"corrected {name.phrase}: {told}, from {self.check.labels} that were ({held}{ranks})"


def of_study(repository: Repository, study: StudyRecord, evaluations: Sequence[Evaluation]) -> Corrected | None:
    """What is known of a study's evaluations; None where no network was trained alone."""
    trust = repository.trust(study.supernet_digest) if study.supernet_digest else None
    if trust is None or study.supernet_digest is None:
        return None
    steps = repository.supernet(study.supernet_digest).steps
    if trust.steps < SHORTEST * steps:
        why = f"is not corrected: the networks trained alone had {trust.steps:,} steps, the supernet {steps:,}"
        rule = f"from {math.ceil(SHORTEST * steps):,} on they tell what a network reaches, and not only the order"
        return Corrected(trust.metric, trust.steps, refused=f"{why}; {rule}")
    return corrected(trust, evaluations)


def corrected(trust: Trust, evaluations: Sequence[Evaluation]) -> Corrected | None:
    """The same of a trust report; None where no evaluation has its metric."""
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
    """The evaluations with corrected metrics under the plain name, and the inherited one as `inherited_NAME`."""
    if found is None or not found.estimates:
        return list(evaluations)
    return [_judged(one, found.metric, found.estimates.get(one.arch.digest)) for one in evaluations]


def judged_columns(columns: Columns, found: Corrected | None) -> Columns:
    """The same of columns; a network without an estimate keeps its metric under the plain name alone."""
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
