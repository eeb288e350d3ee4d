"""The read model: what the pages show of a study, as frozen values and tables, in a few short functions."""

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nas import aims, limits, pareto
from nas.aims import Aim
from nas.corrected import Corrected, judged
from nas.limits import Limit
from nas.records import CurvePoint, Evaluation, SpaceRecord, StudyRecord, Trust
from nas.storage import DEFAULT_URL, Repository
from nas.units import metric

_SIGNS = {"<=": "≤", ">=": "≥"}

_WIDE = 10.0

Values = NDArray[np.float64]


@dataclass(frozen=True)
class StudyView:
    """A study with its evaluations, as one table.

    `table` has one row per evaluation in order of position, with `_digest`, `_failed`, `_reason`, `_seconds`,
    `_worker`, `_feasible` (no limit broken, neither as evaluated nor as measured), `_refuted` (only as measured),
    `_front` (feasible and not dominated in the study's objectives; with several targets, on the front of one of them,
    and `_front@TARGET` for each) and one column per metric in `metrics` (NaN where an evaluation has none).
    """

    study: StudyRecord
    space: SpaceRecord | None
    limits: tuple[Limit, ...]
    evaluations: tuple[Evaluation, ...]
    metrics: tuple[str, ...]
    table: pd.DataFrame
    verified: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """What networks showed by themselves, by digest."""
    corrected: Corrected | None = None
    """What the metrics were corrected by, where they were."""

    @property
    def num_failed(self) -> int:
        return int(self.table["_failed"].sum())

    @property
    def is_running(self) -> bool:
        """Whether more evaluations are to be expected."""
        return self.study.status in ("created", "running")

    @property
    def front(self) -> pd.DataFrame:
        """Rows of the front, best in the first objective first."""
        return self._rows("_front")

    @property
    def refuted(self) -> pd.DataFrame:
        """Rows of what kept all limits as evaluated and breaks one as measured, best in the first objective first."""
        return self._rows("_refuted")

    def _rows(self, mask: str) -> pd.DataFrame:
        rows = self.table[self.table[mask]]
        known = [name for name in self.study.objectives if name in rows]
        return rows.sort_values(known) if known else rows

    def broken_as_measured(self, digest: str) -> list[Limit]:
        """The limits that a network itself breaks; none where it was not measured."""
        return broken_limits(self.verified.get(digest, {}), self.limits)

    def evaluation(self, digest: str) -> Evaluation | None:
        """The evaluation whose architecture's digest begins so, or None where there is none or more than one."""
        found = [whole for whole in self.by_digest if whole.startswith(digest)] if digest else []
        return self.by_digest[found[0]] if len(found) == 1 else None

    @cached_property
    def by_digest(self) -> dict[str, Evaluation]:
        """The evaluations by their architectures' digests, which take long to compute for ten thousand."""
        return dict(zip(self.table["_digest"], self.evaluations, strict=True))


def view(
    study: StudyRecord,
    evaluations: Sequence[Evaluation],
    space: SpaceRecord | None = None,
    verified: Mapping[str, Mapping[str, float]] | None = None,
    corrected: Corrected | None = None,
) -> StudyView:
    """Everything the pages derive from a study's evaluations, and from what their networks themselves showed.

    Metrics are the corrected ones, where there are any, and the inherited ones have names of their own.
    As in `nas.front`, a network that was measured and breaks a limit dominates nothing.
    """
    evaluations = judged(evaluations, corrected)
    parsed = tuple(limits.parse(text) for text in study.limits)
    recorded = dict.fromkeys(name for one in evaluations for name in one.metrics)
    names = tuple(dict.fromkeys([*(name for name in study.objectives if name in recorded), *recorded]))
    digests = [one.arch.digest for one in evaluations]
    seen = verified or {}
    promising = np.array([one.error is None and not broken_limits(one.metrics, parsed) for one in evaluations], bool)
    breaking = np.array([bool(broken_limits(seen.get(digest, {}), parsed)) for digest in digests], bool)
    table = pd.DataFrame(
        {
            "_digest": digests,
            "_failed": [one.error is not None for one in evaluations],
            "_reason": [one.error or "" for one in evaluations],
            "_seconds": [one.seconds for one in evaluations],
            "_worker": [one.worker for one in evaluations],
            "_feasible": promising & ~breaking,
            "_refuted": promising & breaking,
        }
    ).astype({"_failed": bool})
    for name in names:
        table[f"{name}"] = [one.metrics.get(name, math.nan) for one in evaluations]
    fronts = {aim.target: _front(table, aim, evaluations, digests, seen) for aim in aims.of_study(study)}
    table["_front"] = np.any(list(fronts.values()), axis=0) if len(table) else np.zeros(0, dtype=bool)
    for target in filter(None, fronts):
        table[f"_front@{target}"] = fronts[target]
    return StudyView(study, space, parsed, tuple(evaluations), names, table, seen, corrected)


