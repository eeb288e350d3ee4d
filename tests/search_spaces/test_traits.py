"""Traits of graphs are those of the graphs, whatever their place in a space and whoever's order their nodes have."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from search_spaces import Architecture, Computation, Computations, LayerSpace, Primitive, Space, choice
from search_spaces.layers import PRIMITIVES
from search_spaces.traits import graph_traits

NAMES = [one.name for one in PRIMITIVES]
INPUTS = ["x", "zero", "one", "v0", "v1"]
WORDS = ["mean", "bwh", "wh", "whc", "group", "std", "rms"]


class Stage(Space):
    width = choice(8, 16)
    layer = LayerSpace()


class Net(Space):
    depth = choice(1, 2)
    norm = choice("batch", LayerSpace(), per="depth")
    stage = choice(Stage(), per=1)


def graphs(arch: Architecture) -> Iterator[Computation]:
    if {"size", "op", "left", "right"} <= set(arch):
        yield Computation.of(arch)
        return
    for value in arch.values():
        for one in value if isinstance(value, tuple) else (value,):
            if isinstance(one, Architecture):
                yield from graphs(one)


def counted(arch: Architecture) -> list[int]:
    """The reference: from the graphs as values."""
    ops: Counter[str] = Counter()
    inputs: Counter[Any] = Counter()
    last: Counter[str] = Counter()
    deep = size = 0
    for graph in graphs(arch):
        depths: list[int] = []
        for op, *arguments in graph.nodes:
            ops[op] += 1
            inputs.update(one for one in arguments if isinstance(one, str))
            depths.append(1 + max([depths[one] for one in arguments if isinstance(one, int)], default=0))
        last[graph.nodes[-1][0]] += 1
        deep, size = deep + depths[-1], size + len(graph.nodes)
    words = [sum(number for op, number in ops.items() if word in op.split("_")) for word in WORDS]
    few = [*(ops[name] for name in NAMES), *words, *(inputs[name] for name in INPUTS)]
    ends = [min(last[name], 1) for name in NAMES]
    return [*(min(number, 3) for number in few), *ends, min(deep, 10), min(size, 10)]


@pytest.mark.parametrize("space", [LayerSpace(), Net()], ids=["a graph", "graphs within"])
def test_traits_are_counted_of_all_graphs(space: Space) -> None:
    archs = space.sample_many(60, np.random.default_rng(0))
    traits = graph_traits(space)
    assert traits is not None
    found = traits(space.codes(archs))
    assert found.tolist() == [counted(arch) for arch in archs]
    assert (found <= np.array(traits.most)).all()


def test_a_known_graph_has_these_traits() -> None:
    space = LayerSpace()
    traits = graph_traits(space)
    assert traits is not None
    (found,) = traits(space.codes([space.write("div(x, max(std_bwh(x), std_wh(x)))")])).tolist()
    told = dict(zip([*NAMES, *WORDS, *INPUTS, *(f"last {name}" for name in NAMES), "deep", "size"], found, strict=True))
    wanted = {"div": 1, "max": 1, "std_bwh": 1, "std_wh": 1, "std": 2, "bwh": 1, "wh": 1, "x": 3, "last div": 1}
    assert {name: number for name, number in told.items() if number} == {**wanted, "deep": 3, "size": 4}


def test_traits_stand_for_the_slots_of_graphs_and_for_no_others() -> None:
    space, traits = Net(), graph_traits(Net())
    assert traits is not None
    others = [slot.path for place, slot in enumerate(space.slots) if place not in traits.slots]
    assert others == ["depth", "norm.0", "norm.1", "stage.0", "stage.0.width", "stage.0.layer"]


class Own(Computations, primitives=(Primitive("square", 1), Primitive("mul", 2)), nodes=3):
    """Over other primitives."""


class Both(Space):
    one = LayerSpace()
    other = Own()


class Sizes(Space):
    size = choice(1, 2)
    op = choice("a", "b", per="size")


@pytest.mark.parametrize("space", [Sizes(), Both()], ids=["none", "of two kinds"])
def test_without_graphs_of_one_kind_there_are_no_traits(space: Space) -> None:
    assert graph_traits(space) is None
