"""Counts of spaces too large to list, uniform samples, and constraints at and beyond what can be solved exactly."""

from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy import stats

from search_spaces import Architecture, Space, SpaceError, choice, constraint


class Chain(Space):
    """Neighbouring widths never shrink: constraints that tie each position to the next."""

    a = choice(*range(10))
    b = choice(*range(10))
    c = choice(*range(10))

    @constraint
    def rising(a, b):
        return a <= b

    @constraint
    def still_rising(b, c):
        return b <= c


class Cells(Space):
    depth = choice(*range(1, 41))
    op = choice("conv", "pool", "skip", per="depth")
    kernel = choice(3, 5, per="depth", when={"op": "conv"})


class Divisible(Space):
    width = choice(12, 16, 20)
    depth = choice(0, 10, 100)
    heads = choice(2, 3, 4, 5, per="depth")

    @constraint(each="depth")
    def divides(width, heads):
        return width % heads == 0


class Conditional(Space):
    """7 networks: pool, and conv with 2 kernels of which the larger has 5 dilations."""

    op = choice("pool", "conv")
    kernel = choice(3, 5, when={"op": "conv"})
    dilation = choice(1, 2, 3, 4, 5, when={"kernel": 5})


class Budget(Space):
    """A constraint over far too many choices for a table."""

    width = choice(1, 2, 3, 4, per=30)

    @constraint
    def affordable(width):
        return sum(width) <= 70


def test_counts_of_large_spaces_are_exact() -> None:
    assert Chain().count() == 220
    assert Cells().count() == sum(4**depth for depth in range(1, 41))
    assert Divisible().count() == sum(1 + n**10 + n**100 for n in (3, 2, 3))  # 12: 2 3 4, 16: 2 4, 20: 2 4 5


def test_a_constraint_over_a_whole_tuple_counts() -> None:
    body: dict[str, Any] = {"depth": choice(1, 2, 3), "width": choice(1, 2, 3, per="depth")}
    space = type("Tuple", (Space,), {**body, "up": constraint(lambda width: list(width) == sorted(width))})()
    assert space.count() == 3 + 6 + 10


def test_constraints_hold_by_themselves_where_a_choice_is_inactive() -> None:
    asked: list[int] = []

    def small(kernel: int) -> bool:
        asked.append(kernel)
        return kernel < 5

    body: dict[str, Any] = {"op": choice("pool", "conv"), "kernel": choice(3, 5, when={"op": "conv"})}
    space = type("Net", (Space,), {**body, "small": constraint(small)})()
    assert space.count() == 2
    assert set(asked) == {3, 5}


@pytest.mark.parametrize("space", [Conditional(), Chain(a=(6, 7, 8, 9)), Divisible(depth=0), Cells(depth=(1, 2))])
def test_samples_are_uniform_over_networks(space: Space) -> None:
    archs = list(space.enumerate())
    drawn = space.sample_many(200 * len(archs), np.random.default_rng(0))
    tally = dict.fromkeys(archs, 0)
    for arch in drawn:
        tally[arch] += 1
    assert stats.chisquare(list(tally.values())).pvalue > 1e-3


def test_samples_can_be_uniform_over_choices() -> None:
    drawn = Conditional().sample_many(4000, np.random.default_rng(0), uniform="choices")
    assert stats.binomtest(sum(arch.op == "pool" for arch in drawn), 4000, 1 / 2).pvalue > 1e-3
    assert stats.binomtest(sum(arch.get("kernel") == 5 for arch in drawn), 4000, 1 / 4).pvalue > 1e-3
    chained = Chain().sample_many(3000, np.random.default_rng(0), uniform="choices")
    assert stats.chisquare(np.bincount([arch.a for arch in chained])).pvalue > 1e-3