def _front(
    table: pd.DataFrame,
    aim: Aim,
    evaluations: Sequence[Evaluation],
    digests: Sequence[str],
    seen: Mapping[str, Mapping[str, float]],
) -> NDArray[np.bool_]:
    """Mask over rows: on the front of an aim, whose own limits are kept as evaluated and as measured."""
    keeping = [
        not (broken_limits(one.metrics, aim.limits) or broken_limits(seen.get(digest, {}), aim.limits))
        for one, digest in zip(evaluations, digests, strict=True)
    ]
    return non_dominated(table.assign(_feasible=table["_feasible"] & np.array(keeping, dtype=bool)), aim.objectives)


def plane(shown: StudyView, x: str, y: str) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The table with the front that a plane of two metrics shows, and the objectives of this front.

    Of a study with several targets it is that of the target whose objectives these are, else that of all.
    """
    for aim in aims.of_study(shown.study):
        if aim.target and set(aim.objectives) == {x, y}:
            return shown.table.assign(_front=shown.table[f"_front@{aim.target}"]), aim.objectives
    return shown.table, tuple(shown.study.objectives)


def broken_limits(metrics: Mapping[str, float], bounds: Sequence[Limit]) -> list[Limit]:
    """The limits that these metrics break; a limit on a metric that was not measured is none of them."""
    return [limit for limit in bounds if limit.metric in metrics and not limit.holds(metrics)]


def limit_text(limit: Limit) -> str:
    """A limit as people read it: `latency on cpu ≤ 9 ms`."""
    named = metric(limit.metric)
    return f"{named.phrase} {_SIGNS.get(limit.op, limit.op)} {named.text(limit.value)}"


def spans_widely(rows: pd.DataFrame, name: str) -> bool:
    """Whether a metric's values are positive and the largest is tens of times the smallest."""
    values = rows[name].to_numpy(float) if name in rows else np.zeros(0)
    values = values[np.isfinite(values)]
    return bool(len(values) and values.min() > 0 and values.max() >= _WIDE * values.min())


def spaces(repository: Repository) -> dict[str, SpaceRecord]:
    """All declared spaces by digest."""
    return {space.digest: space for space in repository.spaces()}


def non_dominated(table: pd.DataFrame, metrics: Sequence[str]) -> NDArray[np.bool_]:
    """Mask over rows: feasible, with a value of every metric, and not dominated in them (all minimised)."""
    mask = np.zeros(len(table), dtype=np.bool_)
    rows = rankable(table, metrics)
    if len(rows):
        mask[rows] = pareto.non_dominated(table[list(metrics)].to_numpy(float)[rows])
    return mask


def rankable(table: pd.DataFrame, metrics: Sequence[str]) -> NDArray[np.intp]:
    """Positions of the feasible rows that have a value of every metric."""
    if not len(table) or any(name not in table for name in metrics):
        return np.zeros(0, dtype=np.intp)
    finite = np.isfinite(table[list(metrics)].to_numpy(float)).all(axis=1)
    return np.flatnonzero(finite & table["_feasible"].to_numpy(bool))


def studies_table(views: Sequence[StudyView]) -> pd.DataFrame:
    """One row per study, newest first; empty without columns where there is none."""
    table = pd.DataFrame([summary(shown) for shown in views])
    return table.sort_values("started", ascending=False, ignore_index=True) if len(table) else table


