"""The read model: a study as frozen values and tables for the pages, which read its evaluations only from here."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nas.columns import Columns
from nas.objectives import aims, pareto
from nas.objectives import limits as limits_module
from nas.objectives.limits import Limit
from nas.objectives.units import metric
from nas.records import CurvePoint, Evaluation, SpaceRecord, StudyRecord, Trust
from nas.results import corrected
from nas.results.corrected import INHERITED, Corrected
from nas.storage import Repository
from search_spaces import Architecture

_SIGNS = {"<=": "≤", ">=": "≥"}
_KEEPS = {"<=": np.less_equal, "<": np.less, ">=": np.greater_equal, ">": np.greater}
_WIDE = 10.0
_MEASURED, _SPREAD = "measured ", "spread "

Values = NDArray[np.float64]
Mask = NDArray[np.bool_]


Find = Callable[[Sequence[str]], Mapping[str, Architecture]]
"""Returns architectures by digest, to load only those that are shown: `Repository.architectures`."""


@dataclass(frozen=True)
class StudyView:
    """A study with its evaluations, as one table.

    `table` has a row per evaluation in order of position, with `_digest`, `_failed`, `_reason`, `_seconds`, `_worker`,
    `_feasible` (keeps all limits, as evaluated and as measured), `_refuted` (breaks limits only as measured), `_front`
    (feasible and not dominated in the study's objectives; with several targets, on the front of one of them, and
    `_front@TARGET` for each), a column per metric in `metrics` (NaN if an evaluation lacks it), and for some metrics
    `measured(name)` and `spread(name)`.
    """

    study: StudyRecord
    space: SpaceRecord | None
    limits: tuple[Limit, ...]
    columns: Columns
    find: Find
    metrics: tuple[str, ...]
    table: pd.DataFrame
    verified: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Metrics measured on the networks, by digest."""
    corrected: Corrected | None = None
    """The correction of the metrics, if any."""

    @property
    def num_failed(self) -> int:
        return int(self.table["_failed"].sum())

    @property
    def is_running(self) -> bool:
        """Whether more evaluations may come."""
        return self.study.status in ("created", "running")

    @property
    def targets(self) -> tuple[str, ...]:
        """Targets with their own fronts, in a study with several; else empty."""
        return tuple(aim.target for aim in aims.of_study(self.study) if aim.target)

    @property
    def front(self) -> pd.DataFrame:
        """Rows of the front, best in the first objective first."""
        return self._rows("_front")

    @property
    def refuted(self) -> pd.DataFrame:
        """Rows that keep all limits as evaluated but break one as measured, best in the first objective first."""
        return self._rows("_refuted")

    def _rows(self, mask: str) -> pd.DataFrame:
        rows = self.table[self.table[mask]]
        known = [name for name in self.study.objectives if name in rows]
        return rows.sort_values(known) if known else rows

    def broken_as_measured(self, digest: str) -> list[Limit]:
        """Return the limits that a network breaks as measured; empty if it was not measured."""
        return broken_limits(self.verified.get(digest, {}), self.limits)

    def evaluation(self, prefix: str) -> Evaluation | None:
        """Return the evaluation whose architecture's digest starts with `prefix`; None if there is not exactly one.

        Its metrics are those that determine fronts: corrected ones, if any.
        """
        place = self.places.get(prefix)
        if place is None and prefix:
            found = [whole for whole in self.places if whole.startswith(prefix)]
            place = self.places[found[0]] if len(found) == 1 else None
        return None if place is None else self.at(place)

    def at(self, place: int) -> Evaluation:
        """Return the evaluation at a position, as `evaluation` does."""
        found, (arch,) = self.columns, self.archs([place])
        error, seconds, worker = found.errors[place], float(found.seconds[place]), found.workers[place]
        evaluation = Evaluation(arch, found.measured(place), error, seconds, worker)
        return corrected.judged([evaluation], self.corrected)[0]

    def archs(self, places: Iterable[int]) -> list[Architecture]:
        """Return the architectures at these positions."""
        digests = [self.columns.digests[place] for place in places]
        known = self.find(digests)
        return [known[digest] for digest in digests]

    @cached_property
    def places(self) -> dict[str, int]:
        """The positions by digest."""
        return {digest: place for place, digest in enumerate(self.table["_digest"])}


def measured(name: str) -> str:
    """Return the column of a metric as measured on the networks."""
    return _MEASURED + name


def spread(name: str) -> str:
    """Return the column of a corrected metric's standard deviation."""
    return _SPREAD + name


def view(
    study: StudyRecord,
    columns: Columns,
    find: Find,
    space: SpaceRecord | None = None,
    verified: Mapping[str, Mapping[str, float]] | None = None,
    known: Corrected | None = None,
) -> StudyView:
    """Return everything that the pages derive from a study's evaluations and its networks' measured metrics.

    Corrected metrics, if any, have the plain names, and inherited ones their own. As in `nas.results.front`, a network
    that breaks a limit as measured dominates nothing.

    Raises:
        NasError: a limit of the study is invalid.
    """
    seen = verified or {}
    parent = study.settings.get("parent", {})
    parsed = tuple(limits_module.parse(text).of(parent) for text in study.limits)
    table = _table(columns, seen, known)
    recorded = [name for name in map(str, table) if not name.startswith(("_", _MEASURED, _SPREAD))]
    names = tuple(dict.fromkeys([*(name for name in study.objectives if name in recorded), *recorded]))
    table["_feasible"], table["_refuted"] = judged(table, parsed)
    fronts = {
        aim.target: non_dominated(table, aim.objectives, judged(table, (*parsed, *aim.limits))[0])
        for aim in aims.of_study(study)
    }
    table["_front"] = np.any(list(fronts.values()), axis=0) if len(table) else np.zeros(0, dtype=bool)
    for target in filter(None, fronts):
        table[f"_front@{target}"] = fronts[target]
    return StudyView(study, space, parsed, columns, find, names, table, seen, known)


