"""The front of a study as rows: inherited metrics, corrected metrics, and metrics measured on the networks."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from nas.columns import Columns
from nas.errors import NasError
from nas.objectives import aims, limits
from nas.objectives.aims import Aim
from nas.records import Evaluation, Lived, StudyRecord
from nas.results.corrected import Corrected, Estimate, judged, judged_columns, of_study
from nas.storage import Repository
from search_spaces import Architecture


@dataclass(frozen=True)
class Row:
    """One network: `metrics` that the search used, `verified` ones measured on the network itself."""

    arch: Architecture
    metrics: dict[str, float]
    verified: dict[str, float]
    broken: tuple[str, ...]
    """Limits that the verified metrics break, though the predicted ones kept them."""
    corrected: dict[str, Estimate] = field(default_factory=dict)
    """The expected metrics of the network trained alone, by metric: see `nas.results.corrected`."""
    targets: tuple[str, ...] = ()
    """For a study with several targets, those on whose fronts the network is."""

    def judged(self) -> dict[str, float]:
        """Return the metrics that determine fronts: corrected ones replace inherited ones."""
        return {**self.metrics, **{name: found.value for name, found in self.corrected.items()}}

    def values(self) -> dict[str, float]:
        """Return all metrics by name.

        These are the ones that the search used, `corrected_NAME` with `corrected_NAME_std`, and the measured ones,
        which are called `measured_NAME` if the search also predicted them.
        """
        measured = {f"measured_{k}" if k in self.metrics else k: v for k, v in self.verified.items()}
        values = {f"corrected_{k}": found.value for k, found in self.corrected.items()}
        spreads = {f"corrected_{k}_std": found.std for k, found in self.corrected.items()}
        return {**self.metrics, **values, **spreads, **measured}


@dataclass(frozen=True)
class Read:
    """A study's data from which its front is computed."""

    inherited: Columns
    """Metrics that the search used."""
    judged: Columns
    """Metrics that determine fronts: corrected ones under the plain name, inherited ones as `inherited_NAME`."""
    known: Corrected | None
    verified: Mapping[str, dict[str, float]]
    """Metrics measured on the networks, by digest."""

    def rows(self, repository: Repository, order: Sequence[int], shown: Mapping[int, Sequence[_Shown]]) -> list[Row]:
        """Return the networks at these positions, with their architectures."""
        digests = self.inherited.digests
        archs = repository.architectures([digests[row] for row in order])
        return [
            _row(archs[digests[row]], self.inherited.measured(row), self.known, self.verified, shown.get(row, ()))
            for row in order
        ]


def read(repository: Repository, name: str) -> Read:
    """Return a study's evaluations as columns, with their correction and the measured metrics.

    Raises:
        NasError: the study does not exist.
    """
    study, columns, known = repository.study(name), repository.columns(name), None
    if study.supernet_digest and repository.trust(study.supernet_digest):  # the correction needs architectures
        known = of_study(repository, study, repository.evaluations(name))
    return Read(columns, judged_columns(columns, known), known, repository.verified(name))


def front(repository: Repository, name: str, where: Sequence[str] = (), target: str | None = None) -> list[Row]:
    """Return the non-dominated feasible evaluations of a study, by its first objective; `where` adds limits.

    Objectives and limits use corrected metrics, if there is a correction. A network whose measured metrics break a
    limit dominates nothing: it is returned, marked, beside those that take its place. For a study with several targets,
    returns the fronts of all, or that of one `target`.

    Raises:
        NasError: the study or target does not exist, or a limit is malformed.
    """
    return front_of(repository, name, read(repository, name), where, target)


def front_of(
    repository: Repository, name: str, found: Read, where: Sequence[str] = (), target: str | None = None
) -> list[Row]:
    """Do the same for a study that `read` returned."""
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
    """Why a network is shown: it is on the front of a target, or would be if its measured metrics kept the limits."""

    target: str
    broken: tuple[str, ...] = ()


def _of_aim(aim: Aim, found: Read) -> dict[int, _Shown]:
    """The networks of one front by row, and those that keep its limits by prediction but not as measured."""
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
    """Return the networks of a study near the front of every target, by its first objective.

    Args:
        within: largest distance, as a share of each front's range: see `nas.objectives.aims.distances`.

    Raises:
        NasError: the study does not exist.
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
    """Return any evaluated network of a study as a row: see `find`."""
    found = read(repository, name)
    return found.rows(repository, [_found(found.inherited, name, prefix)], {})[0]


def find(repository: Repository, name: str, prefix: str) -> Evaluation:
    """Return the evaluation of a study whose architecture's digest starts with `prefix`.

    Raises:
        NasError: no digest starts with it, or more than one.
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
        raise NasError(
            f"no architecture of study {name!r} has a digest that starts with {prefix!r}; `nas front {name}` lists some"
        )
    if len(found) > 1:
        raise NasError(
            f"{len(found)} architectures of study {name!r} have digests that start with {prefix!r}; "
            "give more of the digest"
        )
    return found[0]


