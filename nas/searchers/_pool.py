"""Candidates of a search by a model, and which of them to evaluate next."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from nas.searchers._belief import Belief
from nas.searchers._metrics import OPTIMISM
from nas.searchers._process import Codes

FloatArray = npt.NDArray[np.float64]

_LEVELS = (0, 0, 1, 0, 2)
"""Of the optimism by which one after another is chosen."""


class Sought:
    """The hypervolume that networks would add, to the front of each aim as a share of it, and summed over the aims.

    So a search for several goes where fronts still grow.
    """

    def __init__(self, belief: Belief, rng: np.random.Generator, *, bold: bool = False) -> None:
        self._aims = [(aim, aim.gains(rng, bold=bold)) for aim in belief.aims]

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
        self._cautious, self._bold = Sought(belief, rng), Sought(belief, rng, bold=True)
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

    def choose(self, n: int, tries: int, feasible: Callable[[Codes], np.ndarray], turn: int) -> list[int]:
        """Up to n that are feasible, each the best if those before are as expected; of `tries` that are asked about.

        Args:
            turn: how many were chosen before, in all batches: it says how bold the next is.
        """
        chosen: list[int] = []
        sure = np.zeros(len(self), dtype=bool)
        portion = n
        while len(chosen) < n and tries > 0 and not self._out.all():
            scores = self.scores(_LEVELS[(turn + len(chosen)) % len(_LEVELS)])
            best = int(np.argmax(scores))
            if sure[best]:
                chosen.append(best)
                self.believe(best)
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

    def scores(self, level: int = 0) -> FloatArray:
        """(n,) gains hoped for at a level of optimism, times the chance of keeping the limits; -inf for what is out.

        Where nothing promises a gain, what keeps limits and is good in the mean of all objectives comes first.
        """
        gains = self._bold if level else self._cautious
        found = gains(self._hoped[level], self._chances)
        if not found[~self._out].any():
            found = self._chances.max(axis=1) - 1e-3 * gains.depth(self._expected)
        return np.where(self._out, -np.inf, found)

    def believe(self, index: int) -> None:
        """What is expected of a network is taken for known."""
        for gains in (self._cautious, self._bold):
            gains.add(self._expected[index], self._chances[index])
