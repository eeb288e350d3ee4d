"""Additive search: evaluates each option of each choice alone, then the exact optima of the sums of their effects."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from nas.errors import NasError
from nas.objectives import pareto
from nas.objectives.aims import Aim
from nas.objectives.limits import Limit
from nas.searchers._candidates import Feasible, everything, pick
from nas.searchers._costs import Costs, Known
from nas.searchers._history import Part
from nas.searchers._remembering import Remembering
from nas.searchers._volume import Gains
from nas.searchers.exact.cases import Cases, cases
from nas.searchers.exact.columns import Codes, FloatArray, Table
from nas.searchers.exact.front import front
from nas.searchers.exact.guess import Verdict, fit, judge, singles, values_of
from nas.searchers.exact.model import Model, unreachable
from nas.searchers.exact.program import Program
from search_spaces import Architecture, Space

_SLACKS = (1.0, 0.97, 0.94, 0.9, 0.85, 0.8, 0.7)
"""Shares of an upper limit, tried in turn: the study may check the limit on a bound above the prediction."""


class AdditiveSearch(Remembering):
    """Proposes single changes of the largest network first, then the best networks by the sums of their effects.

    The prediction of a metric is its value at the largest network plus the effect of each option alone, as block-wise
    replacement scores are summed (Puzzle, Bercovich et al. 2024, arXiv:2411.19146; LAPTOP-Diff, Zhang et al. 2024,
    arXiv:2404.11098, where blocks are only removed). The front of predictions under the limits is solved exactly, and
    later evaluations correct the predictions. Costs that are known for any network are sums too, or sums within each
    combination of the choices that couple the others.

    It needs no trained supernet: a pretrained parent and calibration data evaluate single changes well enough.

    It does not propose single changes that break limits; a study that starts with `singles(space)` evaluates them.

    Args:
        aims: one per target of a study with several; a batch takes from the front of each in turn.
        costs: cheap metrics of any network.
        points: number of networks to solve for on each front.

    Raises:
        NasError: no network keeps the limits on metrics of `costs`; the message gives the smallest reachable value.
    """

    def __init__(
        self,
        space: Space,
        objectives: Sequence[str],
        limits: Sequence[Limit] = (),
        feasible: Feasible = everything,
        *,
        aims: Sequence[Aim] = (),
        costs: Costs | None = None,
        points: int = 16,
    ) -> None:
        if space.is_normalised:
            raise NasError(
                f"{space.name} holds graphs, and the effects of their choices do not add up: "
                "search by evolution, surrogate, bayesian or random"
            )
        if points < 2:
            raise NasError(f"points is {points}; a front is solved for at 2 networks or more")
        super().__init__(space, objectives, limits, feasible, aims)
        self.points = points
        wanted = [n for part in self._history.parts for n in (*part.aim.objectives, *_limited(part.aim))]
        self._known = Known(space, costs, wanted)
        self._guessed = [name for name in dict.fromkeys(wanted) if name not in self._known.names]
        self._check_reach()

    def ask(self, n: int, rng: np.random.Generator) -> list[Architecture]:
        lineage = self._history.lineage
        lineage.begin()
        alone = self._alone(rng)[:n]
        chosen = alone or self._promising(n)
        how = "single change of the largest" if alone else "best of the sums of single changes"
        lineage.take(dict.fromkeys((arch.digest for arch in chosen), how))
        known = self._history.digests | {arch.digest for arch in chosen}
        parents = [evaluation.arch for evaluation in self._history.best_first(n)]
        return chosen + pick(self.space, n - len(chosen), rng, known, self.feasible, parents=parents, lineage=lineage)

    def judge(self) -> dict[str, Verdict]:
        """How the sums of single changes rank the other evaluated networks, by predicted metric."""
        return judge(self.space, self._guessed, self._history.evaluations)

    def fronts(self) -> list[list[tuple[Architecture, dict[str, float]]]]:
        """For each aim, the networks of the front of sums with their predicted objectives, by the first objective.

        Raises:
            NasError: there are no evaluations yet.
        """
        if not self._history.succeeded:
            raise NasError(
                "a front of sums needs evaluations: tell those of the largest network and its single changes"
            )
        found, tables = [], self._tables()
        for part in self._history.parts:
            codes, values = self._front(part.aim, tables, slack=1.0)
            rows = [dict(zip(part.aim.objectives, row, strict=True)) for row in values.tolist()]
            found.append(list(zip(self.space.decode(codes), rows, strict=True)))
        return found

    # -- single changes

    @cached_property
    def _singles(self) -> tuple[Architecture, ...]:
        return singles(self.space)

    def _alone(self, rng: np.random.Generator) -> list[Architecture]:
        """Feasible single changes without an evaluation: the largest network first, the others in random order."""
        left = [arch for arch in self._singles if arch.digest not in self._history.digests]
        passed = [arch for arch, passes in zip(left, self.feasible(left), strict=True) if passes] if left else []
        head = passed[: passed[:1] == [self._singles[0]]]
        return head + [passed[i] for i in len(head) + rng.permutation(len(passed) - len(head))]

    # -- the front of sums

    def _promising(self, n: int) -> list[Architecture]:
        """Up to n networks near the fronts of sums without an evaluation; several aims take turns."""
        if not self._history.succeeded:
            return []
        tables = self._tables()
        orders = [self._order(part, tables, n) for part in self._history.parts]
        turns = itertools.chain.from_iterable(itertools.zip_longest(*orders))
        return list(dict.fromkeys(arch for arch in turns if arch is not None))[:n]

    def _tables(self) -> dict[str, Table]:
        """The sums fitted to the evaluations, for each predicted metric."""
        told = self._history.evaluations
        rows = self._program.columns(self.space.codes([evaluation.arch for evaluation in told]))
        alone = {arch.digest for arch in self._singles}
        single = np.array([evaluation.arch.digest in alone for evaluation in told], dtype=bool)
        return {name: fit(rows, values_of(told, name), single) for name in self._guessed}

    def _front(self, aim: Aim, tables: dict[str, Table], slack: float) -> tuple[Codes, FloatArray]:
        """Return (k, num_slots) codes and (k, m) objectives of the front of sums.

        Limits on predicted metrics are dropped if no network keeps them.
        """
        limits = [_tightened(limit, slack) for limit in aim.limits]
        known = [limit for limit in limits if limit.metric in self._known.names]
        model = Model(self._program, self._cases.extended(tables), limits)
        points = front(model, aim.objectives, self.points)
        if not points and len(known) < len(limits):
            points = front(Model(self._program, model.cases, known), aim.objectives, self.points)
        codes = np.array([point.codes for point in points], dtype=np.int16)
        values = np.array([point.values for point in points])
        return codes.reshape(-1, len(self.space.slots)), values.reshape(-1, len(aim.objectives))

    def _order(self, part: Part, tables: dict[str, Table], n: int) -> list[Architecture]:
        """Up to n networks without an evaluation, by the hypervolume that they would add to the aim's front."""
        aim, found = part.aim, list[Architecture]()
        model = Model(self._program, self._cases.extended(tables))
        values = np.zeros((0, len(aim.objectives)))
        for slack in _SLACKS if any(limit.is_upper for limit in aim.limits) else (1.0,):
            codes = self._front(aim, tables, slack)[0]
            if len(codes):
                near = np.unique(np.concatenate([codes, *map(self.space.neighbour_codes, codes)]), axis=0)
                new = self._new(near, found)
                new = new[_kept(model, new, [_tightened(limit, slack) for limit in aim.limits])]
                told = model.values(new, aim.objectives)
                best = np.concatenate([*pareto.levels(told, 8 * n), np.zeros(0, dtype=np.int64)])
                archs = self.space.decode(new[best])
                passes = np.asarray(self.feasible(archs), dtype=bool) if archs else np.zeros(0, dtype=bool)
                found += [archs[i] for i in np.flatnonzero(passes)]
                values = np.concatenate([values, told[best][passes]])
            if len(found) >= n:
                break
        return [found[i] for i in _gaining(part.values[part.excess == 0], values, n)]

    def _new(self, codes: Codes, found: Sequence[Architecture]) -> Codes:
        """Those of (k, num_slots) codes that were neither evaluated nor found before."""
        known = [evaluation.arch for evaluation in self._history.evaluations]
        seen = {row.tobytes() for row in self.space.codes([*known, *found])}
        return codes[[row.tobytes() not in seen for row in codes]]

    # -- known costs

    @cached_property
    def _program(self) -> Program:
        return Program(self.space)

    @cached_property
    def _cases(self) -> Cases:
        return cases(self.space, self._program.columns, self._known, self._known.names, np.random.default_rng(0))

    def _check_reach(self) -> None:
        """Raise NasError if the limits on costs leave no network for any aim."""
        said = []
        for part in self._history.parts:
            known = [limit for limit in part.aim.limits if limit.metric in self._known.names]
            sure = [limit for limit in known if limit.metric not in self._cases.rough] if known else []
            said.append(unreachable(self._program, self._cases, sure) if sure else "")
        if all(said):
            raise NasError(f"{said[0]}; loosen a limit or widen the space")


