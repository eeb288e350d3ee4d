"""Perturbation-based selection: what an option is worth, not how probable it is, decides."""

import numpy as np
import pytest

from nas.errors import NasError
from nas.searchers.gradient.selection import Table, by_perturbation, only, without

LEARNT = {"op[0]": (0.7, 0.2, 0.1), "op[1]": (0.25, 0.25, 0.5), "width": (0.4, 0.6)}
WORTH = {"op[0]": (0.0, 0.1, 3.0), "op[1]": (2.0, 0.0, -1.0), "width": (0.0, 0.5)}


def worth(table: Table) -> float:
    return sum(float(np.dot(table[path], WORTH[path])) for path in table)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("seed", range(5))
def test_the_most_useful_options_are_taken_whatever_their_probability(seed: int) -> None:
    found = by_perturbation(LEARNT, worth, rng(seed))
    assert found == {"op[0]": (0, 0, 1), "op[1]": (1, 0, 0), "width": (0, 1)}
    assert list(found) == list(LEARNT)


def test_equal_options_are_decided_by_probability() -> None:
    found = by_perturbation(LEARNT, lambda table: 1.0, rng())
    assert found == {"op[0]": (1, 0, 0), "op[1]": (0, 0, 1), "width": (0, 1)}


def test_later_choices_see_earlier_decisions() -> None:
    """Two options that help only together are taken together, although either alone does harm."""

    def score(table: Table) -> float:
        return 4 * table["op[0]"][2] * table["op[1]"][1] - 0.2 * (table["op[0]"][2] + table["op[1]"][1])

    found = by_perturbation({path: LEARNT[path] for path in ("op[0]", "op[1]")}, score, rng())
    assert found == {"op[0]": (0, 0, 1), "op[1]": (0, 1, 0)}


def test_it_scores_each_option_once_and_tunes_in_between() -> None:
    scored: list[Table] = []
    tuned: list[Table] = []

    def score(table: Table) -> float:
        assert all(sum(vector) == pytest.approx(1) for vector in table.values())
        scored.append(table)
        return worth(table)

    found = by_perturbation(LEARNT, score, rng(), tuned.append)
    assert len(scored) == 8 and len(tuned) == 2
    decided = [sum(max(vector) == 1 for vector in table.values()) for table in tuned]
    assert decided == [1, 2] and all(max(vector) == 1 for vector in found.values())


def test_options_that_have_no_probability_are_never_taken() -> None:
    found = by_perturbation({"op[0]": (0.5, 0.5, 0.0), "op[1]": (0.0, 1.0, 0.0)}, worth, rng())
    assert found == {"op[0]": (0, 1, 0), "op[1]": (0, 1, 0)}


def test_the_order_of_choices_is_drawn() -> None:
    first: set[str] = set()
    for seed in range(20):
        tuned: list[Table] = []
        by_perturbation(LEARNT, worth, rng(seed), tuned.append)
        first |= {path for path, vector in tuned[0].items() if max(vector) == 1}
    assert first == set(LEARNT)


def test_what_is_left_without_an_option() -> None:
    assert without((0.5, 0.25, 0.25), 0) == (0, 0.5, 0.5)
    assert without((1.0, 0.0, 0.0), 0) == (0, 0.5, 0.5)
    assert only((0.5, 0.25, 0.25), 1) == (0, 1, 0)


def test_a_score_that_is_no_number_is_named() -> None:
    with pytest.raises(NasError, match=r"without option 0 of width the mixture scores NaN"):
        by_perturbation({"width": LEARNT["width"]}, lambda table: float("nan"), rng())
