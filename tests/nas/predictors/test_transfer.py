"""A new target from known ones: followed where they are kin, left where they are not, and the ensemble without any."""

import time
from collections.abc import Callable

import numpy as np
import pytest

from nas.errors import NasError
from nas.predictors import Archs, Ensemble
from nas.predictors._kinship import NOISES, STRUCTURES, Hypothesis, Kinship
from nas.predictors._mixture import Mixture
from nas.predictors.transfer import Transfer
from search_spaces import Space, choice

Cost = Callable[[np.ndarray], np.ndarray]


class Layers(Space):
    op = choice("skip", "conv1", "conv3", "pool", per=8)
    width = choice(16, 32, 64)


SPACE = Layers()
EACH = np.array([0.1, 1.0, 4.0, 1.5])


def compute(codes: np.ndarray) -> np.ndarray:
    """Convolutions count, and width multiplies."""
    return EACH[codes[:, :8]].sum(axis=1) * (1 + codes[:, 8])


def launches(codes: np.ndarray) -> np.ndarray:
    """Every operation that is there counts the same."""
    return 3 + (codes[:, :8] != 0).sum(axis=1).astype(float)


def blend(share: float) -> Cost:
    return lambda codes: share * compute(codes) + (1 - share) * 5 * launches(codes)


class Known:
    """A fitted predictor of a cost that it knows."""

    def __init__(self, cost: Cost, error: float = 0.02) -> None:
        self.cost, self.error = cost, error

    def fit(self, archs: Archs, y: object) -> None:
        raise AssertionError("what is known is not fitted again")

    def predict(self, archs: Archs) -> tuple[np.ndarray, np.ndarray]:
        mean = self.cost(archs if isinstance(archs, np.ndarray) else SPACE.codes(archs))
        return mean, np.full(len(archs), self.error * mean.mean() if len(mean) else 0.0)


KIN = {f"d{share}": Known(blend(share)) for share in (0.0, 0.3, 0.7, 1.0)}


def drawn(n: int, seed: int) -> np.ndarray:
    return SPACE.sample_codes(n, np.random.default_rng(seed))


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.argsort().argsort(), b.argsort().argsort())[0, 1])


def measured(cost: Cost, n: int, seed: int, noise: float = 0.02) -> tuple[np.ndarray, np.ndarray]:
    codes = drawn(n, seed)
    return codes, cost(codes) * np.random.default_rng([9, seed]).lognormal(0, noise, size=n)


def fitted(cost: Cost, n: int, known: dict[str, Known], seed: int = 1, noise: float = 0.02) -> Transfer:
    predictor = Transfer(SPACE, known)
    predictor.fit(*measured(cost, n, seed, noise))
    return predictor


NEW = drawn(1000, 5)


def test_ten_measurements_suffice_among_kin() -> None:
    """Of a target that is between two known ones, 30 % slower than both."""
    cost: Cost = lambda codes: 1.3 * blend(0.5)(codes) + 2  # noqa: E731
    mean, _ = fitted(cost, 10, KIN).predict(NEW)
    alone = Ensemble(SPACE)
    alone.fit(*measured(cost, 10, 1))
    assert spearman(mean, cost(NEW)) > 0.985 > 0.95 > spearman(alone.predict(NEW)[0], cost(NEW))
    assert np.mean(np.abs(mean / cost(NEW) - 1)) < 0.05


def test_a_near_copy_is_recognised() -> None:
    """Of which a line is all that is to be learnt, though most known targets rank otherwise."""
    known = {**{f"other{i}": Known(blend(0.05 * i)) for i in range(6)}, "copy": Known(compute)}
    mean, _ = fitted(lambda codes: 2 * compute(codes) + 1, 8, known).predict(NEW)
    assert spearman(mean, compute(NEW)) > 0.99