def _limited(aim: Aim) -> tuple[str, ...]:
    return tuple(limit.metric for limit in aim.limits)


def _tightened(limit: Limit, slack: float) -> Limit:
    """An upper limit at a share of its bound; other limits unchanged."""
    return Limit(limit.metric, limit.op, limit.value * slack) if limit.is_upper and limit.value > 0 else limit


def _kept(model: Model, codes: Codes, limits: Sequence[Limit]) -> np.ndarray:
    """Return (n,) bool: which networks keep the limits by the sums; all if none does."""
    told = model.values(codes, [limit.metric for limit in limits])
    kept = np.array([[limit.holds({limit.metric: v}) for limit, v in zip(limits, row, strict=True)] for row in told])
    held: np.ndarray = np.all(kept.reshape(len(codes), len(limits)), axis=1)
    return held if held.any() else np.ones(len(codes), dtype=bool)


def _gaining(known: FloatArray, values: FloatArray, n: int) -> list[int]:
    """Up to n rows of `values`, each adding most to the known ones and those before it; rows without gain come last."""
    if not len(values):
        return []
    both = np.concatenate([known, values])
    gains = Gains(known, pareto.reference_point(both[pareto.non_dominated(both)]), np.random.default_rng(0))
    chosen: list[int] = []
    while len(chosen) < min(n, len(values)):
        added = gains(values)
        added[chosen] = -1
        best = int(np.argmax(added))
        if added[best] <= 0:
            break
        chosen.append(best)
        gains.add(values[best])
    left = [i for level in pareto.levels(values, len(values)) for i in level.tolist() if i not in chosen]
    return (chosen + left)[:n]
