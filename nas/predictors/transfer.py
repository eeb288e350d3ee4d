"""A new target from known ones: their predictors give it a start, and few measurements the rest.

How the known ones are used is in `_kinship`; which of them to follow, how far to depart from them and how noisy
measurements are is weighed in `_mixture`. Figures, and what lost: docs/decisions/latency-transfer.md.
"""

from collections.abc import Mapping
from copy import copy
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nas.predictors._kinship import Kinship, View
from nas.predictors._mixture import Mixture, learnt
from nas.predictors.kinds import Described, Ensemble, OverRows
from nas.predictors.models import (
    BoostingModel,
    Columns,
    EnsembleModel,
    FloatArray,
    GaussianProcessModel,
    Model,
    in_portions,
)
from nas.predictors.models.model import Prediction, Scaling, shuffled
from nas.predictors.rows import Archs, Features, codes_of, with_features
from search_spaces import Space

if TYPE_CHECKING:
    from nas.predictors import Predictor

_REFERENCE = 300  # architectures that tell how known targets go together
_MOST = 300  # measurements the transfer is fitted to; where there are more, models of the target itself take part
_SHARE = 10.0  # prior variance of how often options occur, by that of where


class TransferModel:
    """Over rows (n, d + p): first predictions for d known targets, then columns of the architecture itself.

    Args:
        reference: (m, d + p) rows of a sample of the space.
        spread: (m, d) standard deviations of the predictions.
        num_encoded: columns of the encoding, the first ones, as in `Scaling`.
        num_shared: counts that the positions of a choice share, the next ones.
    """

    def __init__(
        self, reference: npt.NDArray[Any], spread: FloatArray, num_encoded: int = 0, num_shared: int = 0
    ) -> None:
        self.num_known = spread.shape[1]
        known, columns = np.asarray(reference[:, : self.num_known], dtype=float), reference[:, self.num_known :]
        self._scaling = Scaling(columns, num_encoded, num_shared, _SHARE)
        self._kinship = Kinship(known)
        self._log_prior = learnt(known, spread, self._scaling(columns))

    def fit(self, x: npt.NDArray[Any], y: FloatArray) -> None:
        some = shuffled(x, y)[:_MOST]
        self._mean = float(y[some].mean())
        self._least = float(y.min()) / 2 if y.min() > 0 else -np.inf  # a line may go below what can be
        self._mixture = Mixture.of(self._view(x[some]), y[some] - self._mean, self._log_prior)
        mean, std = self.predict(x)
        mean[some], std[some] = self._restored(self._mixture.left_out())
        self.held_out = mean, std

    def predict(self, x: npt.NDArray[Any]) -> Prediction:
        return in_portions(lambda part: self._restored(self._mixture.predict(self._view(x[part]))), len(x))

    def _view(self, x: npt.NDArray[Any]) -> View:
        known = np.asarray(x[:, : self.num_known], dtype=float)
        return self._kinship.view(known, self._scaling(x[:, self.num_known :]))

    def _restored(self, moments: Prediction) -> Prediction:
        return np.maximum(moments[0] + self._mean, self._least), moments[1]


class Transfer(OverRows):
    """A predictor of a target of which little is measured, where others of the same space are known.

    Args:
        known: fitted predictors of other targets, by name. Where there are none, this is the ensemble.
        features: columns beside the encoding, as everywhere.
    """

    def __init__(self, space: Space, known: "Mapping[str, Predictor]", features: Features | None = None) -> None:
        self.known = dict(known)
        self._described = Described(space)
        if self.known:
            super().__init__(space, features, self._all, self._made)
        else:
            alone = Ensemble(space, features)
            super().__init__(space, features, alone._rows, alone._make)

    def _all(self, archs: Archs) -> FloatArray:
        codes = codes_of(self.space, archs)
        return np.column_stack([*(one.predict(codes)[0] for one in self.known.values()), self._described(codes)])

    def _made(self) -> Model:
        own, known = slice(len(self.known), None), slice(0, len(self.known))
        return EnsembleModel(
            {
                "transfer": lambda: copy(self._start),
                "gaussian_process": lambda: Columns(GaussianProcessModel(*self._described.widths), own, known),
                "boosting": lambda: Columns(BoostingModel(), own, known),
            },
            fewest={"gaussian_process": _MOST, "boosting": _MOST},
        )

    @cached_property
    def _start(self) -> TransferModel:
        """What the known targets say before anything is measured."""
        codes = self.space.sample_codes(_REFERENCE, np.random.default_rng(0))
        spread = np.column_stack([one.predict(codes)[1] for one in self.known.values()])
        return TransferModel(with_features(self._all(codes), self.features, codes), spread, *self._described.widths)
