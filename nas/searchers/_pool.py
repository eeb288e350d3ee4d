"""Candidates of a search by a model: all networks of a small space, else what a local search comes upon."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from nas.searchers._belief import Belief
from nas.searchers._metrics import OPTIMISM
from nas.searchers._process import Codes
from search_spaces import Space, SpaceError

FloatArray = npt.NDArray[np.float64]

_LISTED = 50_000  # networks of a space that are all candidates
_SHORT = 2_000  # of these, those that are looked at closely
_DRAWN = 500  # networks drawn for a local search to begin with, beside the best known
_STARTS = 16
_WIDTH = 8  # networks whose neighbours are looked at in each round
_ROUNDS = 6
_LEVELS = (0, 0, 1, 0, 2)
"""Of the optimism by which each of a batch in turn is chosen."""


def listed(space: Space) -> Codes | None:
    """All networks, where they are few."""
    try:
        return space.enumerate_codes(_LISTED)
    except SpaceError:
        return None


class Sought:
    """The hypervolume that networks would add, to the front of each aim as a share of it, and summed over the aims.

    So a search for several goes where fronts still grow.
    """

    def __init__(self, belief: Belief, rng: np.random.Generator, wide: bool = False) -> None:
        self._aims = [(aim, aim.gains(rng, wide)) for aim in belief.aims]

    def __call__(self, values: FloatArray, chances: FloatArray) -> FloatArray:
        """(n,) gains of (n, m) values, each aim's times the (n, aims) chance of keeping its limits."""
        summed = np.zeros(len(values))
        for column, (aim, gains) in enumerate(self._aims):
            summed += gains(values[:, aim.columns]) / aim.unit * chances[:, column]
        return summed

    def add(self, values: FloatArray, chances: FloatArray) -> None:
        """(m,) values are taken for known where they probably (aims,) keep the limits."""
        for column, (aim, gains) in enumerate(self._aims):
            if chances[column] >= 0.5:
                gains.add(values[aim.columns])

    def depth(self, values: FloatArray) -> FloatArray:
        """(n,) objectives as shares of the reference point's, in the mean."""
        shares = [
            (values[:, aim.columns] / np.maximum(np.abs(aim.reference), 1e-12)).mean(axis=1) for aim, _ in self._aims
        ]
        found: FloatArray = np.mean(shares, axis=0)
        return found


class Pool:
    """Networks with what is believed of them; those that are taken or known are out."""

    def __init__(self, belief: Belief, known: set[bytes], rng: np.random.Generator) -> None:
        self.belief = belief
        self.gains = Sought(belief, rng)
        self.wide = Sought(belief, rng, True)
        self._rng = rng
        self._keys = set(known)
        self.codes: Codes = np.zeros((0, 0), dtype=np.int16)
        self._expected = np.zeros((0, belief.num_objectives))
        self._hoped = np.zeros((len(OPTIMISM), 0, belief.num_objectives))
        self._chances = np.zeros((0, len(belief.aims)))
        self._out = np.zeros(0, dtype=bool)

    def __len__(self) -> int:
        return len(self.codes)

    def add(self, codes: Codes) -> None:
        """Takes in those of (n, num_slots) that it does not have and that are not known."""
        new = {key: row for row in codes if (key := row.tobytes()) not in self._keys}
        if not new:
            return
        rows = np.stack(list(new.values()))
        self._keys.update(new)
        expected, hoped = self.belief.expected(rows)
        self.codes = rows if not len(self.codes) else np.concatenate([self.codes, rows])
        self._expected = np.concatenate([self._expected, expected])
        self._hoped = np.concatenate([self._hoped, hoped], axis=1)
        self._chances = np.concatenate([self._chances, self.belief.chances(rows)])
        self._out = np.append(self._out, np.zeros(len(rows), dtype=bool))

    def add_best(self, codes: Codes) -> None:
        """Takes in the most promising of (n, num_slots) by a quick look."""
        unknown = codes[[row.tobytes() not in self._keys for row in codes]]
        if len(unknown) > _SHORT:
            gains = self.gains(self.belief.dreamt(unknown), np.ones((1, len(self.belief.aims))))
            unknown = unknown[np.argsort(-gains, kind="stable")[:_SHORT]]
        self.add(unknown)

    def choose(self, n: int, tries: int, feasible: Callable[[Codes], np.ndarray]) -> list[int]:
        """Up to n that are feasible, each the best if those before are as expected; of `tries` that are asked about."""
        chosen: list[int] = []
        sure = np.zeros(len(self), dtype=bool)
        portion = n
        while len(chosen) < n and tries > 0 and not self._out.all():
            import os
            lev = _LEVELS[len(chosen) % len(_LEVELS)]
            W = os.environ.get("WIDE", "0")
            scores = self.scores(self.wide if (W == "2" and lev == 2) or (W == "1" and lev) or W == "all" else self.gains, lev)
            best = int(np.argmax(scores))
            if sure[best]:
                chosen.append(best)
                self.believe(best, self.gains)
                self.believe(best, self.wide)
                self.drop([best])
                continue
            asked = np.argsort(np.where(sure, np.inf, -scores), kind="stable")[: min(portion, tries)]
            asked = asked[~self._out[asked] & ~sure[asked]]
            passed = feasible(self.codes[asked])
            sure[asked[passed]] = True
            self.drop(asked[~passed])
            tries -= len(asked)
            portion *= 2
        return chosen

    def drop(self, indices: Sequence[int] | npt.NDArray[np.int64]) -> None:
        self._out[indices] = True

    def scores(self, gains: Sought, level: int = 0) -> FloatArray:
        """(n,) gains hoped for at a level of optimism, times the chance of keeping the limits; -inf for what is out.

        Where nothing promises a gain, what keeps limits and is good in the mean of all objectives comes first.
        """
        found = gains(self._hoped[level], self._chances)
        if not found[~self._out].any():
            found = self._chances.max(axis=1) - 1e-3 * gains.depth(self._expected)
        return np.where(self._out, -np.inf, found)

    def believe(self, index: int, gains: Sought) -> None:
        """What is expected of a network is taken for known."""
        gains.add(self._expected[index], self._chances[index])

    def promising(self, n: int) -> list[int]:
        """Up to n, each the best if the others are as expected."""
        gains, out, found = Sought(self.belief, self._rng), self._out.copy(), []
        for _ in range(min(n, int((~out).sum()))):
            found.append(int(np.argmax(self.scores(gains))))
            self.believe(found[-1], gains)
            self.drop(found[-1:])
        self._out = out
        return found


def climb(pool: Pool, space: Space, best: Codes, rng: np.random.Generator) -> None:
    """Fills a pool by going from the `best` known and from draws to ever more promising neighbours."""
    pool.add(space.sample_codes(_DRAWN, rng, uniform="choices"))
    for row in best[:_STARTS]:
        pool.add(space.neighbour_codes(row))
    looked: set[int] = set()
    for _ in range(_ROUNDS):
        new = [index for index in pool.promising(_WIDTH) if index not in looked]
        if not new:
            return
        looked.update(new)
        pool.add(np.concatenate([space.neighbour_codes(pool.codes[index]) for index in new]))