def best(repository: Repository, name: str, where: Sequence[str] = (), target: str | None = None) -> Row:
    """Return the network of the front with the lowest first objective that keeps all limits, including as measured.

    For a study with several targets, `target` selects the front and its limits.

    Raises:
        NasError: no network keeps the limits.
    """
    rows = front(repository, name, where, target)
    return first_kept(rows, repository.study(name), where, lambda: repository.evaluations(name))


def first_kept(
    rows: Sequence[Row], study: StudyRecord, where: Sequence[str], seen: Callable[[], Sequence[Evaluation]]
) -> Row:
    """Return the first row of a front whose measured metrics break no limit.

    Args:
        seen: reads the study's evaluations, to say what comes nearest; called only if no row is kept.

    Raises:
        NasError: every row breaks a limit.
    """
    for found in rows:
        if not found.broken:
            return found
    evaluations, bounds = seen(), (*study.limits, *where)
    evaluated = [one.metrics for one in evaluations if one.metrics]
    measured = [row.metrics | row.verified for row in rows]
    if evaluations and not evaluated:
        raise NasError(
            f"study {study.name!r} has no network to take: all {len(evaluations)} evaluations failed, the first with "
            f"{evaluations[0].error}; correct the run file and search under another name"
        )
    compared, how = (measured, "as measured") if measured else (evaluated, "evaluated")
    nearest = ", ".join(_nearest(limits.parse(bound), compared) for bound in bounds)
    of = f" (the nearest of {len(compared)} {how} have {nearest})" if nearest and compared else ""
    kept = ", ".join(bounds) or "all limits"
    raise NasError(f"no network of study {study.name!r} keeps {kept}{of}; loosen a limit or search longer")


def _nearest(limit: limits.Limit, found: Sequence[Mapping[str, float]]) -> str:
    values = [metrics[limit.metric] for metrics in found if limit.metric in metrics]
    return f"{limit.metric} {(min if limit.is_upper else max)(values):.6g}" if values else f"no {limit.metric}"


def lived(repository: Repository, name: str, rows: Sequence[Row]) -> dict[str, Lived]:
    """The lives of the networks of a study, by digest."""
    return repository.lived(name, [row.arch.digest for row in rows])


def as_json(rows: Sequence[Row], lives: Mapping[str, Lived]) -> str:
    """Return a JSON list with one object per network."""
    return json.dumps([_plain(row, lives[row.arch.digest]) for row in rows], indent=2)


def as_csv(rows: Sequence[Row], lives: Mapping[str, Lived]) -> str:
    """Return comma-separated values, one line per network, with the architecture as JSON in the last column."""
    names = list(dict.fromkeys(name for row in rows for name in row.values()))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["digest", *names, "broken_limits", *_LIFE, "architecture"])
    for row in rows:
        values: Mapping[str, float] = row.values()
        cells = [repr(values[name]) if name in values else "" for name in names]
        life = ["" if told is None else told for told in told_life(lives[row.arch.digest]).values()]
        life = [" ".join(told) if isinstance(told, list) else told for told in life]
        writer.writerow([row.arch.digest, *cells, "; ".join(row.broken), *life, row.arch.json()])
    return text.getvalue()


_LIFE = ("evaluation", "proposed", "parents", "stored", "seconds", "worker")


def told_life(one: Lived) -> dict[str, Any]:
    """The life of an evaluation in plain values: its number, counted from 1, how it was proposed and of which others,
    when it was stored (ISO 8601, UTC), what it took (s) and where; None where that is not known."""
    life = one.life
    stored = None if life.stored is None else datetime.fromtimestamp(life.stored, UTC).isoformat(timespec="seconds")
    how, parents = (life.origin.how, list(life.origin.parents)) if life.origin else (None, [])
    return dict(zip(_LIFE, (one.position + 1, how, parents, stored, one.seconds, one.worker), strict=True))


def _plain(row: Row, one: Lived) -> dict[str, Any]:
    return {
        "digest": row.arch.digest,
        "metrics": row.metrics,
        "corrected": {name: asdict(found) for name, found in row.corrected.items()},
        "verified": row.verified,
        "broken_limits": list(row.broken),
        **({"targets": list(row.targets)} if row.targets else {}),
        "life": told_life(one),
        "architecture": row.arch.to_dict(),
    }
