"""The progress of searches: finished work, remaining time, and growth of the front."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from dashboard import queries
from dashboard.queries import StudyView, Values
from nas.objectives import aims, pareto
from nas.objectives.units import metric

MOST_OBJECTIVES = 4
"""Most objectives for hypervolumes; with more, they take too long to compute."""
_POINTS = 24  # points of a sparkline
_AT_ONCE = 256  # evaluations compared with the front at once


@dataclass(frozen=True)
class Unreadable:
    """A study whose record is invalid, and why."""

    name: str
    status: str
    created: str
    reason: str
    count: int


def studies_table(views: Sequence[StudyView | Unreadable], now: datetime | None = None) -> pd.DataFrame:
    """Return a row per study, newest first; an empty table without columns if there are none."""
    rows = [broken(one) if isinstance(one, Unreadable) else summary(one, now) for one in views]
    table = pd.DataFrame(rows)
    return table.sort_values("started", ascending=False, ignore_index=True) if len(table) else table


def summary(shown: StudyView, now: datetime | None = None) -> dict[str, Any]:
    """Return the figures of a study for the list of studies."""
    study, last = shown.study, _last(shown)
    left = seconds_left(shown, now)
    return {
        "study": study.name,
        "status": study.status,
        "space": shown.space.name if shown.space else "",
        "objectives": ", ".join(metric(name).phrase for name in study.objectives),
        "limits": ", ".join(map(queries.limit_text, shown.limits)),
        "targets": ", ".join(targets(shown)),
        "searcher": study.searcher,
        "evaluations": len(shown.table),
        "progress": share_done(shown),
        "left": "" if left is None else f"about {duration(left)}",
        "failures": shown.num_failed,
        "front": int(shown.table["_front"].sum()),
        "hypervolume": sparkline(shown),
        "last": last,
        "started": pd.to_datetime(study.created, utc=True),
    }


def broken(study: Unreadable) -> dict[str, Any]:
    """Return the row of a study that cannot be read."""
    return {
        "study": study.name,
        "status": f"cannot be read: {study.reason}",
        "evaluations": study.count,
        "hypervolume": [],
        "started": pd.to_datetime(study.created, utc=True),
        **dict.fromkeys(("space", "objectives", "limits", "targets", "searcher", "left", "last"), ""),
    }


def targets(shown: StudyView) -> list[str]:
    """Return the targets in a study's metrics and limits."""
    names = [*shown.study.objectives, *(limit.metric for limit in shown.limits)]
    found = [metric(name).device for name in names]
    return list(dict.fromkeys([*shown.targets, *filter(None, found)]))


def asked(shown: StudyView) -> int | None:
    """Return the number of evaluations that the search was asked for; None if it has not started."""
    return shown.study.wanted


def share_done(shown: StudyView) -> float | None:
    """Return the finished share, from 0 to 1; None if the total is unknown."""
    if shown.study.status == "finished":
        return 1.0
    total = asked(shown)
    return None if total is None else min(1.0, len(shown.table) / total)


def seconds_left(shown: StudyView, now: datetime | None = None) -> float | None:
    """Return the remaining time of a running search at its previous pace; None if unknown."""
    total, count = asked(shown), len(shown.table)
    if total is None or not count or shown.study.status != "running":
        return None
    busy = float(shown.table["_seconds"].sum()) / max(1, shown.table["_worker"].nunique())
    begun = datetime.fromisoformat(shown.study.created)
    passed = ((now or datetime.now(UTC)) - begun).total_seconds()
    return max(0, total - count) * max(busy, min(passed, 2 * busy)) / count


def duration(seconds: float) -> str:
    """Return a duration as text: `40 s`, `3 min`, `2.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _last(shown: StudyView) -> str:
    """Return the last evaluation's result as text."""
    if not len(shown.table):
        return ""
    row = shown.table.iloc[-1]
    if row["_failed"]:
        return f"failed: {row['_reason']}"
    known = [name for name in shown.study.objectives if name in row]
    return ", ".join(metric(name).text(float(row[name])) for name in known)


def objectives(shown: StudyView) -> tuple[str, ...]:
    """Return the objectives of a study's hypervolume: those of the first target, if there are several."""
    return aims.of_study(shown.study)[0].objectives


def sparkline(shown: StudyView) -> list[float]:
    """Return the front's hypervolume in per cent at up to 24 points; empty if it is not computed."""
    names = objectives(shown)
    if len(names) > MOST_OBJECTIVES or not len(shown.table):
        return []
    counts = np.unique(np.linspace(1, len(shown.table), _POINTS).astype(int))
    return [round(100 * value, 2) for value in hypervolumes(shown.table, names, counts.tolist())]


