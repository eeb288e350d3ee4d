"""How searches go: what is done, how long the rest takes, and how the front grows."""

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
"""Of more, hypervolumes take too long to compute while someone waits."""
_POINTS = 24  # of a sparkline
_AT_ONCE = 256  # evaluations held against the front


@dataclass(frozen=True)
class Unreadable:
    """A study whose record makes no sense, and why."""

    name: str
    status: str
    created: str
    reason: str
    count: int


def studies_table(views: Sequence[StudyView | Unreadable], now: datetime | None = None) -> pd.DataFrame:
    """One row a study, newest first; empty without columns where there is none."""
    rows = [broken(one) if isinstance(one, Unreadable) else summary(one, now) for one in views]
    table = pd.DataFrame(rows)
    return table.sort_values("started", ascending=False, ignore_index=True) if len(table) else table


def summary(shown: StudyView, now: datetime | None = None) -> dict[str, Any]:
    """The numbers of a study that a list of studies shows."""
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
    """The row of a study that cannot be read."""
    return {
        "study": study.name,
        "status": f"cannot be read: {study.reason}",
        "evaluations": study.count,
        "hypervolume": [],
        "started": pd.to_datetime(study.created, utc=True),
        **dict.fromkeys(("space", "objectives", "limits", "targets", "searcher", "left", "last"), ""),
    }


def targets(shown: StudyView) -> list[str]:
    """The machines that a study's metrics and limits are of."""
    names = [*shown.study.objectives, *(limit.metric for limit in shown.limits)]
    found = [metric(name).device for name in names]
    return list(dict.fromkeys([*shown.targets, *filter(None, found)]))


def asked(shown: StudyView) -> int | None:
    """How many evaluations the search was asked for; None where it has not been started."""
    return shown.study.wanted


def share_done(shown: StudyView) -> float | None:
    """Between 0 and 1; None where it is not known what was asked for."""
    if shown.study.status == "finished":
        return 1.0
    total = asked(shown)
    return None if total is None else min(1.0, len(shown.table) / total)


def seconds_left(shown: StudyView, now: datetime | None = None) -> float | None:
    """Time that a running search needs for the rest at the pace it has had; None where that is not known."""
    total, count = asked(shown), len(shown.table)
    if total is None or not count or shown.study.status != "running":
        return None
    busy = float(shown.table["_seconds"].sum()) / max(1, shown.table["_worker"].nunique())
    begun = datetime.fromisoformat(shown.study.created)
    passed = ((now or datetime.now(UTC)) - begun).total_seconds()
    return max(0, total - count) * max(busy, min(passed, 2 * busy)) / count


def duration(seconds: float) -> str:
    """`40 s`, `3 min`, `2.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _last(shown: StudyView) -> str:
    """What the last evaluation found."""
    if not len(shown.table):
        return ""
    row = shown.table.iloc[-1]
    if row["_failed"]:
        return f"failed: {row['_reason']}"
    known = [name for name in shown.study.objectives if name in row]
    return ", ".join(metric(name).text(float(row[name])) for name in known)


def objectives(shown: StudyView) -> tuple[str, ...]:
    """Those a study's hypervolume is taken in: of several targets, the first one's."""
    return aims.of_study(shown.study)[0].objectives


def sparkline(shown: StudyView) -> list[float]:
    """Hypervolume of the front in per cent at two dozen moments; empty where it is not computed."""
    names = objectives(shown)
    if len(names) > MOST_OBJECTIVES or not len(shown.table):
        return []
    counts = np.unique(np.linspace(1, len(shown.table), _POINTS).astype(int))
    return [round(100 * value, 2) for value in hypervolumes(shown.table, names, counts.tolist())]


def hypervolumes(table: pd.DataFrame, names: Sequence[str], counts: Sequence[int]) -> list[float]:
    """Hypervolume of the front after so many evaluations, in the unit of `hypervolume_history`."""
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
    """Positions of the feasible evaluations, and their objectives: 0 is the best value seen, 1 the reference point."""
    rows = queries.rankable(table, names)
    values = table[list(names)].to_numpy(float)[rows] if len(rows) else np.zeros((0, len(names)))
    if not len(rows):
        return rows, values
    ideal = values.min(axis=0)
    return rows, (values - ideal) / (pareto.reference_point(values) - ideal)


def hypervolume_history(table: pd.DataFrame, names: Sequence[str]) -> Values:
    """Hypervolume of the front after each evaluation, `(n,)`, as a share of the box that runs from the best value
    of each objective to the reference point of all feasible evaluations; 0 before the first feasible one."""
    return _grown(*_scaled(table, names), len(table))


def shared_histories(views: Sequence[StudyView], names: Sequence[str]) -> dict[str, Values]:
    """The same of several studies in one box, that of all their evaluations together."""
    sizes = [len(one.table) for one in views]
    rows, scaled = _scaled(pd.concat([one.table for one in views], ignore_index=True), names)
    found, start = {}, 0
    for one, size in zip(views, sizes, strict=True):
        own = (rows >= start) & (rows < start + size)
        found[one.study.name] = _grown(rows[own] - start, scaled[own], size)
        start += size
    return found


def _grown(rows: "np.typing.NDArray[np.intp]", scaled: Values, count: int) -> Values:
    """Hypervolume after each of `count` evaluations, of which those at `rows` have the scaled objectives."""
    history: Values = np.zeros(count)
    front: Values = np.zeros((0, scaled.shape[1]))
    corner = np.ones(scaled.shape[1])
    for start in range(0, len(rows), _AT_ONCE):
        chunk = scaled[start : start + _AT_ONCE]
        behind = (front[None] <= chunk[:, None]).all(axis=2)
        new = ~np.any(behind, axis=1)  # most are behind what was found before them
        for row, point in zip(rows[start : start + _AT_ONCE][new].tolist(), chunk[new], strict=True):
            if not (front <= point).all(axis=1).any():
                front = np.vstack([front[~(front >= point).all(axis=1)], point])
                history[row:] = pareto.hypervolume(front, corner)
    return history


def best_so_far(table: pd.DataFrame, name: str) -> Values:
    """Least feasible value of a metric after each evaluation, `(n,)`; NaN before the first."""
    values = np.full(len(table), math.inf)
    rows = queries.rankable(table, [name])
    if len(rows):
        values[rows] = table[name].to_numpy(float)[rows]
    best = np.minimum.accumulate(values) if len(values) else values
    return np.where(np.isfinite(best), best, np.nan)


def failures(table: pd.DataFrame) -> pd.DataFrame:
    """Columns count, reason, example and last (a position): why evaluations failed, the most frequent first."""
    failed = table[table["_failed"]].assign(_place=np.flatnonzero(table["_failed"]) + 1)
    groups = failed.groupby("_reason", sort=False)
    found = groups.agg(count=("_digest", "size"), example=("_digest", "first"), last=("_place", "max")).reset_index()
    return found.rename(columns={"_reason": "reason"}).sort_values("count", ascending=False, ignore_index=True)


def timeline(table: pd.DataFrame, stored: Sequence[float | None]) -> pd.DataFrame:
    """Columns worker, end (UTC), seconds, failed, place: when each evaluation was stored, and how long it took.

    One that was taken over from another study took its time then: here it begins when the worker's last one ended.
    Evaluations without a time are left out.

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
