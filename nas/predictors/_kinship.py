"""Predicts a new target from the known targets of a space: hypotheses for a mixture of Gaussian processes.

Each hypothesis names an expert, which is one known target or the mean of all. The values of the new target are a linear
function of the expert's, plus residuals like those of the known targets (with the covariance of the residuals that
remain of each after subtracting the expert's line), plus a linear term in the architecture's own columns, plus noise
whose variance is proportional to the expert's values. The line has a flat prior, so densities are restricted
likelihoods (Patterson and Thompson 1971; Rasmussen and Williams 2006, section 2.7).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nas.predictors.models.model import TINY, FloatArray

NOISES: FloatArray = np.logspace(-4, 2.5, 14)
"""Noise variances, in units of the variance of the residuals."""
STRUCTURES = (0.003, 0.03, 0.3, 3.0)
"""Variances of the linear term in the columns, in the same units."""
_MIDDLING = 1  # index of the middle structure
_FLAT = 1e4  # prior variance of a line's two coefficients, in the same units: far above any realistic value
_LEAST_LEVEL = 0.01
_TAILS = 4.0  # degrees of freedom of the Student's t noise
_ROUNDS = 2  # of outlier detection


@dataclass(frozen=True, eq=False)
class View:
    """n architectures as input of the hypotheses."""

    base: FloatArray
    """(n, 1 + d + p): a constant 1, the known targets standardised over the space, and the columns."""
    levels: FloatArray
    """(n, 1 + d) values of each expert in units of its mean: the mean of the known targets, then each of them."""
    maps: tuple[FloatArray, ...]
    """For each expert (1 + d + p, 2 + d): maps the base to the expert's line and the residuals."""

    def table(self, expert: int, structure: float) -> FloatArray:
        """Return (1 + d + p, 2 + d + p): maps the base to rows whose inner products are prior covariances."""
        own = self.maps[expert]
        num_columns = len(own) - len(self.maps)
        columns = np.sqrt(structure) * np.eye(len(own))[:, len(own) - num_columns :]
        return np.hstack([own, columns])


class Kinship:
    """How the known targets are related, from their predictions (m, d) for a sample of the space."""

    def __init__(self, known: FloatArray) -> None:
        self._mean = known.mean(axis=0)
        self._spread = np.maximum((known / self._mean).std(axis=0), TINY)
        standard = self._standard(known)
        num_known = known.shape[1]
        middle = np.full((num_known, 1), 1 / max(float(standard.sum(axis=1).std()), TINY))
        experts = np.hstack([middle, np.eye(num_known)])
        slopes = standard.T @ (standard @ experts) / len(known)
        self._maps = [_map(expert, slope) for expert, slope in zip(experts.T, slopes.T, strict=True)]

    def view(self, known: FloatArray, columns: FloatArray) -> View:
        """Return the view of (n, d) predictions for the known targets and (n, p) columns."""
        relative = known / self._mean
        levels = np.maximum(np.column_stack([relative.mean(axis=1), relative]), _LEAST_LEVEL)
        base = np.column_stack([np.ones(len(known)), self._standard(known), columns])
        return View(base, levels, tuple(np.pad(own, ((0, columns.shape[1]), (0, 0))) for own in self._maps))

    def _standard(self, known: FloatArray) -> FloatArray:
        standard: FloatArray = (known / self._mean - 1) / self._spread
        return standard


