"""Exact optima, under limits, of metrics that are sums over choices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from nas.objectives.limits import Limit
from nas.searchers.exact.cases import Case, Cases
from nas.searchers.exact.columns import Codes, FloatArray
from nas.searchers.exact.program import SLACK, AtMost, Program

_RESOLUTION = 1e-5  # of the largest weight: ten times what HiGHS may miss a bound by


class Model:
    """Metrics of a space's networks as sums in each case; finds the best networks exactly.

    Args:
        limits: on metrics of the cases; every network found keeps them according to the sums.
    """

    def __init__(self, program: Program, cases: Cases, limits: Sequence[Limit] = ()) -> None:
        self.program = program
        self.cases = cases
        self.limits = tuple(limits)

    def values(self, codes: Codes, names: Sequence[str]) -> FloatArray:
        """Return (n, m) metrics for networks (n, num_slots)."""
        rows, found = self.program.columns(codes), np.full((len(codes), len(names)), np.nan)
        for case in self.cases:
            own = case.holds(codes)
            for number, name in enumerate(names):
                found[own, number] = case.tables[name](rows[own])
        return found

    def resolution(self, names: Sequence[str]) -> FloatArray:
        """Return (m,) differences in metrics below which a bound cannot separate two networks."""
        scales = [[AtMost(case.tables[name].weights, 0.0).scale for name in names] for case in self.cases]
        found: FloatArray = _RESOLUTION * np.max(scales, axis=0)
        return found

    def best(self, order: Sequence[str], under: Mapping[str, float] | None = None) -> Codes | None:
        """Return (num_slots,) codes of the network with the smallest first metric; later metrics break ties.

        Args:
            under: further bounds, by metric.

        Returns:
            None if no network keeps the limits and the bounds.
        """
        bounds, found = dict(under or {}), None
        for name in order:
            better = self._least(name, bounds)
            if better is None:
                break
            found = better
            bounds[name] = min(float(self.values(found[None], [name])[0, 0]), bounds.get(name, np.inf))
        return found

    def reach(self, limit: Limit) -> float | None:
        """The metric of the network nearest to keeping `limit`, among those that keep all limits of the model."""
        codes = self._least(limit.metric, {}, 1.0 if limit.is_upper else -1.0)
        return None if codes is None else float(self.values(codes[None], [limit.metric])[0, 0])

    def _least(self, name: str, under: Mapping[str, float], sign: float = 1.0) -> Codes | None:
        """The network with the smallest metric over all cases; with `sign` -1 the largest."""
        best: Codes | None = None
        value = np.inf
        for case in self.cases:
            table = case.tables[name]
            bounds = [*self._bounds(case, under)]
            if best is not None:
                bounds.append(AtMost(sign * table.weights, value - sign * table.constant))
            codes = self.program.minimise(sign * table.weights, bounds, case.fixed)
            if codes is not None:
                here = sign * float(table(self.program.columns(codes[None]))[0])
                best, value = (codes, here) if here < value else (best, value)
        return best

    def _bounds(self, case: Case, under: Mapping[str, float]) -> Iterator[AtMost]:
        given = [(name, 1.0, bound, False) for name, bound in under.items()]
        given += [(own.metric, 1.0 if own.is_upper else -1.0, own.value, "=" not in own.op) for own in self.limits]
        for name, sign, bound, strict in given:
            table = case.tables[name]
            limit = AtMost(sign * table.weights, sign * (bound - table.constant))
            yield AtMost(limit.weights, limit.bound - 4 * SLACK * limit.scale) if strict else limit


def unreachable(program: Program, cases: Cases, limits: Sequence[Limit]) -> str:
    """Return why no network keeps all limits, with the nearest reachable values; empty if a network keeps them."""
    if Model(program, cases, limits).best([limits[0].metric]) is not None:
        return ""
    alone = [(limit, Model(program, cases).reach(limit)) for limit in limits]
    if broken := [(limit, value) for limit, value in alone if value is None or not limit.holds({limit.metric: value})]:
        return "; ".join(
            f"no network keeps {limit}: the {_end(limit)} reachable value is {value:.6g}" for limit, value in broken
        )
    said = []
    for limit in limits:
        value = Model(program, cases, [other for other in limits if other is not limit]).reach(limit)
        said += [] if value is None else [f"the {_end(limit)} reachable {limit.metric} with the others is {value:.6g}"]
    return f"no network keeps {' and '.join(map(str, limits))} together: {', '.join(said)}"


def _end(limit: Limit) -> str:
    return "smallest" if limit.is_upper else "largest"
