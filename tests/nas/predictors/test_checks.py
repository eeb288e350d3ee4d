"""Bad measurements are said in one line each."""

import numpy as np
import pytest

from nas.errors import NasError
from nas.predictors.checks import checked, unit_mistake
from tests.contracts.predictor import Stages

ARCHS = Stages().sample_many(12, np.random.default_rng(0), distinct=True)
VALUES = np.linspace(1.0, 4.0, 12)


def test_good_measurements_pass_as_they_are() -> None:
    for archs in (ARCHS, Stages().codes(ARCHS)):
        found = checked(archs, VALUES)
        assert found.archs is archs
        assert found.notes == ()
        np.testing.assert_array_equal(found.y, VALUES)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (VALUES[:2], "one value per architecture"),
        ([*VALUES[:-1], np.nan], f"nan of architecture {ARCHS[11].digest} is not finite; leave failed"),
        ([*VALUES[:-1], np.inf], "inf of architecture .* is not finite"),
        ([-1.0, 0.0, *VALUES[2:]], r"-1 of .* \(and 1 more\) is not above 0"),
        ([5.0] * 12, "all 12 latencies are 5, so this target does not distinguish"),
    ],
)
def test_bad_values(values: list[float], words: str) -> None:
    with pytest.raises(NasError, match=words) as caught:
        checked(ARCHS, values)
    assert "\n" not in str(caught.value)


def test_too_few_after_repeats_are_merged() -> None:
    with pytest.raises(NasError, match="2 measured architectures are too few"):
        checked([ARCHS[0], ARCHS[0], ARCHS[1]], [1.0, 1.1, 2.0])


def test_repeats_that_agree_count_once_and_by_their_median() -> None:
    archs, values = [*ARCHS, ARCHS[3], ARCHS[3]], [*VALUES, VALUES[3] * 1.04, VALUES[3] * 1.1]
    for given in (archs, Stages().codes(archs)):
        found = checked(given, values)
        assert len(found.archs) == len(found.y) == 12
        assert found.y[3] == pytest.approx(VALUES[3] * 1.04)
        assert found.notes == (
            "1 architectures were measured more than once, up to 10.0 % apart; the median of each counts",
        )


def test_repeats_that_disagree_by_far_are_an_error() -> None:
    with pytest.raises(NasError, match=rf"{ARCHS[3].digest} was measured 2 times .* different results \(1.*, 9\)"):
        checked([*ARCHS, ARCHS[3]], [*VALUES, 9.0])


def test_far_fewer_measurements_than_features() -> None:
    assert checked(ARCHS, VALUES, num_features=119).notes == ()
    (note,) = checked(ARCHS, VALUES, "ridge", num_features=120).notes
    assert note.startswith("12 measurements for 120 features: the predictor depends on its prior")
    with pytest.raises(NasError, match="too few for 'mlp'; use 'ensemble' or measure at least 12"):
        checked(ARCHS, VALUES, "mlp", num_features=120)
    with pytest.raises(NasError, match="too few for every predictor; measure at least 120"):
        checked(ARCHS, VALUES, num_features=1200)


@pytest.mark.parametrize(("factor", "unit"), [(1e-3, "seconds"), (1e3, "microseconds"), (1e6, "nanoseconds")])
def test_another_unit_is_noticed(factor: float, unit: str) -> None:
    rng = np.random.default_rng(0)
    known = VALUES * rng.lognormal(0, 0.3, 12)  # predictions, not the truth
    told = unit_mistake([*(VALUES[:-1] * factor), np.nan], known)
    assert told is not None and f"as if they were {unit} and" in told and f"multiply them by {1 / factor:g}" in told


@pytest.mark.parametrize("factor", [1.0, 0.1, 30.0, 1e-2])
def test_a_slower_or_faster_machine_is_no_other_unit(factor: float) -> None:
    assert unit_mistake(VALUES * factor, VALUES) is None
    assert unit_mistake([np.nan], [1.0]) is None
    with pytest.raises(NasError, match="one known latency for each new"):
        unit_mistake(VALUES, VALUES[1:])