def test_what_cannot_be_counted_says_so_and_is_still_sampled() -> None:
    space = Budget()
    with pytest.raises(SpaceError) as caught:
        space.count()
    assert str(caught.value) == (
        "Budget: 'Budget.affordable' reads too many choices at once to count exactly; "
        'write it with each="...", narrow the space with where(...), or raise count(limit=1000000)'
    )
    rng = np.random.default_rng(0)
    archs = space.sample_many(20, rng)
    varied = [*archs, space.largest(), space.smallest(), space.mutate(archs[0], rng), space.crossover(*archs[:2], rng)]
    assert all(sum(arch.width) <= 70 and arch in space for arch in varied)
    assert sum(space.largest().width) == 70
    assert space.mutate(archs[0], rng) != archs[0]
    assert all(arch in space for arch in space.neighbours(space.largest()))
    variants = dict(space.variants())
    assert all(arch in space for arch in variants.values())
    assert variants["width.29=4"].width[29] == 4
    assert space.where(width=(1, 2)).where(**{f"width.{i}": 1 for i in range(25)}).count() == 32


def test_samples_under_an_uncountable_constraint_are_uniform() -> None:
    def rare(width: tuple[int, ...]) -> bool:
        return sum(width) == 3

    space = type("Rare", (Space,), {"width": choice(0, 1, per=15), "rare": constraint(rare)})()
    first = [arch.width.index(1) for arch in space.sample_many(300, np.random.default_rng(0))]
    expected = np.array([(14 - i) * (13 - i) / 2 for i in range(13)]) / 455 * 300
    observed = np.bincount(first, minlength=13)
    pooled = [[x[:3].sum(), x[3:7].sum(), x[7:].sum()] for x in (observed, expected)]
    assert stats.chisquare(*pooled).pvalue > 1e-3


def test_a_constraint_that_rejects_everything_ends_with_its_name() -> None:
    never = constraint(lambda width: False)
    space = type("Never", (Space,), {"width": choice(0, 1, per=30), "never": never})()
    with pytest.raises(SpaceError, match=r"^Never: of \d+ networks drawn 0 satisfy Never.never, which reads too many"):
        space.sample(np.random.default_rng(0))
    with pytest.raises(SpaceError, match=r"Never.never"):
        space.largest()


def test_constraints_that_tie_everything_to_everything_are_loosened_one_by_one() -> None:
    names = [f"w{i}" for i in range(14)]
    body: dict[str, Any] = {name: choice(*range(4)) for name in names}
    for one, other in product(names, names):
        if one < other:
            scope: dict[str, Any] = {}
            exec(f"def differ({one}, {other}): return {one} + {other} < 6", scope)  # parameters are the choices' names
            body[f"differ_{one}_{other}"] = constraint(scope["differ"])
    space = type("Clique", (Space,), body)()
    with pytest.raises(SpaceError, match="reads too many choices at once to count exactly"):
        space.count()
    arch = space.sample(np.random.default_rng(0))
    assert arch in space
    assert space.mutate(arch, np.random.default_rng(1)) in space


def test_far_apart_choices_can_be_tied() -> None:
    """The order of declaration would carry 12 open ties along; eliminating in pairs carries one."""
    names = [f"w{i}" for i in range(24)]
    body: dict[str, Any] = {name: choice(*range(4)) for name in names}
    for index in range(12):
        scope: dict[str, Any] = {}
        exec(f"def same(w{index}, w{index + 12}): return w{index} == w{index + 12}", scope)
        body[f"same{index}"] = constraint(scope["same"])
    space = type("Pairs", (Space,), body)()
    assert space.count() == 4**12
    largest: Architecture = space.largest()
    assert set(largest.values()) == {3}
    rng = np.random.default_rng(0)
    mutant = space.mutate(largest, rng, rate=0)
    assert len(largest.diff(mutant)) == 2


def test_constraints_over_fixed_positions_and_static_methods() -> None:
    class Fixed(Space):
        op = choice("a", "b", per=3)
        size = choice(1, 2, per=3, when={"op": "b"})

        @constraint(each=3)
        @staticmethod
        def small(op: str, size: int) -> bool:
            return size < 2

    assert Fixed().count() == 2**3
    assert all(set(arch.size) <= {None, 1} for arch in Fixed().enumerate())
