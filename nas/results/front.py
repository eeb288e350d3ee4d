"""The front of a study as rows: what was found with inherited weights, how it is corrected, what networks showed."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from nas.columns import Columns
from nas.errors import NasError
from nas.objectives import aims, limits
from nas.objectives.aims import Aim
from nas.records import Evaluation, StudyRecord
from nas.results.corrected import Corrected, Estimate, judged, judged_columns, of_study
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
    """What the network is expected to reach trained alone, by metric: see `nas.results.corrected`."""
    targets: tuple[str, ...] = ()
    """On whose fronts it is, of a study with several targets."""

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


@dataclass(frozen=True)
class Read:
    """A study as its front is made of it."""

    inherited: Columns
    """As the search saw them."""
    judged: Columns
    """By which fronts are made: corrected metrics under the plain name, inherited ones as `inherited_NAME`."""
    known: Corrected | None
    verified: Mapping[str, dict[str, float]]
    """What networks showed themselves, by digest."""

    def rows(self, repository: Repository, order: Sequence[int], shown: Mapping[int, Sequence[_Shown]]) -> list[Row]:
        """Some of the networks, with their architectures."""
        digests = self.inherited.digests
        archs = repository.architectures([digests[row] for row in order])
        return [
            _row(archs[digests[row]], self.inherited.measured(row), self.known, self.verified, shown.get(row, ()))
            for row in order
        ]


def read(repository: Repository, name: str) -> Read:
    """A study's evaluations as columns, with what corrects them and what was measured.

    Raises:
        NasError: no such study.
    """
    study, columns, known = repository.study(name), repository.columns(name), None
    if study.supernet_digest and repository.trust(study.supernet_digest):  # which is told of architectures
        known = of_study(repository, study, repository.evaluations(name))
    return Read(columns, judged_columns(columns, known), known, repository.verified(name))


def front(repository: Repository, name: str, where: Sequence[str] = (), target: str | None = None) -> list[Row]:
    """The non-dominated feasible evaluations of a study, by its first objective; `where` are further limits.

    Objectives and limits are judged as corrected, where there is a correction. A network that was measured and breaks a
    limit dominates nothing: it is shown, marked, beside those that take its place. Of a study with several targets the
    fronts of all, or that of one `target`.

    Raises:
        NasError: no such study or target, or a malformed limit.
    """
    return front_of(repository, name, read(repository, name), where, target)


def front_of(
    repository: Repository, name: str, found: Read, where: Sequence[str] = (), target: str | None = None
) -> list[Row]:
    """The same of a study that was read before."""
    study = repository.study(name)
    shown: dict[int, list[_Shown]] = {}
    for aim in aims.under(aims.of_study(study, target), where, study):
        for row, why in _of_aim(aim, found).items():
            shown.setdefault(row, []).append(why)
    objectives = [found.judged.metrics[objective] for objective in study.objectives if shown]
    order = sorted(shown, key=lambda row: tuple(column[row] for column in objectives))
    return found.rows(repository, order, shown)


@dataclass(frozen=True)
class _Shown:
    """Why a network is shown: it is on the front of a target, or would be but for limits that it breaks as measured."""

    target: str
    broken: tuple[str, ...] = ()


def _of_aim(aim: Aim, found: Read) -> dict[int, _Shown]:
    """The networks of one front by their rows, and those that its limits keep from it once they were measured."""
    broken = {}
    for digest, measured in found.verified.items():
        limits = [limit for limit in aim.limits if limit.metric in measured and not limit.holds(measured)]
        if limits:
            broken[found.judged.index[digest]] = tuple(map(str, limits))
    promising = np.ones(len(found.judged), dtype=bool)
    promising[list(broken)] = False
    front = {int(row): _Shown(aim.target) for row in np.flatnonzero(aim.on_front(found.judged, promising))}
    keeps = aim.keeps(found.judged)
    return front | {row: _Shown(aim.target, limits) for row, limits in broken.items() if keeps[row]}


def compromises(repository: Repository, name: str, within: float = 0.05) -> list[Row]:
    """The networks of a study that are near the front of every target, by its first objective.

    Args:
        within: how near, as a share of each front's range: see `nas.objectives.aims.distances`.

    Raises:
        NasError: no such study.
    """
    study, verified = repository.study(name), repository.verified(name)
    evaluations, known = _evaluations(repository, study)
    found, seen = aims.of_study(study), judged(evaluations, known)
    apart = {digest: max(own.values()) for digest, own in aims.distances(found, seen).items()}
    near = [e for e in evaluations if apart.get(e.arch.digest, math.inf) <= within]
    on = {digest: [_Shown(target) for target in targets] for digest, (_, targets) in aims.fronts(found, seen).items()}
    rows = [_row(e.arch, e.metrics, known, verified, on.get(e.arch.digest, ())) for e in near]
    return sorted(rows, key=lambda row: tuple(row.judged()[objective] for objective in study.objectives))


def _evaluations(repository: Repository, study: StudyRecord) -> tuple[list[Evaluation], Corrected | None]:
    evaluations = repository.evaluations(study.name)
    return evaluations, of_study(repository, study, evaluations)


def _row(
    arch: Architecture,
    metrics: dict[str, float],
    known: Corrected | None,
    verified: Mapping[str, dict[str, float]],
    shown: Sequence[_Shown] = (),
) -> Row:
    estimate = known.estimates.get(arch.digest) if known else None
    corrected = {known.metric: estimate} if known and estimate else {}
    broken = dict.fromkeys(limit for one in shown for limit in one.broken)
    targets = tuple(one.target for one in shown if one.target)
    return Row(arch, metrics, verified.get(arch.digest, {}), tuple(broken), corrected, targets)


def row(repository: Repository, name: str, prefix: str) -> Row:
    """Any evaluated network of a study as a row: see `find`."""
    found = read(repository, name)
    return found.rows(repository, [_found(found.inherited, name, prefix)], {})[0]


def find(repository: Repository, name: str, prefix: str) -> Evaluation:
    """The evaluation of a study whose architecture's digest begins with `prefix`.

    Raises:
        NasError: none does, or more than one.
    """
    columns = repository.columns(name)
    row = _found(columns, name, prefix)
    arch = repository.architectures([columns.digests[row]])[columns.digests[row]]
    return Evaluation(
        arch, columns.measured(row), columns.errors[row], float(columns.seconds[row]), columns.workers[row]
    )


def _found(columns: Columns, name: str, prefix: str) -> int:
    found = list(columns.begins_with(prefix))
    if not found:
        raise NasError(f"no architecture of study {name!r} begins with {prefix!r}; `nas front {name}` lists some")
    if len(found) > 1:
        raise NasError(f"{len(found)} architectures of study {name!r} begin with {prefix!r}; give more of the digest")
    return found[0]


def best(repository: Repository, name: str, where: Sequence[str] = (), target: str | None = None) -> Row:
    """The network of the front with the lowest first objective that keeps all limits, as measured where it was.

    Of a study with several targets, `target` says whose front and limits.

    Raises:
        NasError: none does.
    """
    rows = front(repository, name, where, target)
    return first_kept(rows, repository.study(name), where, repository.evaluations(name))


def first_kept(
    rows: Sequence[Row], study: StudyRecord, where: Sequence[str] = (), seen: Sequence[Evaluation] = ()
) -> Row:
    """The first row of a front that breaks no limit as measured.

    Args:
        seen: the study's evaluations, to say what comes nearest.

    Raises:
        NasError: all do.
    """
    for found in rows:
        if not found.broken:
            return found
    bounds, evaluated = (*study.limits, *where), [one.metrics for one in seen if one.metrics]
    measured = [row.metrics | row.verified for row in rows]
    if seen and not evaluated:
        raise NasError(
            f"study {study.name!r} has no network to take: all {len(seen)} evaluations failed, the first with "
            f"{seen[0].error}; correct the run file and search under another name"
        )
    compared, how = (measured, "as measured") if measured else (evaluated, "evaluated")
    nearest = ", ".join(_nearest(limits.parse(bound), compared) for bound in bounds)
    of = f" (the nearest of {len(compared)} {how} have {nearest})" if nearest and compared else ""
    kept = ", ".join(bounds) or "all limits"
    raise NasError(f"no network of study {study.name!r} keeps {kept}{of}; loosen a limit or search longer")


def _nearest(limit: limits.Limit, found: Sequence[Mapping[str, float]]) -> str:
    values = [metrics[limit.metric] for metrics in found if limit.metric in metrics]
    return f"{limit.metric} {(min if limit.is_upper else max)(values):.6g}" if values else f"no {limit.metric}"


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
        **({"targets": list(row.targets)} if row.targets else {}),
        "architecture": row.arch.to_dict(),
    }
