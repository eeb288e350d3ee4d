"""What a front chart shows: evaluations in two or three metrics, judged under limits that can be moved."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from dashboard import queries
from dashboard.queries import Mask, StudyView
from nas.objectives import aims
from nas.objectives.limits import Limit

MOST_POINTS = 600
"""Of each kind that are drawn, spread over the plane; each costs the browser a twentieth of a millisecond and more."""
_STEPS = 80  # of the bounds that a limit can be moved to
CROWDED = 0.25
"""Share of the feasible networks from which on a front says nothing any more."""


@dataclass(frozen=True)
class Plane:
    """`table` has the rows that are looked at, `_feasible`, `_refuted` and `_front` as this plane has them."""

    table: pd.DataFrame
    axes: tuple[str, ...]
    """Two metrics, across and up, and perhaps a third."""
    objectives: tuple[str, ...]
    """Those whose front is marked."""
    limits: tuple[Limit, ...]

    @property
    def front(self) -> pd.DataFrame:
        """Its rows, best in the first objective first."""
        return self.table[self.table["_front"]].sort_values(list(self.objectives))

    def best(self) -> int | None:
        """Position of the network of the front that is lowest in the first objective; None where nothing keeps the
        limits."""
        front = self.front
        return int(front.index[0]) if len(front) else None


def is_crowded(shown: StudyView) -> bool:
    """Whether nearly every network is on the front, as happens with many objectives."""
    feasible = int(shown.table["_feasible"].sum())
    return len(shown.study.objectives) > 3 or (feasible > 40 and shown.table["_front"].sum() > CROWDED * feasible)


def plane(
    shown: StudyView,
    axes: Sequence[str],
    *,
    target: str = "",
    moved: Mapping[str, float] | None = None,
    upto: int | None = None,
    whole: bool = True,
) -> Plane:
    """A plane of a study.

    Args:
        target: of a study with several, the one whose front and limits count; else all of them.
        moved: upper limits in place of the study's own, by metric.
        upto: how many evaluations are looked at; all when left out.
        whole: mark the front of all objectives, rather than that of the axes.
    """
    table = shown.table.iloc[:upto]
    own = next((aim for aim in aims.of_study(shown.study) if aim.target == target), None) if target else None
    known = own.objectives if own else shown.study.objectives
    objectives = known if whole else sorted(dict.fromkeys(axes), key=[*known, *axes].index)
    limits = moved_limits((*shown.limits, *(own.limits if own else ())), moved or {})
    feasible, refuted = queries.judged(table, limits)
    if whole and not target and not moved and upto is None:
        front = table["_front"].to_numpy(bool)
    else:
        front = queries.non_dominated(table, objectives, feasible)
    masks = {"_feasible": feasible, "_refuted": refuted, "_front": front}
    return Plane(table.assign(**masks), tuple(axes), tuple(objectives), limits)


def moved_limits(limits: Sequence[Limit], moved: Mapping[str, float]) -> tuple[Limit, ...]:
    """The limits with other bounds, and new ones where there were none."""
    changed = [replace(one, value=moved[one.metric]) if one.is_upper and one.metric in moved else one for one in limits]
    known = {one.metric for one in changed if one.is_upper}
    return (*changed, *(Limit(name, "<=", value) for name, value in moved.items() if name not in known))


def bounds(values: "pd.Series[float]", own: float | None) -> list[float]:
    """Bounds of a limit to choose from, `own` among them: evenly by value, or by ratio where values span far."""
    known = values[values.notna()].to_numpy(float)
    if not len(known) or known.min() == known.max():
        return []
    low, high = float(known.min()), float(known.max())
    if low > 0 and high > 10 * low:
        steps = [low * (high / low) ** (i / _STEPS) for i in range(_STEPS + 1)]
    else:
        steps = [low + (high - low) * i / _STEPS for i in range(_STEPS + 1)]
    rounded = {float(f"{value:.4g}") for value in steps[1:-1]} | {low, high}
    return sorted(rounded | ({own} if own is not None else set()))


def thinned(rows: pd.DataFrame, axes: Sequence[str], logs: Sequence[str] = (), most: int = MOST_POINTS) -> pd.DataFrame:
    """Of many rows the first in each cell of a grid: those that are left out would lie on top of others."""
    if len(rows) <= most:
        return rows
    side = int(3 * np.sqrt(most))
    while True:
        cells = [_cells(rows[name].to_numpy(float), name in logs, side) for name in axes[:2]]
        _, first = np.unique(cells[0] * np.int64(side + 1) + cells[1], return_index=True)
        if len(first) <= most:
            return rows.iloc[np.sort(first)]
        side = int(side * 0.9)


def _cells(values: "np.typing.NDArray[np.float64]", log: bool, side: int) -> "np.typing.NDArray[np.int64]":
    """The cell of each value on one axis."""
    shown = np.log(values) if log else values
    low, high = shown.min(), shown.max()
    found: np.typing.NDArray[np.int64] = ((shown - low) / ((high - low) or 1.0) * side).astype(np.int64)
    return found


def drawable(table: pd.DataFrame, axes: Sequence[str], logs: Sequence[str] = ()) -> Mask:
    """Mask over rows: has a value of every axis, above 0 where that is logarithmic."""
    mask = np.ones(len(table), dtype=bool)
    for name in axes:
        values = table[name].to_numpy(float)
        mask &= values > 0 if name in logs else np.isfinite(values)
    return mask
