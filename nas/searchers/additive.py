"""Search without a model of interactions: what each option of each choice does alone, added up and solved exactly."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
from scipy import stats

from nas.aims import Aim
from nas.errors import NasError
from nas.limits import Limit
from nas.records import Evaluation
from nas.searchers._candidates import Feasible, everything, mutants, pick
from nas.searchers._choosing import Bound, Choosing, Problem, Row, Terms, total
from nas.searchers._costs import Costs, Known
from nas.searchers._history import History
from search_spaces import Architecture, Space

_TRIES = 64
_PARENTS = 32
_MOST_SPLITS = 64  # combinations of the choices that costs multiply by: each is a problem of its own
_LEVELS = 3  # bounds tried on the other objectives for each network that is wanted
_CUTS = 4  # second bests that are asked for where the best is known or not feasible


class AdditiveSearch:
    """Block-wise replacement: the parent, the largest network, with one option changed at a time, then the best sums.

    Every metric of weights is taken to be the parent's plus what each option adds to it, by least squares over all that
    was evaluated, which are the replacements themselves as long as nothing else is. Costs that are told of any network
    (`costs`) are exact sums once the few choices that they multiply by are fixed, each combination a problem of its
    own. Under bounds on the other objectives that walk over the front, and under all limits, the sum is minimised
    exactly, as an integer linear programme; what is found is evaluated next. Source: the formulation of Puzzle
    (arXiv:2411.19146, sections 3 and 4), for one metric and any choice.

    It works where a trained parent is narrowed, not for networks that are trained from scratch. `judgement` tells how
    well sums rank networks.

    Args:
        ridge: by how much contributions are shrunk, as a share of the largest network's weight among the evaluations.
        aims, costs: see `nas.searchers.Searcher`.
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
        ridge: float = 1e-6,
    ) -> None:
        if not 0 < ridge < 1:
            raise NasError(f"ridge is {ridge}; it must be a share above 0 and below 1, 1e-6 say")
        self.space = space
        self.feasible = feasible
        self.ridge = ridge
        self._history = History(objectives, limits, aims)
        wanted = [part.aim for part in self._history.parts]
        self._costs = Known(
            space, costs, [n for aim in wanted for n in (*aim.objectives, *(m.metric for m in aim.limits))]
        )
        self._choosing = Choosing(space.slots, space.domains)
        self._told: list[Evaluation] = []

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        self._history.add(evaluations)
        self._told += [evaluation for evaluation in evaluations if evaluation.error is None]

    def ask(self, n: int, rng: np.random.Generator) -> list[Architecture]:
        known = self._history.digests
        alone = [arch for arch in self._replacements if arch.digest not in known]
        chosen = [arch for arch, ok in zip(alone, self.feasible(alone), strict=True) if ok][:n] if alone else []
        if len(chosen) < n and self._told:
            taken = known | {arch.digest for arch in chosen}
            chosen += self._best_sums(n - len(chosen), taken, rng)
        known = known | {arch.digest for arch in chosen}
        parents = [evaluation.arch for evaluation in self._history.best_first()[:_PARENTS]]
        near = [(lambda size: mutants(parents, size, rng, self.space), _TRIES * n)] if parents else []
        return chosen + pick(self.space, n - len(chosen), rng, known, self.feasible, *near, parents=parents)

    @cached_property
    def _replacements(self) -> list[Architecture]:
        return replacements(self.space)

    # --- the sums

    def _best_sums(self, n: int, known: frozenset[str] | set[str], rng: np.random.Generator) -> list[Architecture]:
        """Optimal networks for bounds drawn at random; the next best ones where these are known."""
        found: dict[str, Architecture] = {}
        for cuts in (0, _CUTS):
            for _ in range(_LEVELS * n):
                if len(found) == n:
                    return list(found.values())
                aim = self._history.parts[int(rng.integers(len(self._history.parts)))].aim
                arch = self._best_sum(aim, {*known, *found}, cuts, rng)
                if arch is not None:
                    found[arch.digest] = arch
        return list(found.values())

    def _best_sum(self, aim: Aim, known: set[str], cuts: int, rng: np.random.Generator) -> Architecture | None:
        """The least sum under bounds on the other objectives drawn at random, unless it is known or not feasible.

        Args:
            cuts: how many known ones may be left out for the next best.
        """
        first, *others = aim.objectives
        level = {name: self._level(name, float(rng.random())) for name in others}
        little = {name: 1e-4 * self._span(first) / (self._span(name) or 1.0) for name in others}
        problems = []
        for fixed in self._splits[0]:
            terms = {name: self._terms(name, fixed) for name in _metrics(aim)}
            bounds = [Bound(terms[name], level[name]) for name in others]
            bounds += [_limit(terms[limit.metric], limit) for limit in aim.limits]
            whole = _added(terms[first], {name: terms[name] for name in others}, little)
            problems.append(Problem(self._choosing, whole, bounds, fixed))
        for _ in range(cuts + 1):
            problem = min(problems, key=lambda one: one.value)
            if problem.best is None:
                return None
            (arch,) = self.space.decode(np.array([problem.best]))
            if arch in self.space and arch.digest not in known and self.feasible([arch])[0]:
                return arch
            problem.cut()
        return None

    def _level(self, metric: str, share: float) -> float:
        """A value between the least and the largest sum that options allow one by one."""
        least, most = self._ends(metric)
        return least + share * (most - least)

    def _span(self, metric: str) -> float:
        least, most = self._ends(metric)
        return most - least

    def _ends(self, metric: str) -> tuple[float, float]:
        sums = [
            [sum(float(end(own[:-1])) for own in self._terms(metric, fixed)) for end in (np.min, np.max)]
            for fixed in self._splits[0]
        ]
        return min(low for low, _ in sums), max(high for _, high in sums)

    def _terms(self, metric: str, fixed: Row) -> Terms:
        if metric in self._costs.names:
            return self._cost_terms[metric, fixed]
        if metric not in self._fitted:
            self._fitted[metric] = fitted(self.space, self._told, metric, self.ridge)
        return self._fitted[metric]

    @property
    def _fitted(self) -> dict[str, Terms]:
        """Forgotten when more is told."""
        if self.__dict__.get("_fitted_to") != len(self._told):
            self.__dict__["_fitted_to"], self.__dict__["_terms_of"] = len(self._told), {}
        found: dict[str, Terms] = self.__dict__["_terms_of"]
        return found

    # --- costs as sums

    @cached_property
    def _splits(self) -> tuple[list[Row], dict[tuple[str, Row], Terms]]:
        """Codes of the choices that costs multiply by, every combination (-2 elsewhere), and each cost's terms then."""
        coupling = self._coupling()
        domains = [self.space.domains[slot] for slot in coupling]
        while coupling and np.prod([len(own) for own in domains]) > _MOST_SPLITS:
            coupling, domains = coupling[:-1], domains[:-1]
        rows = []
        for codes in itertools.product(*domains):
            row = [-2] * len(self.space.slots)
            for slot, code in zip(coupling, codes, strict=True):
                row[slot] = code
            rows.append(tuple(row))
        return rows, {(name, row): self._counted(name, row) for name in self._costs.names for row in rows}

    @property
    def _cost_terms(self) -> dict[tuple[str, Row], Terms]:
        return self._splits[1]

    def _coupling(self) -> list[int]:
        """Slots that leave costs sums when they are fixed: a cover of the pairs that costs multiply, greedily."""
        base = self._largest
        free = [slot for slot, own in enumerate(self.space.slots) if len(self.space.domains[slot]) > 1]
        pairs = list(itertools.combinations(free, 2))
        rows = [base, *(self._changed(base, {s: self._other(s)}) for s in free)]
        rows += [self._changed(base, {a: self._other(a), b: self._other(b)}) for a, b in pairs]
        codes = np.array(rows, dtype=np.int16)
        valid = np.array([self._is_row(row) for row in rows])
        multiplied: set[tuple[int, int]] = set()
        for name in self._costs.names:
            values = np.full(len(rows), np.nan)
            values[valid] = self._costs(name, codes[valid])
            alone = dict(zip(free, values[1 : 1 + len(free)], strict=True))
            for (a, b), both in zip(pairs, values[1 + len(free) :], strict=True):
                apart = both - alone[a] - alone[b] + values[0]
                if abs(apart) > 1e-9 * abs(values[0]):
                    multiplied.add((a, b))
        cover: list[int] = []
        while multiplied:
            counts = {slot: sum(slot in pair for pair in multiplied) for slot in free}
            cover.append(max(free, key=lambda slot: counts[slot]))
            multiplied = {pair for pair in multiplied if cover[-1] not in pair}
        return cover

    @cached_property
    def _largest(self) -> Row:
        return tuple(int(code) for code in self.space.codes([self.space.largest()])[0])

    def _other(self, slot: int) -> int:
        return int(self.space.domains[slot][0])

    def _changed(self, row: Row, codes: dict[int, int]) -> Row:
        """A row with other codes, choices turned on and off as conditions say; what comes on takes its last option."""
        changed = [codes.get(slot, code) for slot, code in enumerate(row)]
        for slot, own in enumerate(self.space.slots):
            on = all(changed[parent] in allowed for parent, allowed in own.conditions)
            changed[slot] = (changed[slot] if changed[slot] >= 0 else int(self.space.domains[slot][-1])) if on else -1
        return tuple(changed)

    def _is_row(self, row: Row) -> bool:
        return self.space.decode(np.array([row]))[0] in self.space

    def _counted(self, name: str, fixed: Row) -> Terms:
        """What options add to a cost, given the choices that are fixed; a choice that is turned off adds nothing.

        What goes with it is counted as its parent's: the cost without it does not depend on what it was.
        """
        base = self._changed(self._largest, {slot: code for slot, code in enumerate(fixed) if code != -2})
        rows: list[Row] = [base]
        places: list[tuple[int, int, int]] = []  # slot, code, the row it is compared with
        for slot, domain in enumerate(self.space.domains):
            reference = self._with(base, slot)
            rows.append(reference)
            compared = len(rows) - 1
            for code in domain:
                places.append((slot, code, compared))
                rows.append(self._changed(reference, {slot: code}))
        values = self._costs(name, np.array(rows, dtype=np.int16))
        terms = [np.zeros(len(slot.options) + 1) for slot in self.space.slots]
        numbered = [number for number in range(1, len(rows)) if number not in {place[2] for place in places}]
        for (slot, code, compared), number in zip(places, numbered, strict=True):
            terms[slot][code] = values[number] - values[compared]
        terms[0] = terms[0] + values[0]
        return terms

    def _with(self, row: Row, slot: int) -> Row:
        """The row, or where a slot is off in it, one with what turns it on."""
        for parent, allowed in self.space.slots[slot].conditions if row[slot] < 0 else ():
            row = self._with(row, parent)
            if row[parent] not in allowed:
                row = self._changed(row, {parent: max(allowed & set(self.space.domains[parent]), default=row[parent])})
        return row