def test_what_ranks_otherwise_is_learnt_from_its_own_measurements() -> None:
    """No known target pays for pools as this one does."""
    cost: Cost = lambda codes: 2 + 3 * (codes[:, :8] == 3).sum(axis=1) + (codes[:, :8] == 1).sum(axis=1)  # noqa: E731
    assert abs(spearman(blend(0.5)(NEW), cost(NEW))) < 0.5
    few, more = (spearman(fitted(cost, n, KIN).predict(NEW)[0], cost(NEW)) for n in (10, 60))
    assert more > 0.95
    assert more > few


def test_stray_measurements_do_little_harm() -> None:
    codes, values = measured(blend(0.5), 20, 2)
    values[3] *= 2.5
    predictor = Transfer(SPACE, KIN)
    predictor.fit(codes, values)
    mean, _ = predictor.predict(NEW)
    assert np.median(np.abs(mean / blend(0.5)(NEW) - 1)) < 0.05


def test_its_spread_is_honest() -> None:
    kept = []
    for seed in range(8):
        predictor = fitted(blend(0.5), 25, KIN, seed, noise=0.05)
        codes, truth = measured(blend(0.5), 300, 100 + seed, noise=0.05)
        mean, std = predictor.predict(codes)
        assert (std > 0).all()
        kept.append(np.mean(np.abs(truth - mean) <= 1.645 * std))
    assert 0.82 < np.mean(kept) < 0.98


def test_what_is_held_out_was_not_seen() -> None:
    """The error of a measurement that is far off does not shrink because it is there."""
    codes, values = measured(blend(0.5), 20, 3)
    values[4] *= 2
    predictor = Transfer(SPACE, KIN)
    predictor.fit(codes, values)
    assert predictor.held_out[0][4] == pytest.approx(values[4] / 2, rel=0.2)


def test_without_known_targets_it_is_the_ensemble() -> None:
    codes, values = measured(compute, 30, 0)
    ensemble, transfer = Ensemble(SPACE), Transfer(SPACE, {})
    for predictor in (ensemble, transfer):
        predictor.fit(codes, values)
    for one, other in zip(transfer.predict(NEW), ensemble.predict(NEW), strict=True):
        np.testing.assert_array_equal(one, other)


def test_one_known_target_is_enough() -> None:
    mean, std = fitted(compute, 10, {"only": Known(blend(0.9))}).predict(NEW)
    assert spearman(mean, compute(NEW)) > 0.95
    assert np.isfinite(std).all()


def test_many_measurements_make_up_for_strange_kin() -> None:
    """Beyond some, models of the target itself take part: here of what is no line in anything known."""
    cost: Cost = lambda codes: 5 + 3.0 * ((codes[:, 0] == 2) & (codes[:, 1] == 2)) + (codes[:, 8] == 1)  # noqa: E731
    mean, _ = fitted(cost, 301, KIN).predict(NEW)
    assert np.abs(mean - cost(NEW)).mean() < 0.25 < np.abs(cost(NEW) - cost(NEW).mean()).mean()


def test_features_of_the_user_help() -> None:
    cost: Cost = lambda codes: 1 + 5.0 * (codes[:, 0] == codes[:, 1])  # noqa: E731

    def told(archs: Archs) -> np.ndarray:
        return cost(archs if isinstance(archs, np.ndarray) else SPACE.codes(archs))[:, None]

    predictor = Transfer(SPACE, KIN, features=told)
    predictor.fit(*measured(cost, 30, 1))
    assert np.median(np.abs(predictor.predict(NEW)[0] / cost(NEW) - 1)) < 0.06


def test_is_a_function_of_the_measurements_and_fast() -> None:
    codes, values = measured(blend(0.5), 50, 1)
    first, second = Transfer(SPACE, KIN), Transfer(SPACE, KIN)
    first.fit(*measured(compute, 20, 4))  # forgotten
    started = time.process_time()
    first.fit(SPACE.decode(codes), values)
    many = first.predict(np.tile(NEW, (100, 1)))
    assert time.process_time() - started < 10
    order = np.random.default_rng(0).permutation(50)
    second.fit(codes[order], values[order])
    np.testing.assert_allclose(many[0][:1000], second.predict(NEW)[0], rtol=1e-6)
    np.testing.assert_allclose(many[1][:1000], second.predict(SPACE.decode(NEW))[1], rtol=1e-4)
    assert first.predict([])[0].shape == (0,)


