"""A regression on a table that stands in for the networks of a space which the table lacks, as its authors use it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingRegressor

from nas.objectives import pareto
from search_spaces import Space

Values = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int16]

_DRAWN = 20_000  # networks the search for the best front begins with
_ROUNDS = 30


class Regression:
    """Boosted trees, which resemble no model of a search here, on (n, num_slots) codes and (n, 2) values above 0."""

    def __init__(self, codes: Codes, values: Values) -> None:
        self._trees = [
            HistGradientBoostingRegressor(max_iter=300, random_state=0).fit(codes, np.log(column))
            for column in values.T
        ]

    def __call__(self, codes: Codes) -> Values:
        return np.exp(np.stack([trees.predict(codes) for trees in self._trees], axis=1))

    def front(self, space: Space) -> Values:
        """(k, 2) the best front known: of draws and, again and again, of all neighbours of what is on it."""
        codes = space.sample_codes(_DRAWN, np.random.default_rng(0))
        values = self(codes)
        expanded: set[bytes] = set()
        for _ in range(_ROUNDS):
            kept = pareto.non_dominated(values)
            codes, values = codes[kept], values[kept]
            new = [row for row in codes if row.tobytes() not in expanded]
            if not new:
                break
            expanded.update(row.tobytes() for row in new)
            near = np.unique(np.concatenate([space.neighbour_codes(row) for row in new]), axis=0)
            codes, values = np.concatenate([codes, near]), np.concatenate([values, self(near)])
        return values[pareto.non_dominated(values)]