def replacements(space: Space) -> list[Architecture]:
    """The largest network, and it with each option of each choice in turn."""
    return list(dict.fromkeys([space.largest(), *(arch for _, arch in space.variants())]))


def fitted(space: Space, evaluations: Sequence[Evaluation], metric: str, ridge: float = 1e-6) -> Terms:
    """What each option adds to a metric, relative to the largest network's options, by ridge regression."""
    told = [e for e in evaluations if metric in e.metrics]
    codes = space.codes([e.arch for e in told])
    values = np.array([e.metrics[metric] for e in told])
    largest = space.codes([space.largest()])[0]
    columns = [(s, c) for s, slot in enumerate(space.slots) for c in (*range(len(slot.options)), -1) if c != largest[s]]
    features = (
        np.stack([codes[:, s] == c for s, c in columns], axis=1).astype(float) if columns else np.zeros((len(codes), 0))
    )
    base = next((value for value, row in zip(values, codes, strict=True) if np.array_equal(row, largest)), None)
    offset = float(values.mean()) if base is None else float(base)
    weights = np.linalg.solve(features.T @ features + ridge * np.eye(len(columns)), features.T @ (values - offset))
    terms = [np.zeros(len(slot.options) + 1) for slot in space.slots]
    for (slot, code), weight in zip(columns, weights, strict=True):
        terms[slot][code] = weight
    terms[0] = terms[0] + offset
    return terms