def _table(columns: Columns, seen: Mapping[str, Mapping[str, float]], known: Corrected | None) -> pd.DataFrame:
    digests, values = columns.digests, dict(columns.metrics)
    if known and known.estimates:
        estimates = [known.estimates.get(digest) for digest in digests]
        inherited = values[known.metric]
        values[known.metric] = _filled([None if one is None else one.value for one in estimates], inherited)
        values[INHERITED + known.metric] = inherited
        values[spread(known.metric)] = _filled([None if one is None else one.std for one in estimates], math.nan)
    for name in dict.fromkeys(name for own in seen.values() for name in own):
        values[measured(name)] = _filled([seen.get(digest, {}).get(name) for digest in digests], math.nan)
    facts = {
        "_digest": digests,
        "_failed": ~columns.succeeded,
        "_reason": [error or "" for error in columns.errors],
        "_seconds": columns.seconds,
        "_worker": columns.workers,
    }
    return pd.DataFrame({**facts, **values})


def _filled(values: Sequence[float | None], otherwise: Any) -> Values:
    found = np.array([math.nan if value is None else value for value in values], dtype=float)
    return np.where(np.isnan(found), otherwise, found)


def judged(table: pd.DataFrame, bounds: Iterable[Limit]) -> tuple[Mask, Mask]:
    """Return two masks of rows: those that keep all limits, and those that break limits only as measured.

    An evaluation does not break a limit on a metric that it lacks.
    """
    promising = ~table["_failed"].to_numpy(bool)
    breaking = np.zeros(len(table), dtype=bool)
    for limit in bounds:
        promising &= ~_breaks(table, limit.metric, limit)
        breaking |= _breaks(table, measured(limit.metric), limit)
    return promising & ~breaking, promising & breaking


def _breaks(table: pd.DataFrame, column: str, limit: Limit) -> Mask:
    if column not in table:
        return np.zeros(len(table), dtype=bool)
    values = table[column].to_numpy(float)
    broken: Mask = ~np.isnan(values) & ~_KEEPS[limit.op](values, limit.value)
    return broken


def broken_limits(metrics: Mapping[str, float], bounds: Sequence[Limit]) -> list[Limit]:
    """Return the limits that these metrics break, ignoring limits on other metrics."""
    return [limit for limit in bounds if limit.metric in metrics and not limit.holds(metrics)]


def limit_text(limit: Limit) -> str:
    """Return a limit for display: `latency on cpu ≤ 9 ms`."""
    named = metric(limit.metric)
    return f"{named.phrase} {_SIGNS.get(limit.op, limit.op)} {named.text(limit.value)}"


def spans_widely(rows: pd.DataFrame, name: str) -> bool:
    """Return whether a metric's values are positive and the largest is at least `_WIDE` times the smallest."""
    values = rows[name].to_numpy(float) if name in rows else np.zeros(0)
    values = values[np.isfinite(values)]
    return bool(len(values) and values.min() > 0 and values.max() >= _WIDE * values.min())


def spaces(repository: Repository) -> dict[str, SpaceRecord]:
    """Return all spaces by digest."""
    return {space.digest: space for space in repository.spaces()}


def non_dominated(table: pd.DataFrame, metrics: Sequence[str], feasible: Mask | None = None) -> Mask:
    """Return a mask of feasible rows that have all metrics and are not dominated in them (all minimised)."""
    mask = np.zeros(len(table), dtype=np.bool_)
    rows = rankable(table, metrics, feasible)
    if len(rows):
        mask[rows] = pareto.non_dominated(table[list(metrics)].to_numpy(float)[rows])
    return mask


def rankable(table: pd.DataFrame, metrics: Sequence[str], feasible: Mask | None = None) -> NDArray[np.intp]:
    """Return the positions of the feasible rows that have a value of every metric."""
    if not len(table) or any(name not in table for name in metrics):
        return np.zeros(0, dtype=np.intp)
    finite = np.isfinite(table[list(metrics)].to_numpy(float)).all(axis=1)
    return np.flatnonzero(finite & (table["_feasible"].to_numpy(bool) if feasible is None else feasible))


def trust_table(trust: Trust) -> pd.DataFrame:
    """Return columns digest, inherited, standalone and again of a trust report's networks with the first two values.

    `again` is the metric of a second stand-alone training, NaN for networks that were trained once.
    """
    names = ["digest", "inherited", "standalone", "again"]
    rows = [(row["digest"], row["inherited"], row["standalone"], next(iter(row["again"]), None)) for row in trust.rows]
    table = pd.DataFrame(rows, columns=names).astype(dict.fromkeys(names[1:], float))
    return table.dropna(subset=names[1:3], ignore_index=True)


def curve_table(points: Sequence[CurvePoint]) -> pd.DataFrame:
    """Return columns step, which, metric and value of the finite points, in order of steps."""
    rows = [(p.step, p.which, p.metric, p.value) for p in points if math.isfinite(p.value)]
    return pd.DataFrame(rows, columns=["step", "which", "metric", "value"]).sort_values("step", kind="stable")


def why_empty(shown: StudyView) -> str | None:
    """Return why a study has nothing to draw; None if it has."""
    if not len(shown.table):
        return f"Study {shown.study.name!r} has no evaluations yet; they appear here as they are stored."
    if shown.num_failed == len(shown.table):
        first = shown.table["_reason"].iloc[0]
        return f"All {shown.num_failed} evaluations of {shown.study.name!r} failed; the first with: {first}"
    return None
