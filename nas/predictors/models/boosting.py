"""Boosted regression trees: for many measurements of metrics where interactions dominate."""

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import GradientBoostingRegressor

from nas.predictors.models._crossed import folds
from nas.predictors.models._selection import Target
from nas.predictors.models.model import FloatArray, Prediction, shuffled

_NUM_FOLDS = 5


class BoostingModel:
    """The mean of boosted trees fitted without one fold each, in the logarithm where all values are positive.

    The spread, the same everywhere but for the logarithm, is that of the errors on the folds left out.
    """

    def fit(self, x: npt.NDArray[Any], y: FloatArray) -> None:
        self._target = Target.kinds(y)[-1]
        z = self._target.standardised(y)
        fold = folds(x, y, _NUM_FOLDS)
        order = shuffled(x, y)
        held_out = np.empty(len(y))
        self._trees = []
        for left_out in range(fold.max() + 1):
            some = order[fold[order] != left_out]
            trees = _trees().fit(x[some], z[some])
            held_out[fold == left_out] = trees.predict(x[fold == left_out])
            self._trees.append(trees)
        self._spread = max(float(np.sqrt(np.mean((z - held_out) ** 2))), 1e-9)
        self.held_out = self._target.restored(held_out, np.full(len(y), self._spread))

    def predict(self, x: npt.NDArray[Any]) -> Prediction:
        mean = np.mean([trees.predict(x) for trees in self._trees], axis=0) if len(x) else np.empty(0)
        return self._target.restored(mean, np.full(len(x), self._spread))


def _trees() -> GradientBoostingRegressor:
    return GradientBoostingRegressor(
        n_estimators=200, learning_rate=0.1, max_depth=3, subsample=0.7, max_features=0.5, random_state=0
    )