def judgement(space: Space, evaluations: Sequence[Evaluation], metric: str) -> tuple[float, int]:
    """Kendall's tau between sums of the replacements and what other networks showed, and how many these are.

    NaN where there are fewer than three.
    """
    alone = {arch.digest for arch in replacements(space)}
    told = [e for e in evaluations if e.error is None]
    known, others = ([e for e in told if (e.arch.digest in alone) is inside] for inside in (True, False))
    if len(others) < 3 or not known:
        return float("nan"), len(others)
    terms = fitted(space, known, metric)
    guessed = total(terms, space.codes([e.arch for e in others]))
    return float(stats.kendalltau(guessed, [e.metrics[metric] for e in others]).statistic), len(others)


def _metrics(aim: Aim) -> list[str]:
    return list(dict.fromkeys([*aim.objectives, *(limit.metric for limit in aim.limits)]))


def _added(terms: Terms, others: Mapping[str, Terms], little: Mapping[str, float]) -> Terms:
    """A sum, and a little of others, so that of equal ones the cheaper is least."""
    return [own + sum(little[name] * other[slot] for name, other in others.items()) for slot, own in enumerate(terms)]


def _limit(terms: Terms, limit: Limit) -> Bound:
    return Bound(terms, limit.value) if limit.is_upper else Bound([-own for own in terms], -limit.value)
