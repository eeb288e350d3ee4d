"""Reads and writes a whole study, for copies to other databases and for exported folders."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from nas.records import (
    CurvePoint,
    Distribution,
    Evaluation,
    Life,
    Measurement,
    PredictorRecord,
    SpaceRecord,
    StudyRecord,
    SupernetRecord,
    TargetRecord,
    Trust,
)
from nas.storage import Repository
from nas.storage.keeping import Context

_T = TypeVar("_T")
_PORTION = 2000


@dataclass(frozen=True)
class Surroundings:
    """Records that studies refer to: spaces, weights with their curves and trust reports, and targets."""

    spaces: list[SpaceRecord]
    supernets: list[SupernetRecord]
    curves: dict[str, list[CurvePoint]]
    """By the digest of the weights."""
    trust: dict[str, Trust]
    """By the digest of the weights."""
    targets: list[TargetRecord]
    """Oldest version first."""
    measurements: list[Measurement]
    predictors: list[PredictorRecord]


@dataclass(frozen=True)
class Findings:
    """The content of a study."""

    study: StudyRecord
    evaluations: Mapping[Context, Mapping[int, Evaluation]]
    """By context, then by position in the study."""
    lives: Mapping[int, Life]
    verified: dict[str, dict[str, float]]
    """Metrics measured on the networks, by the digest of the architecture."""
    distributions: list[Distribution]
    distributions_key: str

    def __len__(self) -> int:
        return sum(map(len, self.evaluations.values()))


def surroundings(source: Repository, study: StudyRecord | None) -> Surroundings:
    """Return all surroundings, or those of one study: its space, its weights and the targets that it mentions."""
    supernets = [one for one in source.supernets() if study is None or one.digest == study.supernet_digest]
    spaces = {supernet.space_digest for supernet in supernets} | ({study.space_digest} if study else set())
    weights = source.trained() if study is None else [supernet.digest for supernet in supernets]
    reports = {digest: source.trust(digest) for digest in weights}
    targets = [one for one in reversed(source.target_versions()) if study is None or _speaks_of(study, one)]
    return Surroundings(
        spaces=[space for space in source.spaces() if study is None or space.digest in spaces],
        supernets=supernets,
        curves={digest: source.curve(digest) for digest in weights},
        trust={digest: report for digest, report in reports.items() if report},
        targets=targets,
        measurements=[one for t in targets for one in source.measurements(t.name, version=t.version)],
        predictors=[
            one
            for name in dict.fromkeys(target.name for target in targets)
            for one in source.predictors(name)
            if study is None or one.space_digest == study.space_digest
        ],
    )


def findings(source: Repository, study: StudyRecord) -> Findings:
    """Return the content of a study.

    Raises:
        DamageError: a record does not match its digest.
    """
    placed = source.placed_evaluations(study.name)
    contexts = source.contexts(study.name)
    return Findings(
        study=study,
        evaluations={context: {at: placed[at] for at in positions} for context, positions in contexts.items()},
        lives=source.lives(study.name),
        verified=source.verified(study.name),
        distributions=source.distributions(study.name),
        distributions_key=source.distributions_key(study.name),
    )


def put_surroundings(destination: Repository, found: Surroundings) -> None:
    """Store spaces, supernets, curves, trust reports, targets, measurements and predictors."""
    for space in found.spaces:
        destination.add_space(space)
    for supernet in found.supernets:
        destination.add_supernet(supernet)
    for digest, points in found.curves.items():
        destination.add_curve(digest, points)
    for digest, report in found.trust.items():
        destination.put_trust(digest, report)
    for target in found.targets:
        destination.add_target(target)
    destination.add_measurements(found.measurements)
    for predictor in found.predictors:
        destination.put_predictor(predictor)


def put_findings(destination: Repository, found: Findings) -> None:
    """Store the missing parts of a study, its status last; the destination must have its surroundings.

    Raises:
        NasError: the destination has a different study of this name, or another process drives it.
    """
    name = found.study.name
    with destination.driving(name):
        destination.create_study(found.study, load_if_exists=True)
        if found.distributions:
            destination.put_distributions(name, found.distributions_key, found.distributions)
        for (weights, data), evaluations in found.evaluations.items():
            for portion in portions(evaluations.items()):
                destination.store_evaluations(name, dict(portion), weights, data, found.lives)
        destination.add_verified(name, found.verified)
        destination.set_status(name, found.study.status, found.study.wanted)


def portions(items: Iterable[_T]) -> Iterator[list[_T]]:
    """Yield lists of as many items as one transaction stores."""
    listed = list(items)
    yield from (listed[start : start + _PORTION] for start in range(0, len(listed), _PORTION))


def _speaks_of(study: StudyRecord, target: TargetRecord) -> bool:
    texts = [*study.objectives, *study.limits, *study.settings.get("targets", {})]
    return any(target.name in text for text in texts)
