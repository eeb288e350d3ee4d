"""Predicts a new target from the predictors of known targets and a few measurements.

`_kinship` defines hypotheses about how the new target relates to the known ones; `_mixture` weights them, their
residuals and their noise. Figures and rejected alternatives: docs/decisions/latency-transfer.md.
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

_REFERENCE = 300  # architectures from which the relations of known targets are estimated
_MOST = 300  # most measurements that the transfer is fitted to; with more, models of the target itself take part
_SHARE = 10.0  # prior variance of option counts, relative to that of positions


class TransferModel:
    """A model over rows (n, d + p): predictions for d known targets, then p columns of the architecture itself.

    Args:
        reference: (m, d + p) rows of a sample of the space.
        spread: (m, d) standard deviations of the predictions.
        num_encoded: number of encoding columns, which come first, as in `Scaling`.
        num_shared: number of count columns, which come next.
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
        self._least = float(y.min()) / 2 if y.min() > 0 else -np.inf  # a line may become negative
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
    """A predictor of a target with few measurements, given predictors of other targets on the same space.

    Args:
        known: fitted predictors of other targets, by name. Without any, this is the ensemble.
        features: additional columns, as in other predictors.
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
        """The model before any measurement, from the known targets alone."""
        codes = self.space.sample_codes(_REFERENCE, np.random.default_rng(0))
        spread = np.column_stack([one.predict(codes)[1] for one in self.known.values()])
        return TransferModel(with_features(self._all(codes), self.features, codes), spread, *self._described.widths)
