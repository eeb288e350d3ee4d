"""Which options pull apart: planted groups are found, exactly, and only shared coordinates count."""

from itertools import combinations

import numpy as np
import pytest
import torch
from torch import Tensor

from search_spaces import Architecture, Space, choice, constraint
from supernets.gradient_matching import (
    Gradients,
    bipartition,
    candidates,
    cut,
    disagreement,
    having,
    lacking,
)
from supernets.layout import Box

RNG = np.random.default_rng(0)


class Conditional(Space):
    op = choice("conv", "pool", "skip")
    kernel = choice(3, 5, 7, 9, 11, when={"op": "conv"})
    width = choice(8, 16)

    @constraint
    def small(kernel, width):  # type: ignore[no-untyped-def]
        return kernel < 11 or width < 16


def touched(vector: Tensor, start: int = 0) -> Gradients:
    return {"weight": (Box((start,), tuple(vector.shape)), vector)}


def planted(signs: list[int], noise: float = 0.02) -> list[Gradients]:
    generator = torch.Generator().manual_seed(0)
    common = torch.randn(200, generator=generator)
    return [touched(sign * common + noise * torch.randn(200, generator=generator)) for sign in signs]


@pytest.mark.parametrize(
    ("signs", "largest"),
    [([1, 1, 1, -1, -1], 12), ([-1, 1, -1, 1, 1], 12), ([1, 1, 1, 1, -1], 8), ([-1, 1, 1, 1, 1], 8)],
)
def test_planted_groups_are_found(signs: list[int], largest: float) -> None:
    groups, total = bipartition(disagreement(planted(signs)))
    assert [bool(apart) for apart in groups] == [sign != signs[0] for sign in signs]
    assert total == pytest.approx(largest, abs=0.05)


def test_options_that_agree_are_at_no_distance() -> None:
    assert bipartition(disagreement(planted([1] * 5)))[1] < 0.02


@pytest.mark.parametrize("n", [2, 3, 6, 9])
def test_no_bipartition_cuts_more(n: int) -> None:
    half = RNG.random((n, n))
    distances = half + half.T

    def between(one: tuple[int, ...]) -> float:
        return sum(distances[i, j] for i in one for j in range(n) if j not in one)

    best = max(between(one) for size in range(1, n) for one in combinations(range(n), size))
    groups, total = bipartition(distances)
    assert total == pytest.approx(best) and not groups[0]
    assert total == pytest.approx(between(tuple(np.flatnonzero(groups))))


def test_only_what_all_options_touch_is_compared() -> None:
    small, large = torch.ones(3), torch.tensor([-9.0, 1.0, 1.0, 1.0, -9.0])
    both = [touched(small, start=1), touched(large)]  # the centre of a kernel, and all of it
    assert np.allclose(disagreement(both), 0)
    alone = [one | {name: (Box((2,), (2,)), torch.ones(2))} for one, name in zip(both, ("a", "b"), strict=True)]
    assert np.allclose(disagreement(alone), 0)


def test_distances_are_one_less_cosine() -> None:
    vectors = torch.randn(4, 7, generator=torch.Generator().manual_seed(1))
    split = [{"a": (Box((0,), (3,)), v[:3]), "b": (Box((0, 0), (2, 2)), v[3:].view(2, 2))} for v in vectors]
    expected = 1 - torch.nn.functional.cosine_similarity(vectors[:, None], vectors[None], dim=-1)
    assert np.allclose(disagreement(split), expected.numpy(), atol=1e-6)


def test_gradients_of_nothing_agree_with_each_other_alone() -> None:
    table = disagreement([touched(torch.zeros(2)), touched(torch.zeros(2)), touched(torch.ones(2))])
    assert np.allclose(table, [[0, 0, 1], [0, 0, 1], [1, 1, 0]])


def test_broken_gradients_are_seen() -> None:
    for bad in (torch.nan, torch.inf):
        assert np.isnan(disagreement([touched(torch.tensor([1.0, bad])), touched(torch.ones(2))])).any()


@pytest.mark.parametrize(("slot", "codes"), [(0, (0,)), (0, (1, 2)), (1, (0, 4)), (2, (1,))])
def test_a_split_parts_the_space(slot: int, codes: tuple[int, ...]) -> None:
    space = Conditional()
    one, other = having(space, slot, codes), lacking(space, slot, codes)
    assert one is not None and other is not None
    taken, kept = set(one.enumerate()), set(other.enumerate())
    assert taken | kept == set(space.enumerate()) and not taken & kept
    assert all(row[slot] in codes for row in space.codes(taken).tolist())


def test_what_no_network_has_is_no_space() -> None:
    space = Conditional()
    assert having(space.where(op="pool"), 1, (0,)) is None
    assert having(space.where(width=16), 1, (4,)) is None
    assert lacking(space.where(width=16), 2, (1,)) is None


def test_candidates_have_two_options_at_least() -> None:
    assert [c.slot for c in candidates(Conditional(), RNG, 9)] == [0, 1, 2]
    assert [c.slot for c in candidates(Conditional().where(op=("pool", "skip"), width=8), RNG, 9)] == [0]
    wide = [c for c in candidates(Conditional().where(width=16), RNG, 9) if c.slot == 1]
    assert list(wide[0].options) == [0, 1, 2, 3]  # the constraint leaves no 11
    assert len(candidates(Conditional(), RNG, 2)) == 2


def test_a_cut_forces_each_option_with_the_others_kept() -> None:
    space, seen = Conditional(), []
    direction = {3: 1.0, 5: -1.0, 7: 1.0, 9: 1.0, 11: -1.0}

    def measure(arch: Architecture, batch: int) -> Gradients:
        seen.append((batch, arch))
        return touched(torch.full((4,), direction[arch.kernel]))

    (kernel,) = (c for c in candidates(space, RNG, 9) if c.slot == 1)
    found = cut(kernel, space, measure, np.random.default_rng(1), batches=6)
    assert found.kept == {0, 2, 3} and found.taken == {1, 4} and found.conflict == pytest.approx(2)
    assert len(seen) == 6 * 5  # batches x options
    for batch in range(6):
        archs = [arch for number, arch in seen if number == batch]
        assert [arch.kernel for arch in archs] == [3, 5, 7, 9, 11]
        assert len({arch.width for arch in archs[:4]}) == 1 and all(arch in space for arch in archs)


def test_batches_with_broken_gradients_do_not_count() -> None:
    (op,) = (c for c in candidates(Conditional().where(op=("pool", "skip")), RNG, 9) if c.slot == 0)
    signs = {"pool": 1.0, "skip": -1.0}

    def measure(arch: Architecture, batch: int) -> Gradients:
        return touched(torch.full((2,), torch.nan if batch else signs[arch.op]))

    assert cut(op, op.space, measure, RNG, batches=3).conflict == pytest.approx(2)
    assert cut(op, op.space, lambda arch, batch: touched(torch.full((2,), torch.nan)), RNG, 3).conflict == 0
