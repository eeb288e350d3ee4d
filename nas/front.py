"""The front of a study as rows: what was found with inherited weights, how it is corrected, what networks showed."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from nas import limits, pareto
from nas.corrected import Corrected, Estimate, judged, of_study
from nas.errors import NasError
from nas.limits import Limit
from nas.records import Evaluation, StudyRecord
from nas.storage import Repository
from search_spaces import Architecture


@dataclass(frozen=True)
class Row:
    """One network: `metrics` as the search saw them, `verified` as measured on the network itself."""

    arch: Architecture
    metrics: dict[str, float]
    verified: dict[str, float]
    broken: tuple[str, ...]
    """Limits that the verified metrics break, though the predicted ones kept them."""
    corrected: dict[str, Estimate] = field(default_factory=dict)
    """What the network is expected to reach trained alone, by metric: see `nas.corrected`."""

    def judged(self) -> dict[str, float]:
        """The metrics by which fronts are made: the corrected ones in place of the inherited."""
        return {**self.metrics, **{name: found.value for name, found in self.corrected.items()}}

    def values(self) -> dict[str, float]:
        """All metrics by name: as the search saw them, `corrected_NAME` with `corrected_NAME_std`, and the measured
        ones, which are `measured_NAME` where they were also predicted."""
        measured = {f"measured_{k}" if k in self.metrics else k: v for k, v in self.verified.items()}
        values = {f"corrected_{k}": found.value for k, found in self.corrected.items()}
        spreads = {f"corrected_{k}_std": found.std for k, found in self.corrected.items()}
        return {**self.metrics, **values, **spreads, **measured}


def front(repository: Repository, name: str, where: Sequence[str] = ()) -> list[Row]:
    """The non-dominated feasible evaluations of a study, by its first objective; `where` are further limits.

    Objectives and limits are judged as corrected, where there is a correction. A network that was measured and breaks a
    limit dominates nothing: it is shown, marked, beside those that take its place.

    Raises:
        NasError: no such study, or a malformed limit.
    """
    study, verified = repository.study(name), repository.verified(name)
    evaluations, known = _evaluations(repository, study)
    bounds = [limits.parse(text) for text in (*study.limits, *where)]
    broken = {
        digest: tuple(str(bound) for bound in bounds if bound.metric in seen and not bound.holds(seen))
        for digest, seen in verified.items()
    }
    by_digest = {e.arch.digest: e for e in evaluations}
    seen = judged(evaluations, known)
    keeping = [e for e in seen if not broken.get(e.arch.digest)]
    breaking = [e for e in seen if broken.get(e.arch.digest) and _promises(e, bounds)]
    found = [*non_dominated(study, keeping, where), *breaking]
    found.sort(key=lambda e: tuple(e.metrics[name] for name in study.objectives))
    return [_row(by_digest[e.arch.digest], known, verified, broken.get(e.arch.digest, ())) for e in found]


def correction(repository: Repository, name: str) -> Corrected | None:
    """What the stand-alone trainings say of a study's networks; None where there were none."""
    return _evaluations(repository, repository.study(name))[1]


def _evaluations(repository: Repository, study: StudyRecord) -> tuple[list[Evaluation], Corrected | None]:
    evaluations = repository.evaluations(study.name)
    return evaluations, of_study(repository, study, evaluations)


def _row(
    found: Evaluation, known: Corrected | None, verified: Mapping[str, dict[str, float]], broken: tuple[str, ...]
) -> Row:
    estimate = known.estimates.get(found.arch.digest) if known else None
    corrected = {known.metric: estimate} if known and estimate else {}
    return Row(found.arch, found.metrics, verified.get(found.arch.digest, {}), broken, corrected)


def row(repository: Repository, name: str, prefix: str) -> Row:
    """Any evaluated network of a study as a row: see `find`."""
    found = find(repository, name, prefix)
    return _row(found, correction(repository, name), repository.verified(name), ())


def non_dominated(study: StudyRecord, evaluations: Iterable[Evaluation], where: Sequence[str] = ()) -> list[Evaluation]:
    """Of the evaluations that succeeded and keep all limits, those that no other dominates, by the first objective."""
    bounds = [limits.parse(text) for text in (*study.limits, *where)]
    kept = [e for e in evaluations if _promises(e, bounds)]
    if not kept:
        return []
    values = np.array([[e.metrics[name] for name in study.objectives] for e in kept])
    chosen = [kept[i] for i in np.flatnonzero(pareto.non_dominated(values))]
    return sorted(chosen, key=lambda e: tuple(e.metrics[name] for name in study.objectives))


def _promises(evaluation: Evaluation, bounds: Sequence[Limit]) -> bool:
    """Whether it succeeded and keeps all limits as far as the search saw."""
    return evaluation.error is None and all(bound.holds(evaluation.metrics) for bound in bounds)


def find(repository: Repository, name: str, prefix: str) -> Evaluation:
    """The evaluation of a study whose architecture's digest begins with `prefix`.

    Raises:
        NasError: none does, or more than one.
    """
    found = [e for e in repository.evaluations(name) if e.arch.digest.startswith(prefix)]
    if not found:
        raise NasError(f"no architecture of study {name!r} begins with {prefix!r}; `nas front {name}` lists some")
    if len(found) > 1:
        raise NasError(f"{len(found)} architectures of study {name!r} begin with {prefix!r}; give more of the digest")
    return found[0]


def best(repository: Repository, name: str, where: Sequence[str] = ()) -> Row:
    """The network of the front with the lowest first objective that keeps all limits, as measured where it was.

    Raises:
        NasError: none does.
    """
    for found in front(repository, name, where):
        if not found.broken:
            return found
    bounds = ", ".join((*repository.study(name).limits, *where)) or "no limit"
    raise NasError(f"no network of study {name!r} keeps {bounds}; loosen a limit or search longer")


def as_json(rows: Sequence[Row]) -> str:
    """A JSON list, one object a network."""
    return json.dumps([_plain(row) for row in rows], indent=2)


def as_csv(rows: Sequence[Row]) -> str:
    """Comma-separated, one line a network, the architecture as JSON in the last column."""
    names = list(dict.fromkeys(name for row in rows for name in row.values()))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["digest", *names, "broken_limits", "architecture"])
    for row in rows:
        values: Mapping[str, float] = row.values()
        cells = [repr(values[name]) if name in values else "" for name in names]
        writer.writerow([row.arch.digest, *cells, "; ".join(row.broken), row.arch.json()])
    return text.getvalue()


def _plain(row: Row) -> dict[str, Any]:
    return {
        "digest": row.arch.digest,
        "metrics": row.metrics,
        "corrected": {name: asdict(found) for name, found in row.corrected.items()},
        "verified": row.verified,
        "broken_limits": list(row.broken),
        "architecture": row.arch.to_dict(),
    }
