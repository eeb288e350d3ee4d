"""The kinds of predictors of a space: each combines rows of numbers with a model."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nas.errors import NasError
from nas.predictors.models import (
    AdditiveModel,
    BoostingModel,
    Columns,
    DepartureModel,
    EnsembleModel,
    FloatArray,
    GaussianProcessModel,
    MLPModel,
    Model,
    RidgeModel,
    Steps,
    in_portions,
)
from nas.predictors.option_counts import OptionCounts
from nas.predictors.rows import Archs, Features, codes_of, values_of, with_features
from search_spaces import Space


class OverRows:
    """A predictor of a space from a model over rows.

    Args:
        rows: returns (n, p) numbers of n architectures; the user's `features` are appended.
        make: makes an unfitted model.
    """

    def __init__(
        self,
        space: Space,
        features: Features | None,
        rows: Callable[[Archs], npt.NDArray[Any]],
        make: Callable[[], Model],
    ) -> None:
        self.space = space
        self.features = features
        self._rows = rows
        self._make = make
        self._model: Model | None = None

    @property
    def model(self) -> Model:
        """The fitted model; raises NasError before `fit`."""
        if self._model is None:
            raise NasError("this predictor has seen no measurements; call fit before predict")
        return self._model

    @property
    def held_out(self) -> tuple[FloatArray, FloatArray]:
        """Mean and standard deviation, each (n,), of the n measured values, each from a fit that has not seen it."""
        return self.model.held_out

    def fit(self, archs: Archs, y: Sequence[float] | FloatArray) -> None:
        values = values_of(self.space, archs, y)
        model = self._make()
        model.fit(self._table(archs), values)
        self._model = model

    def predict(self, archs: Archs) -> tuple[FloatArray, FloatArray]:
        model = self.model
        return in_portions(lambda part: model.predict(self._table(archs[part])), len(archs))

    def _table(self, archs: Archs) -> npt.NDArray[Any]:
        return with_features(self._rows(archs), self.features, archs)


class Additive(OverRows):
    """A table of costs: one number per option of each choice, summed; see `AdditiveModel`.

    `monotone`: a larger option of a numeric choice, or an additional block, never costs less.
    """

    def __init__(self, space: Space, features: Features | None = None, monotone: bool = True) -> None:
        super().__init__(
            space, features, lambda archs: codes_of(space, archs), lambda: AdditiveModel(space.slots, monotone)
        )


class Ridge(OverRows):
    """Linear in the encoding; see `RidgeModel`."""

    def __init__(self, space: Space, features: Features | None = None) -> None:
        super().__init__(space, features, space.encode, lambda: RidgeModel(len(space.feature_names())))


class GaussianProcess(OverRows):
    """A linear function of the steps from option to option, plus smooth residuals; see `GaussianProcessModel`."""

    def __init__(self, space: Space, features: Features | None = None) -> None:
        stepped = Stepped(space)
        super().__init__(space, features, stepped, lambda: GaussianProcessModel(*stepped.widths))


class Boosting(OverRows):
    """Boosted trees; see `BoostingModel`."""

    def __init__(self, space: Space, features: Features | None = None) -> None:
        super().__init__(space, features, Described(space), BoostingModel)


class MLP(OverRows):
    """Small neural networks, averaged; see `MLPModel`."""

    def __init__(self, space: Space, features: Features | None = None) -> None:
        super().__init__(space, features, Described(space), MLPModel)


class Ensemble(OverRows):
    """All other kinds, weighted by their predictions of held-out measurements; see `EnsembleModel`.

    Its rows are codes, the encoding, the counts and the steps, each for some of the models. Ridge regression sees the
    whole metric; trees, networks and the Gaussian process see what departs from the table.
    """

    def __init__(self, space: Space, features: Features | None = None) -> None:
        described, stepped = Described(space), Stepped(space)
        ends = np.cumsum([0, len(space.slots), *described.widths, sum(stepped.widths)]).tolist()
        codes, encoded, counted, steps = (slice(*ends[place : place + 2]) for place in range(4))
        extra = slice(ends[4], None)

        def rows(archs: Archs) -> npt.NDArray[Any]:
            found = codes_of(space, archs)
            return np.hstack([found, described(found), stepped(found)])

        def departing(rest: Model, *seen: slice) -> Model:
            return DepartureModel(AdditiveModel(space.slots), (codes, extra), Columns(rest, *seen, extra))

        def make() -> Model:
            return EnsembleModel(
                {
                    "additive": lambda: Columns(AdditiveModel(space.slots), codes, extra),
                    "ridge": lambda: Columns(RidgeModel(described.widths[0]), encoded, extra),
                    "gaussian_process": lambda: departing(GaussianProcessModel(*stepped.widths), steps),
                    "boosting": lambda: departing(BoostingModel(), encoded, counted),
                    "mlp": lambda: departing(MLPModel(), encoded, counted),
                }
            )

        super().__init__(space, features, rows, make)


class Described:
    """The encoding of architectures, and the counts of options over positions."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._counts = OptionCounts(space)
        self.widths = (len(space.feature_names()), len(self._counts))

    def __call__(self, archs: Archs) -> FloatArray:
        codes = codes_of(self._space, archs)
        return np.hstack([self._space.encode(codes), self._counts.of(codes)])


class Stepped:
    """The steps of the additive table, and their sums over the positions of each choice."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._steps = Steps.of(space.slots)
        self._sums = self._steps.shared()
        self.widths = self._sums.shape

    def __call__(self, archs: Archs) -> FloatArray:
        rows = self._steps.rows(codes_of(self._space, archs))
        return np.hstack([rows, rows @ self._sums])
