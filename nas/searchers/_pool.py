"""Candidates of a model-based search, and the choice of those to evaluate next."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from nas.searchers._belief import Belief
from nas.searchers._metrics import OPTIMISM
from nas.searchers._process import Codes

FloatArray = npt.NDArray[np.float64]

_LEVELS = (0, 0, 1, 0, 2)
"""Indices of the optimism with which successive networks are chosen."""


class Sought:
    """The hypervolume that networks would add to each aim's front, as a share of it, summed over the aims.

    A search for several targets therefore goes where fronts still grow.
    """

    def __init__(self, belief: Belief, rng: np.random.Generator, *, bold: bool = False) -> None:
        self._aims = [(aim, aim.gains(rng, bold=bold)) for aim in belief.aims]

    def __call__(self, values: FloatArray, chances: FloatArray) -> FloatArray:
        """Return (n,) gains of (n, m) values; each aim's gain is multiplied by the (n, aims) chance of its limits."""
        summed = np.zeros(len(values))
        for column, (aim, gains) in enumerate(self._aims):
            summed += gains(values[:, aim.columns]) / aim.unit * chances[:, column]
        return summed

    def add(self, values: FloatArray, chances: FloatArray) -> None:
        """Treat (m,) values as known for each aim whose limits they probably keep: (aims,) chances of 1/2 or more."""
        for column, (aim, gains) in enumerate(self._aims):
            if chances[column] >= 0.5:
                gains.add(values[aim.columns])

    def depth(self, values: FloatArray) -> FloatArray:
        """Return (n,) mean objectives as shares of the reference point's."""
        shares = [
            (values[:, aim.columns] / np.maximum(np.abs(aim.reference), 1e-12)).mean(axis=1) for aim, _ in self._aims
        ]
        found: FloatArray = np.mean(shares, axis=0)
        return found


class Pool:
    """Candidate networks with their predictions; known and already chosen ones are excluded."""

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
        """Add the networks (n, num_slots) that are neither known nor in the pool."""
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
        """Return up to n feasible networks, each the best given that those before turn out as expected.

        Args:
            tries: most networks whose feasibility is tested.
            turn: how many were chosen before, in all batches; determines the optimism of the next.
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
        """Return (n,) optimistic gains times the chance of keeping the limits; -inf for excluded networks.

        If none promises a gain, networks that probably keep the limits and have good mean objectives come first.
        """
        gains = self._bold if level else self._cautious
        found = gains(self._hoped[level], self._chances)
        if not found[~self._out].any():
            found = self._chances.max(axis=1) - 1e-3 * gains.depth(self._expected)
        return np.where(self._out, -np.inf, found)

    def believe(self, index: int) -> None:
        """Treat the expected objectives of a network as known."""
        for gains in (self._cautious, self._bold):
            gains.add(self._expected[index], self._chances[index])
