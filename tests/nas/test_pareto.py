"""Dominance against its definition, crowding against a loop, volumes against areas worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nas.errors import NasError
from nas.objectives import pareto

shapes = st.tuples(st.integers(0, 30), st.integers(1, 5))
small_values = arrays(float, shapes, elements=st.integers(-2, 3).map(float))  # few values: many duplicates and ties
any_values = arrays(float, shapes, elements=st.floats(allow_nan=False, allow_infinity=False))


def by_definition(values):
    dominates = (values[:, None] <= values[None]).all(2) & (values[:, None] < values[None]).any(2)
    return ~dominates.any(0)


def crowding_by_loops(values):
    n, m = values.shape
    distance = [0.0] * n
    for k in range(m if n else 0):
        order = sorted(range(n), key=lambda i: values[i, k])
        low, high = values[order[0], k], values[order[-1], k]
        if low == high and n > 2:  # tells no points apart
            continue
        distance[order[0]] = distance[order[-1]] = float("inf")
        for before, i, after in zip(order, order[1:], order[2:], strict=False):
            distance[i] += (values[after, k] - values[before, k]) / (high - low)
    return np.array(distance)


@given(st.one_of(small_values, any_values))
def test_non_dominated_is_the_definition(values):
    mask = pareto.non_dominated(values)
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, by_definition(values))


@given(small_values)
def test_ranks_peel_one_front_after_another(values):
    ranks, left, front = pareto.ranks(values), np.arange(len(values)), 0
    assert ranks.shape == (len(values),)
    while len(left):
        mask = by_definition(values[left])
        np.testing.assert_array_equal(ranks[left[mask]], front)
        left, front = left[~mask], front + 1


@given(small_values)
def test_crowding_is_the_sum_over_neighbours(values):
    np.testing.assert_allclose(pareto.crowding(values), crowding_by_loops(values))


def test_crowding_prefers_the_point_with_far_neighbours():
    distance = pareto.crowding([[0, 10], [1, 9], [2, 8], [10, 0]])
    np.testing.assert_allclose(distance, [np.inf, 0.2 + 0.2, 0.9 + 0.9, np.inf])


def test_crowding_at_the_edges():
    assert pareto.crowding(np.zeros((0, 2))).shape == (0,)
    assert (pareto.crowding([[1.0, 2.0]]) == np.inf).all()
    assert (pareto.crowding([[1.0, 2.0], [1.0, 2.0]]) == np.inf).all()
    assert (pareto.crowding([[1.0, 2.0]] * 3) == 0).all(), "equal points are not spread at all"
    np.testing.assert_array_equal(pareto.crowding([[0, 5], [1, 5], [3, 5]]), [np.inf, 1, np.inf])
    np.testing.assert_array_equal(pareto.crowding([[-1.7e308], [0], [1.7e308]]), [np.inf, 1, np.inf])


def test_duplicates_stay_together():
    np.testing.assert_array_equal(pareto.non_dominated([[1, 2], [1, 2], [2, 1], [2, 2]]), [True, True, True, False])
    np.testing.assert_array_equal(pareto.non_dominated([[1], [1], [2]]), [True, True, False])
    np.testing.assert_array_equal(pareto.ranks([[1, 2], [1, 2], [2, 2]]), [0, 0, 1])


def test_infinities_are_ranked():
    np.testing.assert_array_equal(pareto.non_dominated([[1, np.inf], [2, 3], [np.inf, np.inf]]), [True, True, False])


def test_no_points():
    assert pareto.non_dominated(np.zeros((0, 2))).shape == (0,)
    assert pareto.ranks(np.zeros((0, 3))).shape == (0,)
    assert pareto.hypervolume(np.zeros((0, 2)), [1, 1]) == 0


def test_hypervolume_of_two_rectangles():
    assert pareto.hypervolume([[1, 2], [2, 1], [2, 2]], [4, 4]) == pytest.approx(3 * 2 + 2 * 1)
    assert pareto.hypervolume([[3.0]], [4.0]) == 1
    assert pareto.hypervolume([[5, 5]], [4, 4]) == 0, "what is worse than the reference adds nothing"


@given(arrays(float, st.tuples(st.integers(1, 12), st.integers(1, 3)), elements=st.integers(0, 5).map(float)))
def test_every_point_lies_inside_the_reference(values):
    reference = pareto.reference_point(values)
    assert (reference > values).all()
    assert pareto.hypervolume(values, reference) > 0


def test_reference_point_of_a_constant_objective():
    np.testing.assert_allclose(pareto.reference_point([[0, 50.0], [0, 50.0]]), [0.1, 55])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pareto.non_dominated([1.0, 2.0]), r"shape \(2,\); give \(points, objectives\)"),
        (lambda: pareto.non_dominated(np.zeros((3, 0))), r"shape \(3, 0\)"),
        (lambda: pareto.ranks([[1, 2], [np.nan, 1]]), r"point 1 has the objectives \[nan, 1.0\]; leave failed"),
        (lambda: pareto.crowding([[np.inf, 1]]), "leave failed evaluations out"),
        (lambda: pareto.hypervolume([[1, 2]], [3]), "one finite number for each of 2 objectives"),
        (lambda: pareto.reference_point(np.zeros((0, 2))), "evaluate at least one"),
    ],
)
def test_errors_name_the_remedy(call, message):
    with pytest.raises(NasError, match=message):
        call()