def summary(shown: StudyView) -> dict[str, Any]:
    """The numbers of a study that a list of studies shows."""
    study = shown.study
    return {
        "study": study.name,
        "status": study.status,
        "space": shown.space.name if shown.space else "",
        "objectives": ", ".join(metric(name).phrase for name in study.objectives),
        "limits": ", ".join(map(limit_text, shown.limits)),
        "searcher": study.searcher,
        "evaluations": len(shown.evaluations),
        "failures": shown.num_failed,
        "front": int(shown.table["_front"].sum()),
        "started": pd.to_datetime(study.created, utc=True),
    }


def hypervolume_history(table: pd.DataFrame, objectives: Sequence[str]) -> Values:
    """Hypervolume of the front after each evaluation, `(n,)`, as a share of the box that runs from the best value
    of each objective to the reference point of all feasible evaluations; 0 before the first feasible one."""
    history: Values = np.zeros(len(table))
    rows = rankable(table, objectives)
    if not len(rows):
        return history
    values = table[list(objectives)].to_numpy(float)[rows]
    ideal = values.min(axis=0)
    reference = pareto.reference_point(values)
    scaled = (values - ideal) / (reference - ideal)
    front: Values = np.zeros((0, len(objectives)))
    volume = 0.0
    for row, point in zip(rows, scaled, strict=True):
        if not (front <= point).all(axis=1).any():
            front = np.vstack([front[~(front >= point).all(axis=1)], point])
            volume = pareto.hypervolume(front, np.ones(len(objectives)))
        history[row:] = volume
    return history


def best_so_far(table: pd.DataFrame, metric: str) -> Values:
    """Least feasible value of a metric after each evaluation, `(n,)`; NaN before the first."""
    values = np.full(len(table), np.inf)
    rows = rankable(table, [metric])
    if len(rows):
        values[rows] = table[metric].to_numpy(float)[rows]
    best = np.minimum.accumulate(values) if len(values) else values
    return np.where(np.isfinite(best), best, np.nan)


def trust_table(trust: Trust) -> pd.DataFrame:
    """Columns digest, inherited, standalone, again of the networks in a trust report that have the first two values.

    `again` is the metric of a second stand-alone training, NaN of networks that were trained once.
    """
    names = ["digest", "inherited", "standalone", "again"]
    rows = [(row["digest"], row["inherited"], row["standalone"], next(iter(row["again"]), None)) for row in trust.rows]
    table = pd.DataFrame(rows, columns=names).astype(dict.fromkeys(names[1:], float))
    return table.dropna(subset=names[1:3], ignore_index=True)


def curve_table(points: Sequence[CurvePoint]) -> pd.DataFrame:
    """Columns step, which, metric, value, in order of step; points that are not finite are left out."""
    rows = [(p.step, p.which, p.metric, p.value) for p in points if math.isfinite(p.value)]
    return pd.DataFrame(rows, columns=["step", "which", "metric", "value"]).sort_values("step", kind="stable")


def selected_digests(event: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Architecture digests of the points chosen in a chart, each once, in the order chosen.

    A point carries its digest as the first item of `customdata`; points without one (lines, limits) say nothing.
    """
    points = ((event or {}).get("selection") or {}).get("points") or []
    data = [point.get("customdata") for point in points]
    firsts = [item[0] if isinstance(item, (list, tuple)) and item else item for item in data]
    return tuple(dict.fromkeys(item for item in firsts if isinstance(item, str) and item))


def export_command(study: str, digest: str, url: str = DEFAULT_URL) -> str:
    """The command that writes one network of a study in the database at `url` to files."""
    storage = "" if url == DEFAULT_URL else f" --storage {shlex.quote(url)}"
    return f"nas export {shlex.quote(study)} --architecture {digest[:8]} --to {digest[:8]}{storage}"


def why_empty(shown: StudyView) -> str | None:
    """Why a study has nothing to draw, or None where it has."""
    if not shown.evaluations:
        return f"Study {shown.study.name!r} has no evaluations yet; they appear here as they are stored."
    if shown.num_failed == len(shown.evaluations):
        first = shown.evaluations[0].error
        return f"All {shown.num_failed} evaluations of {shown.study.name!r} failed; the first with: {first}"
    return None
