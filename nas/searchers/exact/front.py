"""Enumerates the non-dominated networks, one exact solution after another.

Two objectives: the balanced box method (Boland, Charkhgard and Savelsbergh 2015, doi:10.1287/ijoc.2014.0629). It halves
the largest box in which the front may still lie, so a front that is stopped early is evenly covered, and one that ends
is complete. More objectives: the epsilon-constraint method on a grid (Mavrotas 2009, doi:10.1016/j.amc.2009.03.037).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nas.searchers.exact.columns import Codes, FloatArray
from nas.searchers.exact.model import Model


@dataclass(frozen=True, eq=False)
class Point:
    """A network (num_slots,), and its objectives (m,)."""

    codes: Codes
    values: FloatArray


def front(model: Model, objectives: Sequence[str], most: int) -> list[Point]:
    """Return up to `most` non-dominated networks, sorted by the first objective; with two objectives, all if fewer.

    Of networks with equal objectives it returns one, and of those closer than `Model.resolution` at least one. The list
    is empty if no network keeps the limits of the model.
    """
    turned = [[*objectives[first:], *objectives[:first]] for first in range(len(objectives))]
    ends = [_solved(model, order, {}, objectives) for order in turned]
    found = [point for point in ends if point is not None]
    if len(found) < len(ends):
        return []
    if len(objectives) == 2:
        found += itertools.islice(_boxes(model, objectives, found[0], found[1]), max(most - 2, 0))
    elif len(objectives) > 2:
        found += _grid(model, objectives, found, most - len(found))
    distinct = {point.values.tobytes(): point for point in found}
    return sorted(distinct.values(), key=lambda point: tuple(point.values))[:most]


def _solved(model: Model, order: Sequence[str], under: Mapping[str, float], objectives: Sequence[str]) -> Point | None:
    codes = model.best(order, under)
    return None if codes is None else Point(codes, model.values(codes[None], objectives)[0])


def _boxes(model: Model, objectives: Sequence[str], first: Point, last: Point) -> Iterator[Point]:
    """Points between the best in the first and the best in the second objective, largest boxes first."""
    close = model.resolution(objectives)
    name, other = objectives
    boxes = [(first, last)] if np.all(np.abs(last.values - first.values) > close) else []
    while boxes:
        left, right = boxes.pop(int(np.argmax([_area(*box) for box in boxes])))
        middle = (left.values[1] + right.values[1]) / 2
        below = _solved(model, [name, other], {other: middle}, objectives) or right
        above = _solved(model, [other, name], {name: below.values[0] - 2 * close[0]}, objectives) or left
        if below.values[0] < right.values[0] - close[0]:
            yield below
            boxes.append((below, right))
        if above.values[1] < left.values[1] - close[1]:
            yield above
            boxes.append((left, above))


def _area(left: Point, right: Point) -> float:
    return float(np.prod(np.abs(right.values - left.values)))


def _grid(model: Model, objectives: Sequence[str], ends: Sequence[Point], most: int) -> Iterator[Point]:
    """The best networks in the first objective under evenly spaced bounds on the others."""
    values = np.stack([point.values for point in ends])
    steps = max(1, round(max(most, 0) ** (1 / (len(objectives) - 1))))
    shares = (np.arange(steps) + 0.5) / steps
    levels = [low + shares * (high - low) for low, high in zip(values.min(0)[1:], values.max(0)[1:], strict=True)]
    for bounds in itertools.product(*levels):
        point = _solved(model, objectives, dict(zip(objectives[1:], bounds, strict=True)), objectives)
        if point is not None:
            yield point
