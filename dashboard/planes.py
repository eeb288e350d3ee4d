"""The data of a front chart: evaluations in two or three metrics, under adjustable limits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from dashboard import queries
from dashboard.queries import Mask, StudyView
from nas.objectives import aims
from nas.objectives.limits import Limit

MOST_POINTS = 600
"""Most points drawn per kind, spread over the plane; each costs the browser 0.05 ms or more."""
_STEPS = 80  # number of bounds to choose from for a limit
CROWDED = 0.25
"""Share of the feasible networks on the front above which the front is not informative."""


@dataclass(frozen=True)
class Plane:
    """A view of a study: `table` has the shown rows, with `_feasible`, `_refuted` and `_front` for this plane."""

    table: pd.DataFrame
    axes: tuple[str, ...]
    """Two metrics, horizontal and vertical, and optionally a third."""
    objectives: tuple[str, ...]
    """The objectives whose front is marked."""
    limits: tuple[Limit, ...]

    @property
    def front(self) -> pd.DataFrame:
        """Rows of the front, by the first objective."""
        return self.table[self.table["_front"]].sort_values(list(self.objectives))

    def best(self) -> int | None:
        """Return the position of the front's network with the lowest first objective; None if none keeps the limits."""
        front = self.front
        return int(front.index[0]) if len(front) else None


def is_crowded(shown: StudyView) -> bool:
    """Return whether the front is too large to be informative, as with many objectives."""
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
    """Return a plane of a study.

    Args:
        target: the target whose front and limits count, in a study with several; otherwise all.
        moved: upper limits by metric, in place of the study's own.
        upto: number of evaluations to show; None for all.
        whole: whether to mark the front of all objectives instead of that of the axes.
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
    """Return the limits with changed bounds, and new limits for other metrics."""
    changed = [replace(one, value=moved[one.metric]) if one.is_upper and one.metric in moved else one for one in limits]
    known = {one.metric for one in changed if one.is_upper}
    return (*changed, *(Limit(name, "<=", value) for name, value in moved.items() if name not in known))


def bounds(values: "pd.Series[float]", own: float | None) -> list[float]:
    """Return bounds to choose from, including `own`, evenly spaced by value, or by ratio if values span widely."""
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
    """Return the first row in each cell of a grid if there are too many; the others would overlap them."""
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
    """Return the cell of each value on one axis."""
    shown = np.log(values) if log else values
    low, high = shown.min(), shown.max()
    found: np.typing.NDArray[np.int64] = ((shown - low) / ((high - low) or 1.0) * side).astype(np.int64)
    return found


def drawable(table: pd.DataFrame, axes: Sequence[str], logs: Sequence[str] = ()) -> Mask:
    """Return a mask of rows with a value for every axis, above 0 on logarithmic ones."""
    mask = np.ones(len(table), dtype=bool)
    for name in axes:
        values = table[name].to_numpy(float)
        mask &= values > 0 if name in logs else np.isfinite(values)
    return mask
