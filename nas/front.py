"""The front of a study as rows: what was found with inherited weights, and what the networks themselves showed."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nas import limits, pareto
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

    def values(self) -> dict[str, float]:
        """All metrics by name; where one was both predicted and measured, the measured one is `measured_NAME`."""
        measured = {f"measured_{k}" if k in self.metrics else k: v for k, v in self.verified.items()}
        return {**self.metrics, **measured}


def front(repository: Repository, name: str, where: Sequence[str] = ()) -> list[Row]:
    """The non-dominated feasible evaluations of a study, by its first objective; `where` are further limits.

    A network that was measured and breaks a limit dominates nothing: it is shown, marked, beside those that take its
    place.

    Raises:
        NasError: no such study, or a malformed limit.
    """
    study, evaluations, verified = repository.study(name), repository.evaluations(name), repository.verified(name)
    bounds = [limits.parse(text) for text in (*study.limits, *where)]
    broken = {
        digest: tuple(str(bound) for bound in bounds if bound.metric in seen and not bound.holds(seen))
        for digest, seen in verified.items()
    }
    keeping = [e for e in evaluations if not broken.get(e.arch.digest)]
    breaking = [e for e in evaluations if broken.get(e.arch.digest) and _promises(e, bounds)]
    found = [*non_dominated(study, keeping, where), *breaking]
    rows = [Row(e.arch, e.metrics, verified.get(e.arch.digest, {}), broken.get(e.arch.digest, ())) for e in found]
    return sorted(rows, key=lambda row: tuple(row.metrics[name] for name in study.objectives))


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
    for row in front(repository, name, where):
        if not row.broken:
            return row
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
        "verified": row.verified,
        "broken_limits": list(row.broken),
        "architecture": row.arch.to_dict(),
    }