def hypervolumes(table: pd.DataFrame, names: Sequence[str], counts: Sequence[int]) -> list[float]:
    """Return the front's hypervolume after each number of evaluations, in the unit of `hypervolume_history`."""
    rows, scaled = _scaled(table, names)
    if not len(rows):
        return [0.0] * len(counts)
    found = []
    for count in counts:
        seen = scaled[rows < count]
        front = seen[pareto.non_dominated(seen)] if len(seen) else seen
        found.append(pareto.hypervolume(front, np.ones(len(names))))
    return found


def _scaled(table: pd.DataFrame, names: Sequence[str]) -> tuple["np.typing.NDArray[np.intp]", Values]:
    """Return positions of the feasible evaluations and their objectives, scaled: 0 is the best, 1 the reference."""
    rows = queries.rankable(table, names)
    values = table[list(names)].to_numpy(float)[rows] if len(rows) else np.zeros((0, len(names)))
    if not len(rows):
        return rows, values
    ideal = values.min(axis=0)
    return rows, (values - ideal) / (pareto.reference_point(values) - ideal)


def hypervolume_history(table: pd.DataFrame, names: Sequence[str]) -> Values:
    """Return the front's hypervolume after each evaluation, `(n,)`, as a share of the box from the best value of each
    objective to the reference point of all feasible evaluations; 0 before the first feasible one."""
    return _grown(*_scaled(table, names), len(table))


def shared_histories(views: Sequence[StudyView], names: Sequence[str]) -> dict[str, Values]:
    """Return the histories of several studies in a common box, that of all their evaluations."""
    sizes = [len(one.table) for one in views]
    rows, scaled = _scaled(pd.concat([one.table for one in views], ignore_index=True), names)
    found, start = {}, 0
    for one, size in zip(views, sizes, strict=True):
        own = (rows >= start) & (rows < start + size)
        found[one.study.name] = _grown(rows[own] - start, scaled[own], size)
        start += size
    return found


def _grown(rows: "np.typing.NDArray[np.intp]", scaled: Values, count: int) -> Values:
    """Return the hypervolume after each of `count` evaluations; `scaled` are the objectives of those at `rows`."""
    history: Values = np.zeros(count)
    front: Values = np.zeros((0, scaled.shape[1]))
    corner = np.ones(scaled.shape[1])
    for start in range(0, len(rows), _AT_ONCE):
        chunk = scaled[start : start + _AT_ONCE]
        behind = (front[None] <= chunk[:, None]).all(axis=2)
        new = ~np.any(behind, axis=1)  # earlier points dominate most of them
        for row, point in zip(rows[start : start + _AT_ONCE][new].tolist(), chunk[new], strict=True):
            if not (front <= point).all(axis=1).any():
                front = np.vstack([front[~(front >= point).all(axis=1)], point])
                history[row:] = pareto.hypervolume(front, corner)
    return history


def best_so_far(table: pd.DataFrame, name: str) -> Values:
    """Return the lowest feasible value of a metric after each evaluation, `(n,)`; NaN before the first."""
    values = np.full(len(table), math.inf)
    rows = queries.rankable(table, [name])
    if len(rows):
        values[rows] = table[name].to_numpy(float)[rows]
    best = np.minimum.accumulate(values) if len(values) else values
    return np.where(np.isfinite(best), best, np.nan)


def failures(table: pd.DataFrame) -> pd.DataFrame:
    """Return columns count, reason, example and last (a position) of failures, most frequent first."""
    failed = table[table["_failed"]].assign(_place=np.flatnonzero(table["_failed"]) + 1)
    groups = failed.groupby("_reason", sort=False)
    found = groups.agg(count=("_digest", "size"), example=("_digest", "first"), last=("_place", "max")).reset_index()
    return found.rename(columns={"_reason": "reason"}).sort_values("count", ascending=False, ignore_index=True)


def timeline(table: pd.DataFrame, stored: Sequence[float | None]) -> pd.DataFrame:
    """Return columns worker, end (UTC), seconds, failed and place of evaluations with a known time.

    A reused evaluation took its time in an earlier study; here it starts when the worker's last evaluation ended.

    Args:
        stored: when each row was stored, in seconds since 1970.
    """
    found = pd.DataFrame(
        {
            "worker": table["_worker"].replace("", "this machine"),
            "end": np.array(stored, dtype=float),
            "seconds": table["_seconds"],
            "failed": table["_failed"],
            "place": table.index + 1,
        }
    ).dropna(subset="end")
    found = found.sort_values("end", kind="stable", ignore_index=True)
    since = found["end"] - found.groupby("worker")["end"].shift()
    found["seconds"] = found["seconds"].where(~(since < found["seconds"]), since)
    found["end"] = pd.to_datetime(found["end"], unit="s", utc=True)
    return found