def _map(expert: FloatArray, slopes: FloatArray) -> FloatArray:
    """Return (1 + d, 2 + d): the line, and the residuals of each known target."""
    num_known = len(expert)
    own = np.zeros((1 + num_known, 2 + num_known))
    own[0, 0] = own_flat = np.sqrt(_FLAT)
    own[1:, 1] = own_flat * expert
    own[1:, 2:] = (np.eye(num_known) - np.outer(expert, slopes)) / np.sqrt(num_known)
    return own


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """One expert and one structure variance on n measurements, for every noise variance."""

    view: View
    expert: int
    structure: int
    """Position among `STRUCTURES`."""
    values: FloatArray
    """(n,) measured values minus their mean."""
    trust: FloatArray
    """(n,) 1, and less for apparent outliers, whose noise variance is divided by it."""

    @cached_property
    def density(self) -> FloatArray:
        """(noises,) log likelihood up to a constant common to hypotheses on the same measurements.

        It includes the prior of `trust`, under which the noise is Student's t.
        """
        logs: FloatArray = np.log(self._eigenvalues[:, None] + NOISES).sum(axis=0) + 2 * np.log(self._scale).sum()
        doubted = 0.5 * _TAILS * float(np.sum(np.log(self.trust) + 1 - self.trust))
        return doubted - 0.5 * logs - 0.5 * self._freedom * np.log(self.variance)

    @cached_property
    def variance(self) -> FloatArray:
        """(noises,) the estimated unit of all variances."""
        squares: FloatArray = np.sum(self._rotated[:, None] ** 2 / (self._eigenvalues[:, None] + NOISES), axis=0)
        return np.maximum(squares / self._freedom, TINY)

    def left_out(self, noise: int) -> tuple[FloatArray, FloatArray]:
        """Return leave-one-out errors and their variances without the outlier weighting, each (n,)."""
        inverse = 1 / (self._eigenvalues + NOISES[noise])
        diagonal = np.square(self._vectors) @ inverse
        errors = self._vectors @ (inverse * self._rotated) / diagonal * self._scale
        spread = self._scale**2 / diagonal - NOISES[noise] * (self._scale**2 - self._level)
        return errors, self.variance[noise] * np.maximum(spread, TINY)

    def coefficients(self, noise: int) -> FloatArray:
        """Return (1 + d + p,) coefficients of the base, which give expected values minus the measured mean."""
        inverse = 1 / (self._eigenvalues + NOISES[noise])
        found: FloatArray = self._seen @ (inverse * self._rotated)
        return found

    def covariance(self, weights: FloatArray) -> FloatArray:
        """Return (1 + d + p, 1 + d + p) covariance of these coefficients, summed over noises with (noises,) weights."""
        scaled = weights * self.variance
        inverse = (1 / (self._eigenvalues[:, None] + NOISES)) @ scaled
        prior = self._map @ self._map.T
        covariance: FloatArray = scaled.sum() * prior - (self._seen * inverse) @ self._seen.T
        return covariance

    @cached_property
    def _map(self) -> FloatArray:
        return self.view.table(self.expert, STRUCTURES[self.structure])

    @cached_property
    def _seen(self) -> FloatArray:
        """(1 + d + p, n) covariances of the coefficients with the measurements in the eigenbasis."""
        return self._map @ (self._table.T @ self._vectors)

    @property
    def _level(self) -> FloatArray:
        return self.view.levels[:, self.expert]

    @cached_property
    def _scale(self) -> FloatArray:
        """(n,) standard deviations of the noise, in common units."""
        return np.sqrt(self._level / self.trust)

    @cached_property
    def _table(self) -> FloatArray:
        return (self.view.base @ self._map) / self._scale[:, None]

    @property
    def _freedom(self) -> int:
        return max(len(self.values) - 2, 1)

    @cached_property
    def _spectrum(self) -> tuple[FloatArray, FloatArray]:
        values, vectors = np.linalg.eigh(self._table @ self._table.T)
        return np.maximum(values, 0.0), vectors

    @property
    def _eigenvalues(self) -> FloatArray:
        return self._spectrum[0]

    @property
    def _vectors(self) -> FloatArray:
        return self._spectrum[1]

    @cached_property
    def _rotated(self) -> FloatArray:
        return self._vectors.T @ (self.values / self._scale)


def hypotheses(view: View, values: FloatArray, within: float) -> list[Hypothesis]:
    """Return the hypotheses whose expert, with the middle structure, has a log density within `within` of the best."""
    first = [_robust(view, expert, values) for expert in range(len(view.maps))]
    best = max(float(one.density.max()) for one in first)
    kept = [one for one in first if one.density.max() > best - within]
    others = [s for s in range(len(STRUCTURES)) if s != _MIDDLING]
    return [*kept, *(Hypothesis(view, one.expert, s, values, one.trust) for one in kept for s in others)]


def _robust(view: View, expert: int, values: FloatArray) -> Hypothesis:
    """Reduce the trust in measurements that are outliers to this expert: t noise (Lange, Little and Taylor 1989).

    Errors are leave-one-out errors.
    """
    found = Hypothesis(view, expert, _MIDDLING, values, np.ones(len(values)))
    for _ in range(_ROUNDS):
        errors, variances = found.left_out(int(found.density.argmax()))
        trust = np.minimum((_TAILS + 1) / (_TAILS + errors**2 / variances), 1.0)
        found = Hypothesis(view, expert, _MIDDLING, values, trust)
    return found
