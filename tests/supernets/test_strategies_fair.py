"""Every option equally often in every step."""

from collections import Counter
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces import Architecture, Space, ViTSpace, choice, constraint
from supernets.strategies import Course, Fair, StrategyError
from tests.contracts.strategy import course, steps
from tests.search_spaces.strategies import random_spaces

COURSE = course()


class Cells(Space):
    """Unconditional, four options everywhere: where FairNAS is exact."""

    op = choice("conv", "pool", "skip", "none", per=5)
    width = choice(8, 16, 24, 32)


class Uneven(Space):
    op = choice("a", "b", "c", "d", "e")
    width = choice(1, 2, 3)
    flag = choice(False, True)
    fixed = choice(1)


class Divided(Space):
    width = choice(12, 16, 20, 24)
    depth = choice(1, 2)
    heads = choice(1, 2, 3, 4, per="depth")

    @constraint(each="depth")
    def divides(width: int, heads: int) -> bool:
        return width % heads == 0


def on(space: Space, seed: int = 0) -> Course:
    return Course(space, seed, COURSE.steps, COURSE.rate, COURSE.supernet, COURSE.task)


def paths(space: Space, index: int = 0, seed: int = 0) -> list[Architecture]:
    step = Fair().plan(on(space, seed)).step(index)
    assert step.batches == "shared" and all((one.weight, one.task, one.distil) == (1, 1, None) for one in step.passes)
    return [one.arch for one in step.passes]


def counts(space: Space, archs: list[Architecture]) -> list[Counter[int]]:
    """For each slot how often each code is taken where it is active."""
    return [Counter(code for code in column.tolist() if code >= 0) for column in space.codes(archs).T]


def test_each_option_of_each_choice_is_in_exactly_one_path() -> None:
    space = Cells()
    for index in range(30):
        archs = paths(space, index)
        assert len(archs) == 4
        assert all(count == {0: 1, 1: 1, 2: 1, 3: 1} for count in counts(space, archs))
        for a, b in combinations(archs, 2):
            assert a.width != b.width and all(x != y for x, y in zip(a.op, b.op, strict=True))


def test_permutations_are_uniform_and_independent() -> None:
    space = Cells().where(width=8, **{f"op.{position}": "conv" for position in (2, 3, 4)})
    orders: Counter[tuple[str, ...]] = Counter()
    together: Counter[tuple[str, str]] = Counter()
    for index in range(1200):
        archs = paths(space, index)
        orders[tuple(arch.op[0] for arch in archs)] += 1
        together[archs[0].op[0], archs[0].op[1]] += 1
    assert len(orders) == 24 and all(25 < count < 80 for count in orders.values())
    assert len(together) == 16 and all(45 < count < 110 for count in together.values())


def test_fewer_options_are_repeated_as_equally_as_can_be() -> None:
    space = Uneven()
    extra: Counter[int] = Counter()
    for index in range(300):
        archs = paths(space, index)
        op, width, flag, fixed = counts(space, archs)
        assert len(archs) == 5 and set(op.values()) == {1} and fixed == {0: 5}
        assert sorted(width.values()) == [1, 2, 2] and sorted(flag.values()) == [2, 3]
        extra.update(code for code, count in flag.items() if count == 3)
    assert 110 < extra[0] < 190


def test_blocks_beyond_a_depth_are_fair_where_they_are_active() -> None:
    space = ViTSpace()
    for index in range(50):
        archs = paths(space, index)
        for slot, count in zip(space.slots, counts(space, archs), strict=True):
            seen = [count[code] for code in range(len(slot.options))]
            assert max(seen) - min(seen) <= 1, slot.path


def test_a_narrowed_space_has_as_many_paths_as_options_left() -> None:
    space = Cells().where(op=("pool", "skip"), width=(8, 24, 32))
    archs = paths(space)
    assert len(archs) == 3 and all(arch in space for arch in archs)
    assert sorted(arch.width for arch in archs) == [8, 24, 32]


def test_under_constraints_options_stay_near_fair() -> None:
    space = Divided()
    total = [Counter[int]() for _ in space.slots]
    for index in range(200):
        archs = paths(space, index)
        assert len(archs) == 4 and all(arch in space for arch in archs)
        for count, own in zip(total, counts(space, archs), strict=True):
            count.update(own)
    assert set(total[0].values()) == {200} and set(total[1].values()) == {400}
    for heads in total[2:]:
        share = heads.total() / 4
        assert all(share / 2 < count < share * 1.6 for count in heads.values()), total


@given(space=random_spaces(), seed=st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_paths_are_of_random_spaces(space: Space, seed: int) -> None:
    archs = paths(space, 1, seed)
    assert all(arch in space for arch in archs)
    assert len(archs) == max(len(slot) for slot in counts(space, [arch for _, arch in space.variants()]))


@given(space=random_spaces(constraints=False), seed=st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_random_spaces_without_constraints_are_fair_in_every_slot(space: Space, seed: int) -> None:
    there = counts(space, [arch for _, arch in space.variants()])
    for slot, options in zip(counts(space, paths(space, 1, seed)), there, strict=True):
        seen = [slot[code] for code in options]
        assert max(seen, default=0) - min(seen, default=0) <= 1


def test_a_training_is_the_same_for_equal_seeds_only() -> None:
    assert steps(Fair().plan(on(ViTSpace(), 1))) == steps(Fair().plan(on(ViTSpace(), 1)))
    assert steps(Fair().plan(on(ViTSpace(), 1))) != steps(Fair().plan(on(ViTSpace(), 2)))


def test_rounds_are_summed_and_batches_are_own_where_wanted() -> None:
    one, four = (method.step(on(Cells()), 3) for method in (Fair(), Fair(rounds=4, batches="own")))
    assert len(four.passes) == 4 * len(one.passes) and four.passes[: len(one.passes)] == one.passes
    assert (one.batches, four.batches) == ("shared", "own")
    with pytest.raises(StrategyError, match="rounds = 0: a step needs 1 or more"):
        Fair(rounds=0)
    with pytest.raises(StrategyError, match="batches = 'mine': batches are shared or own"):
        Fair(batches="mine")
