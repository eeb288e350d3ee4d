"""What holds for every space: its values survive JSON and pickle, its operators stay inside, its codes differ."""

import copy
import json
import pickle
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces import Architecture, Space
from tests.search_spaces.reference import networks
from tests.search_spaces.strategies import random_spaces, spaces_and_architectures


def json_of(archs: list[Architecture]) -> list[str]:
    return sorted(arch.json() for arch in archs)


@settings(max_examples=60)
@given(random_spaces(narrowed=False, most=600))
def test_count_and_enumeration_are_those_of_the_words(space: Space) -> None:
    expected = networks(type(space))
    assert space.count() == len(expected)
    assert json_of(list(space.enumerate())) == json_of(expected)


@given(spaces_and_architectures())
def test_architectures_survive_json_pickle_and_copy(drawn: tuple[Space, Architecture, np.random.Generator]) -> None:
    space, arch, _ = drawn
    assert pickle.loads(pickle.dumps(arch)) == copy.copy(arch) == copy.deepcopy(arch) == arch
    assert space.architecture(arch.json()) == space.architecture(arch.to_dict()) == arch
    assert Architecture.from_json(arch.json()) == arch
    assert json.loads(arch.json()) == arch.to_dict()
    assert json.dumps(arch.to_dict(), sort_keys=True, separators=(",", ":")) == arch.json()
    assert hash(Architecture.from_json(arch.json())) == hash(arch)


@given(spaces_and_architectures(), st.sampled_from([None, 0.0, 0.3, 1.0]))
def test_mutants_are_in_the_space_and_different(
    drawn: tuple[Space, Architecture, np.random.Generator], rate: float | None
) -> None:
    space, arch, rng = drawn
    mutant = space.mutate(arch, rng, rate)
    assert mutant in space
    assert (mutant == arch) == (space.count() == 1)


@given(spaces_and_architectures())
def test_crosses_are_in_the_space_and_inherit(drawn: tuple[Space, Architecture, np.random.Generator]) -> None:
    space, a, rng = drawn
    assert space.crossover(a, a, rng) == a
    assert space.crossover(a, space.sample(rng), rng) in space


@given(spaces_and_architectures())
def test_neighbours_are_in_the_space_distinct_and_others(
    drawn: tuple[Space, Architecture, np.random.Generator],
) -> None:
    space, arch, _ = drawn
    neighbours = list(space.neighbours(arch))
    assert all(neighbour in space for neighbour in neighbours)
    assert len({arch, *neighbours}) == len(neighbours) + 1
    assert bool(neighbours) == (space.count() > 1)
    by_codes = space.decode(space.neighbour_codes(space.codes([arch])[0]))
    assert len(by_codes) == len(neighbours)
    assert set(by_codes) == set(neighbours)


@given(random_spaces(most=300))
def test_codes_and_encodings_are_equal_only_for_equal_networks(space: Space) -> None:
    archs = list(space.enumerate())
    codes, features = space.codes(archs), space.encode(archs)
    assert (space.enumerate_codes() == codes).all()
    assert codes.shape == (len(archs), len(space.slots))
    assert features.shape == (len(archs), len(space.feature_names()))
    assert features.dtype == np.float32
    assert features.size == 0 or (features.min() >= 0 and features.max() <= 1)
    assert len(np.unique(codes, axis=0)) == len(np.unique(features, axis=0)) == len(set(archs)) == len(archs)
    assert space.decode(codes) == archs
    assert np.array_equal(space.codes([Architecture.from_json(arch.json()) for arch in archs]), codes)
    assert np.array_equal(space.encode_codes(codes), features)


@given(random_spaces(), st.integers(0, 2**32 - 1), st.sampled_from(["networks", "choices"]))
def test_samples_are_in_the_space_and_seeded(space: Space, seed: int, uniform: str) -> None:
    archs = space.sample_many(20, np.random.default_rng(seed), uniform=uniform)
    assert all(arch in space for arch in archs)
    assert archs == space.sample_many(20, np.random.default_rng(seed), uniform=uniform)
    assert archs == space.decode(space.sample_codes(20, np.random.default_rng(seed), uniform=uniform))


@given(random_spaces(most=300))
def test_distinct_samples_can_exhaust_the_space(space: Space) -> None:
    archs = space.sample_many(space.count(), np.random.default_rng(0), distinct=True)
    assert set(archs) == set(space.enumerate())


@given(random_spaces(most=300))
def test_extremes_and_variants_show_every_option_that_a_network_has(space: Space) -> None:
    archs = list(space.enumerate())
    codes = space.codes(archs)
    order = [tuple(row) for row in codes.tolist()]
    variants = [arch for _, arch in space.variants()]
    assert variants[0] == space.largest()
    assert space.smallest() in space
    assert len(set(variants)) == len(variants)
    assert set(variants) <= set(archs)
    shown = space.codes(variants)
    for slot in range(len(space.slots)):
        assert set(shown[:, slot]) | {-1} == set(codes[:, slot]) | {-1}
    assert tuple(space.codes([space.largest()])[0]) == max(order)
    assert tuple(space.codes([space.smallest()])[0]) == min(order)


@given(random_spaces(narrowed=False, most=300), st.data())
def test_a_narrower_space_is_the_part_with_those_options(space: Space, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(space.slots) - 1))
    slot = space.slots[index]
    kept = data.draw(st.lists(st.sampled_from(range(len(slot.options))), min_size=1, unique=True))
    expected = [a for a, code in zip(space.enumerate(), space.codes(list(space.enumerate()))[:, index], strict=True)
                if code < 0 or code in kept]  # fmt: skip
    if not expected:
        return
    narrower = space.where(**{slot.path: [slot.options[code] for code in kept]})
    assert set(narrower.enumerate()) == set(expected)
    assert narrower.slots == space.slots
    assert np.array_equal(narrower.encode(expected), space.encode(expected))
    assert all((arch in narrower) == (arch in set(expected)) for arch in space.enumerate())


@given(spaces_and_architectures(narrowed=False))
def test_fixing_an_architecture_leaves_it_alone(drawn: tuple[Space, Architecture, np.random.Generator]) -> None:
    space, arch, _ = drawn
    fixed = space.at(**arch)
    assert fixed.count() == 1
    assert fixed.largest() == arch


@given(random_spaces())
def test_spaces_are_values(space: Space) -> None:
    again = type(space).__new__(type(space))
    again.__dict__["_domains"] = space._domains
    assert again == space and hash(again) == hash(space) and again.digest == space.digest
    assert json.loads(json.dumps(space.declaration())) == space.declaration()


@given(spaces_and_architectures())
def test_graphs_run_from_input_to_output(drawn: tuple[Space, Architecture, np.random.Generator]) -> None:
    space, arch, _ = drawn
    graph = space.graph(arch)
    nodes = list(graph)
    assert (nodes[0], nodes[-1]) == ("input", "output")
    assert list(graph.edges) == list(pairwise(nodes))
    assert json.loads(json.dumps(dict(graph.nodes(data=True)))) == dict(graph.nodes(data=True))


@given(spaces_and_architectures())
def test_diff_tells_exactly_what_differs(drawn: tuple[Space, Architecture, np.random.Generator]) -> None:
    space, arch, rng = drawn
    other = space.sample(rng)
    assert bool(arch.diff(other)) == (arch != other)
    assert other.diff(arch) == {path: pair[::-1] for path, pair in arch.diff(other).items()}
