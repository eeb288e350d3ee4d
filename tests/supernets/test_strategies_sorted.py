"""Chains of nested networks."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
import toy
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from toy import Digits

from search_spaces import Architecture, Space, ViTSpace, choice, constraint
from supernets import Supernet
from supernets.strategies import Course, Sorted, StrategyError, strategy
from supernets.strategies.sorting import chain
from supernets.training import train, train_network
from tests.contracts.strategy import course
from tests.search_spaces.strategies import random_spaces

COURSE = course()


class Columns(Space):
    width = choice(2, 4, 6, 8)


class Mixed(Space):
    op = choice("conv", "pool")
    kernel = choice(3, 5, 7, when={"op": "conv"})
    window = choice(2, 4, when={"op": "pool"})
    depth = choice(1, 2)


class Bounded(Space):
    width = choice(8, 12, 16)
    depth = choice(1, 2, 3)

    @constraint
    def small(width: int, depth: int) -> bool:
        return width * depth <= 24


def build_columns(arch: Architecture) -> nn.Module:
    return nn.Sequential(nn.Linear(4, arch.width), nn.ReLU(), nn.Linear(arch.width, 3))


def build_plain(arch: Architecture) -> nn.Module:
    return nn.Sequential(nn.Linear(64, arch.width), nn.GELU(), nn.Linear(arch.width, 10))


def on(space: Space, seed: int = 0) -> Course:
    return Course(space, seed, COURSE.steps, COURSE.rate, COURSE.supernet, COURSE.task)


def drawn(method: Sorted, space: Space, index: int) -> list[Architecture]:
    return [one.arch for one in method.plan(on(space)).step(index).passes]


# --- the chain ------------------------------------------------------------------------------------------------------


def test_options_are_those_of_the_rank() -> None:
    assert [arch.width for arch in chain(Columns(), 4)] == [2, 4, 6, 8]
    assert [arch.width for arch in chain(Columns(), 2)] == [2, 8]
    assert [arch.width for arch in chain(Columns(), 1)] == [8]
    assert [arch.width for arch in chain(Columns(), 9)] == [2, 4, 6, 8]  # there are no more
    found = [(arch.width, arch.depth, arch.heads, arch.ratio) for arch in chain(ViTSpace(), 3)]
    assert found == [(32, 2, (1,) * 2, (1,) * 2), (48, 3, (3,) * 3, (3,) * 3), (64, 4, (4,) * 4, (4,) * 4)]


def test_words_have_no_parts_and_stay_as_in_the_largest() -> None:
    assert [(arch.op, arch.window, arch.depth) for arch in chain(Mixed(), 3)] == [("pool", 2, 1), ("pool", 4, 2)]
    conv = chain(Mixed().where(op="conv"), 3)
    assert [(arch.kernel, arch.depth) for arch in conv] == [(3, 1), (5, 2), (7, 2)]


def test_a_chain_bends_under_constraints() -> None:
    assert [(arch.width, arch.depth) for arch in chain(Bounded(), 3)] == [(8, 1), (12, 1), (16, 1)]
    deep = chain(Bounded().where(width=(8, 12)), 3)
    assert [(arch.width, arch.depth) for arch in deep] == [(8, 1), (12, 2)]  # two at rank 2 of width


def nested(space: Space, networks: list[Architecture]) -> bool:
    """By codes: nothing new is active in a smaller one, and no option of it is larger."""
    rows = space.codes(networks)
    return all(
        all(x < 0 or (0 <= x <= y and (x == y or slot.numeric)) for slot, x, y in zip(space.slots, a, b, strict=True))
        and a.tolist() != b.tolist()
        for a, b in pairwise(rows)
    )


@given(space=random_spaces(), n=st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_chains_of_random_spaces_are_strictly_nested(space: Space, n: int) -> None:
    networks = list(chain(space, n))
    assert 1 <= len(networks) <= n and networks[-1] == space.largest()
    assert all(arch in space for arch in networks) and nested(space, networks)


@given(space=random_spaces(), index=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_random_chains_of_random_spaces_are_nested(space: Space, index: int) -> None:
    networks = drawn(Sorted(chains="random", accumulate=8), space, index)
    ordered = sorted(set(networks), key=lambda arch: sum(code + 1 for code in space.codes([arch])[0].tolist()))
    assert all(arch in space for arch in networks) and nested(space, ordered)


def test_random_chains_reach_all_networks_and_fixed_ones_do_not() -> None:
    space = ViTSpace().where(ratio=1, heads=(1, 2), depth=(2, 3))
    reached = {
        chains: {arch for index in range(400) for arch in drawn(Sorted(2, 2, chains=chains), space, index)}
        for chains in ("fixed", "random")
    }
    assert len(reached["fixed"]) == 2 and len(reached["random"]) == space.count() == 36


# --- drawing --------------------------------------------------------------------------------------------------------


def test_a_step_accumulates_batches_of_their_own() -> None:
    step = strategy("sorted(accumulate=3)").plan(on(Columns())).step(5)
    assert (
        step.batches == "own" and [(one.weight, one.task, one.distil) for one in step.passes] == [(1 / 3, 1, None)] * 3
    )


def frequencies(method: Sorted) -> list[float]:
    """How often each of eight columns is trained."""
    widths = [arch.width for index in range(1500) for arch in drawn(method, Columns(), index)]
    return [float(np.mean([width > column for width in widths])) for column in range(8)]


def test_columns_are_trained_as_often_as_the_chain_has_them() -> None:
    assert frequencies(Sorted()) == pytest.approx([1, 1, 0.75, 0.75, 0.5, 0.5, 0.25, 0.25], abs=0.025)
    assert frequencies(Sorted(power=1)) == pytest.approx([1, 1, 0.9, 0.9, 0.7, 0.7, 0.4, 0.4], abs=0.025)


def test_indices_are_drawn_independently() -> None:
    method, pairs = Sorted(num_networks=2, accumulate=2), Counter[tuple[int, ...]]()
    for index in range(1200):
        pairs[tuple(arch.width for arch in drawn(method, Columns(), index))] += 1
    assert len(pairs) == 4 and all(240 < count < 360 for count in pairs.values())


# --- parts ----------------------------------------------------------------------------------------------------------


def test_gradients_outside_a_part_are_exactly_zero() -> None:
    supernet = Supernet(Columns(), build_columns, seed=0)
    x = torch.randn(16, 4, generator=torch.Generator().manual_seed(0))
    for arch in chain(Columns(), 4):
        supernet.subnet(arch)(x).square().sum().backward()
        gradients = supernet.gradients()
        for name, axis in (("0.weight", 0), ("0.bias", 0), ("2.weight", 1)):
            inside, outside = gradients[name].movedim(axis, 0).tensor_split([arch.width])
            assert not outside.any() and inside.any()
        for gradient in gradients.values():
            gradient.zero_()


def test_a_part_extracted_is_the_whole_masked() -> None:
    """Of whole numbers, so that sums are exact in any order."""
    supernet = Supernet(Columns(), build_columns, seed=0, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    whole = supernet.state_dict()
    supernet.load_state_dict(
        {name: torch.randint(-9, 9, t.shape, generator=generator).double() for name, t in whole.items()}
    )
    x = torch.randint(-9, 9, (32, 4), generator=generator).double()
    full = supernet.extract(Columns().largest())
    assert isinstance(full, nn.Sequential)
    for arch in chain(Columns(), 4):
        mask = (torch.arange(8) < arch.width).double()
        masked = full[2](full[1](full[0](x)) * mask)
        assert torch.equal(supernet.extract(arch)(x), masked)


class Gathered(Digits):
    """Three batches as one."""

    def batch(self, step: int, seed: int) -> tuple[Tensor, Tensor]:
        images, labels = zip(*(Digits.batch(self, 3 * step + i, seed) for i in range(3)), strict=True)
        return torch.cat(images), torch.cat(labels)


def test_one_network_is_ordinary_training_with_accumulation() -> None:
    supernet = Supernet(Columns(), build_plain, seed=1)
    alone = supernet.extract(Columns().largest())
    config = toy.config(steps=6)
    result = train(supernet, Digits(), config, progress=False, method=Sorted(num_networks=1, accumulate=3))
    train_network(alone, Gathered(), config, progress=False)
    assert result.steps == 6
    for name, tensor in alone.state_dict().items():
        assert torch.allclose(supernet.state_dict()[name], tensor, atol=1e-6), name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sorted(num_networks=0)", "num_networks = 0: it must be at least 1"),
        ("sorted(accumulate=0)", "accumulate = 0: it must be at least 1"),
        ("sorted(power=nan)", "power = nan: it must be between -100 and 100"),
        ("sorted(chains=all)", "chains = 'all': chains are fixed or random"),
    ],
)
def test_wrong_settings_are_named(text: str, message: str) -> None:
    with pytest.raises(StrategyError, match=message):
        strategy(text)
