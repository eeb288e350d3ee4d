"""Symptoms of a search gone astray: found where they are, not found where they are not."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from nas.searchers.gradient import collapse

FREE = (False, True, False, True)  # two of four operations have no parameters


def cell(*largest: int, share: float = 0.85) -> dict[str, list[float]]:
    """Choices among four operations, each with this option ahead."""
    rest = (1 - share) / 3
    return {f"op[{n}]": [share if option == ahead else rest for option in range(4)] for n, ahead in enumerate(largest)}


def free(num: int) -> dict[str, tuple[bool, ...]]:
    return {f"op[{n}]": FREE for n in range(num)}


def test_a_healthy_search_has_no_symptom() -> None:
    probabilities = cell(0, 2, 1, 0, 2, 3, 0, 2)
    assert collapse.warnings(probabilities, free(8), mixed=0.9, derived=0.88, curvatures=[0.2] * 12) == ()


def test_a_cell_of_skips_is_a_collapse() -> None:
    (line,) = collapse.warnings(cell(1, 1, 3, 1, 1, 3, 1, 0), free(8))
    assert line.startswith("7 of 8 choices prefer an option without parameters, where 4.0 are expected by chance: ")
    assert "warm-up" in line and "\n" not in line


def test_few_choices_prove_nothing() -> None:
    assert collapse.parameter_free_preferred(cell(1, 1, 1), free(3)) is None  # one in eight by chance
    assert collapse.parameter_free_preferred(cell(1, 1, 1, 1, 1), free(5)) is not None


def test_choices_without_an_alternative_do_not_count() -> None:
    one_kind = {"op[0]": (True,) * 4, "op[1]": (False,) * 4, "elsewhere": FREE}
    assert collapse.parameter_free_preferred(cell(1, 1, 1, 1, 1, 1), one_kind) is None
    assert collapse.parameter_free_preferred({}, {}) is None


def test_equal_probabilities_are_nothing_learnt() -> None:
    (line,) = collapse.warnings(cell(0, 2, 0, share=0.35), {})
    assert line.startswith("the probabilities have 98 % of the entropy of equal ones") and "lr_arch" in line
    assert collapse.undecided(cell(0, 2, share=0.7)) is None and collapse.undecided({}) is None


@pytest.mark.parametrize(("mixed", "derived", "warns"), [(0.9, 0.4, True), (0.9, 0.85, False), (0.5, 0.9, False)])
def test_a_derived_architecture_that_does_worse(mixed: float, derived: float, warns: bool) -> None:
    line = collapse.disagreeing(mixed, derived)
    assert (line is not None) == warns
    if line:
        assert line.startswith("the mixture scores 0.9, the architecture derived from it 0.4 with the same weights: ")


def test_draws_that_are_hardly_better_than_random_ones() -> None:
    (line,) = collapse.warnings(cell(0, 2), {}, learnt=0.62)
    assert line.startswith("a network drawn from the learned distribution scores better than a random one in 62 %")
    assert collapse.warnings(cell(0, 2), {}, learnt=0.8) == ()


def test_growing_curvature_is_noticed_where_the_ratio_says() -> None:
    assert collapse.sharpening([0.1] * 9) is None  # too few looks
    assert collapse.sharpening([0.3] * 5 + [0.39] * 5) is None  # 0.77
    line = collapse.sharpening([0.3] * 5 + [0.41] * 5)  # 0.73
    assert line is not None and "grown from 0.3 to 0.41 in 5 checks" in line
    assert collapse.sharpening([0.4] * 5 + [0.1] * 5) is None and collapse.sharpening([-1.0] * 10) is None


def test_relative_entropy() -> None:
    assert collapse.relative_entropy([0.25] * 4) == pytest.approx(1)
    assert collapse.relative_entropy([0.5, 0.5, 0, 0]) == pytest.approx(0.5)
    assert collapse.relative_entropy([1.0, 0.0]) == collapse.relative_entropy([1.0]) == 0


def test_chances_are_those_of_all_outcomes() -> None:
    chances = [0.5, 0.2, 0.75, 0.1]
    for number in range(5):
        direct = sum(
            math.prod(p if happened else 1 - p for p, happened in zip(chances, outcome, strict=True))
            for outcome in itertools.product((True, False), repeat=4)
            if sum(outcome) >= number
        )
        assert collapse.at_least(number, chances) == pytest.approx(direct, abs=1e-15)


@pytest.mark.parametrize("largest", [5.0, -5.0])
def test_the_dominant_eigenvalue_of_a_known_hessian(largest: float) -> None:
    rng = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn((6, 6), dtype=torch.float64, generator=rng)).Q
    hessian = basis @ torch.diag(torch.tensor([largest, 2, 1, 0.5, 0, -1], dtype=torch.float64)) @ basis.T

    def gradient(at: Tensor) -> Tensor:
        return hessian @ at + at.pow(3) / 3  # the cube has no curvature at 0

    found = collapse.dominant_eigenvalue(gradient, torch.zeros(6, dtype=torch.float64), rng)
    assert found == pytest.approx(largest, rel=1e-3)
    flat = collapse.dominant_eigenvalue(torch.zeros_like, torch.ones(3), torch.Generator().manual_seed(1))
    assert flat == 0