def test_errors_say_what_to_do() -> None:
    with pytest.raises(NasError, match="call fit before predict"):
        Transfer(SPACE, KIN).predict(NEW)
    with pytest.raises(NasError, match="measure at least"):
        Transfer(SPACE, KIN).fit(NEW[:2], [1.0, 2.0])
    with pytest.raises(NasError, match="not finite"):
        Transfer(SPACE, KIN).fit(NEW[:4], [1.0, np.nan, 2.0, 3.0])


# --- in closed form -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hypothesis() -> Hypothesis:
    rng = np.random.default_rng(0)
    known = 5 + rng.random((40, 3))
    view = Kinship(known).view(known[:9], rng.normal(size=(9, 2)))
    return Hypothesis(view, 1, 2, rng.normal(size=9), np.array([1, 1, 0.3, 1, 1, 1, 1, 0.5, 1.0]))


def covariance(hypothesis: Hypothesis, noise: int) -> np.ndarray:
    """Of the measurements, by its definition."""
    view, expert = hypothesis.view, hypothesis.expert
    rows = view.base @ view.table(expert, STRUCTURES[hypothesis.structure])
    return rows @ rows.T + NOISES[noise] * np.diag(view.levels[:, expert] / hypothesis.trust)


def test_densities_are_restricted_likelihoods(hypothesis: Hypothesis) -> None:
    """Differences between noises are those of the likelihood of what is left when the line is projected out."""
    line = np.column_stack([np.ones(9), hypothesis.view.base[:, 1]])
    contrasts = np.linalg.svd(line)[0][:, 2:]
    densities = []
    for noise in (4, 8):
        inner = contrasts.T @ covariance(hypothesis, noise) @ contrasts
        left = contrasts.T @ hypothesis.values
        quadratic = left @ np.linalg.solve(inner, left)
        assert hypothesis.variance[noise] == pytest.approx(quadratic / 7, rel=1e-2)
        densities.append(-0.5 * np.linalg.slogdet(inner)[1] - 3.5 * np.log(quadratic / 7))
    assert hypothesis.density[8] - hypothesis.density[4] == pytest.approx(densities[1] - densities[0], abs=0.05)


def test_leaving_one_out_in_closed_form_equals_doing_it(hypothesis: Hypothesis) -> None:
    whole = covariance(hypothesis, 6)
    errors, _ = hypothesis.left_out(6)
    for left in range(9):
        kept = np.delete(np.arange(9), left)
        weights = np.linalg.solve(whole[np.ix_(kept, kept)], whole[kept, left])
        assert errors[left] == pytest.approx(hypothesis.values[left] - weights @ hypothesis.values[kept], abs=1e-6)


def test_a_mixture_predicts_as_its_parts_do(hypothesis: Hypothesis) -> None:
    """Mean and variance of two hypotheses, from the textbook's formulas of each."""
    view = hypothesis.view
    other = Hypothesis(view, 2, 0, hypothesis.values, np.ones(9))
    weights = np.zeros((2, len(NOISES)))
    weights[0, 5], weights[1, 8] = 0.7, 0.3
    mean, std = Mixture((hypothesis, other), weights).predict(view)
    means, variances = [], []
    for part, noise in ((hypothesis, 5), (other, 8)):
        rows = view.base @ view.table(part.expert, STRUCTURES[part.structure])
        gain = np.linalg.solve(covariance(part, noise), rows @ rows.T).T
        means.append(gain @ part.values)
        spread = np.diag(rows @ rows.T - gain @ rows @ rows.T) + NOISES[noise] * view.levels[:, part.expert]
        variances.append(part.variance[noise] * spread)
    expected = 0.7 * means[0] + 0.3 * means[1]
    second = 0.7 * (variances[0] + means[0] ** 2) + 0.3 * (variances[1] + means[1] ** 2)
    np.testing.assert_allclose(mean, expected, atol=1e-6)
    np.testing.assert_allclose(std**2, second - expected**2, rtol=1e-4)
