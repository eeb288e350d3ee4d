"""Which architectures to measure."""

import numpy as np
import pytest
from numpy.typing import NDArray

from nas.errors import NasError
from nas.predictors import Archs, Ridge
from nas.predictors.design import diverse, enough, first, next_to_measure
from nas.predictors.quality import Quality, Wanted
from search_spaces import NASBench201Space, Space, SpaceError, choice

SPACE = NASBench201Space()


class Staged(Space):
    depth = choice(1, 2, 3)
    width = choice(8, 16, 24, 32, per="depth")


class Tiny(Space):
    width = choice(1, 2, 3)


class Known:
    """Says of architecture i that it has mean[i] and std[i]."""

    def __init__(self, mean: list[float], std: list[float]) -> None:
        self._told = np.array(mean), np.array(std)

    def fit(self, archs: Archs, y: object) -> None:
        raise NotImplementedError

    def predict(self, archs: Archs) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return self._told


def numbered(n: int) -> NDArray[np.int16]:
    return np.arange(n, dtype=np.int16)[:, None]


@pytest.mark.parametrize("space", [SPACE, Staged()])
def test_a_first_design_has_both_ends_and_no_architecture_twice(space: Space) -> None:
    codes = first(space, 12, np.random.default_rng(0))
    archs = space.decode(codes)
    assert archs[:2] == [space.smallest(), space.largest()]
    assert len(set(archs)) == 12 and all(arch in space for arch in archs)
    np.testing.assert_array_equal(codes, first(space, 12, np.random.default_rng(0)))


def test_a_first_design_shows_every_option_and_random_ones_do_not() -> None:
    def shown(codes: NDArray[np.int16]) -> int:
        return sum(len(np.unique(column)) for column in codes.T)

    assert min(shown(first(SPACE, 12, np.random.default_rng(seed))) for seed in range(5)) == 30
    assert np.mean([shown(SPACE.sample_codes(12, np.random.default_rng(seed))) for seed in range(5)]) < 29


def test_a_first_design_predicts_better_than_random_architectures() -> None:
    everything = SPACE.sample_codes(1000, np.random.default_rng(99))
    costs = np.random.default_rng(1).uniform(0, 2, (6, 5))

    def error(codes: NDArray[np.int16]) -> float:
        predictor = Ridge(SPACE)
        predictor.fit(codes, 1 + costs[np.arange(6), codes].sum(axis=1))
        return float(np.abs(predictor.predict(everything)[0] - 1 - costs[np.arange(6), everything].sum(axis=1)).mean())

    seeds = range(6)
    designed = np.mean([error(first(SPACE, 20, np.random.default_rng(seed))) for seed in seeds])
    drawn = np.mean([error(SPACE.sample_codes(20, np.random.default_rng(seed))) for seed in seeds])
    assert designed < 0.8 * drawn


def test_a_whole_small_space_is_designed_and_no_more() -> None:
    assert len(first(Tiny(), 3, np.random.default_rng(0))) == 3
    assert first(Tiny(), 1, np.random.default_rng(0)).tolist() == [[0]]
    with pytest.raises(SpaceError):
        first(Tiny(), 4, np.random.default_rng(0))


def test_diverse_rows_span_what_there_is() -> None:
    rows = np.vstack([np.random.default_rng(0).normal(0, 0.01, (50, 2)), [[5, 0], [-5, 0], [0, 5], [0, -5]]])
    assert set(diverse(rows, 4, np.random.default_rng(0)).tolist()) == {50, 51, 52, 53}
    assert diverse(rows, 3, np.random.default_rng(0), given=2).tolist()[:2] == [0, 1]
    assert sorted(diverse(rows, 54, np.random.default_rng(0)).tolist()) == list(range(54))
    with pytest.raises(NasError, match="55 of 54 rows cannot be chosen"):
        diverse(rows, 55, np.random.default_rng(0))


def test_equal_rows_are_no_error() -> None:
    assert sorted(diverse(np.ones((4, 2)), 3, np.random.default_rng(0)).tolist())[0] >= 0


def test_near_a_limit_what_is_least_sure_of_it_is_measured() -> None:
    predictor = Known([1.0, 4.9, 5.0, 5.1, 9.0, 9.0], [2.0, 1.0, 0.1, 1.0, 1.0, 0.2])
    rng = np.random.default_rng(0)
    assert next_to_measure(predictor, numbered(6), 2, rng, near=[5.0]).ravel().tolist() in ([1, 3], [3, 1])
    assert next_to_measure(predictor, numbered(6), 2, rng, near=[9.0, 5.0]).ravel().tolist()[0] == 4


def test_without_limits_every_range_of_values_has_its_turn() -> None:
    predictor = Known([1.0, 1.1, 5.0, 5.1, 9.0, 9.1], [0.1, 0.2, 0.9, 0.1, 0.1, 2.0])
    picked = next_to_measure(predictor, numbered(6), 3, np.random.default_rng(0))
    assert isinstance(picked, np.ndarray) and picked.ravel().tolist() == [1, 2, 5]


def test_equal_candidates_count_once_and_architectures_stay_architectures() -> None:
    archs = SPACE.sample_many(5, np.random.default_rng(0), distinct=True)
    predictor = Known([1.0] * 10, [1.0] * 10)
    picked = next_to_measure(predictor, [*archs, *archs], 5, np.random.default_rng(0))
    assert not isinstance(picked, np.ndarray) and set(picked) == set(archs)
    with pytest.raises(NasError, match="6 of 5 different candidates"):
        next_to_measure(predictor, [*archs, *archs], 6, np.random.default_rng(0))


def test_what_makes_no_sense_is_said() -> None:
    predictor = Known([1.0], [1.0])
    with pytest.raises(NasError, match="0 architectures cannot be chosen"):
        next_to_measure(predictor, numbered(1), 0, np.random.default_rng(0))
    for near in ([], [float("nan")]):
        with pytest.raises(NasError, match="give one or more finite values"):
            next_to_measure(predictor, numbered(1), 1, np.random.default_rng(0), near=near)


def test_measuring_stops_when_what_was_held_back_is_good_enough() -> None:
    quality = Quality(0.95, 0.04, 0.9, 0.9, 50, 100)
    assert enough(quality, Wanted(spearman=0.9, mape=0.05))
    assert not enough(quality, Wanted(spearman=0.96, mape=0.05))
    assert not enough(quality, Wanted(spearman=0.9, mape=0.03))
