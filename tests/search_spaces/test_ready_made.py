"""The ready-made spaces: their sizes, how they narrow and extend, and the official strings of NAS-Bench-201."""

import networkx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import Architecture, Space, SpaceError, choice
from search_spaces.ensemble import LAYERS, EnsembleSpace
from search_spaces.gpt import GPTSpace
from search_spaces.mobilenet import MobileNetSpace, MobileNetStage, digits_space
from search_spaces.nasbench201 import EDGES, NASBench201Space, arch_str, from_arch_str
from search_spaces.rexnet import ReXNetSpace, linear_widths
from search_spaces.vit import AutoFormerTinySpace, ViTSpace

SPACES = {
    "mobilenet": MobileNetSpace(),
    "mobilenet digits": digits_space(),
    "vit": ViTSpace(),
    "autoformer": AutoFormerTinySpace(),
    "gpt": GPTSpace(),
    "nasbench201": NASBench201Space(),
    "rexnet": ReXNetSpace(),
    "ensemble": EnsembleSpace(),
}
ALL = pytest.mark.parametrize("space", SPACES.values(), ids=list(SPACES))


@ALL
def test_samples_are_networks_that_come_back_from_json(space: Space) -> None:
    rng = np.random.default_rng(0)
    for arch in [space.smallest(), space.largest(), *space.sample_many(20, rng)]:
        assert arch in space
        assert Architecture.from_json(arch.json()) == arch == space.architecture(arch.json())


@ALL
def test_every_network_draws_as_a_path_from_input_to_output(space: Space) -> None:
    graph = space.graph(space.largest())
    assert networkx.is_directed_acyclic_graph(graph)
    assert networkx.has_path(graph, "input", "output")


def test_counts_are_those_of_the_formula() -> None:
    blocks = sum((4 * 4) ** depth for depth in (2, 3, 4))
    assert ViTSpace().count() == GPTSpace().count() == 3 * blocks
    assert AutoFormerTinySpace().count() == 3 * sum(4**depth for depth in (12, 13, 14))
    stage = 3 * sum((2 * 3) ** depth for depth in (1, 2))
    assert digits_space().count() == 3 * stage**3 * 2
    assert NASBench201Space().count() == 15_625
    assert EnsembleSpace().count() == sum(5 ** (8 + 8 - split) for split in (0, 2, 4, 6, 8))


def test_blocks_have_a_value_each() -> None:
    arch = MobileNetSpace().largest()
    assert len(arch.stages) == 3 and arch.stages[0].kernel == (7, 7, 7, 7)
    shallow = digits_space().at(**{"stages.1.depth": 1}).largest()
    assert [len(stage.kernel) for stage in shallow.stages] == [2, 1, 2]


def test_stages_of_the_digits_space_grow_in_width() -> None:
    for arch in (digits_space().smallest(), digits_space().largest()):
        widths = [stage.width for stage in arch.stages]
        assert widths == sorted(set(widths))


def test_narrowing_keeps_the_slots() -> None:
    assert digits_space().slots == MobileNetSpace().slots
    assert digits_space().largest() in MobileNetSpace()


def test_sizes_are_set_by_subclassing() -> None:
    class WideStage(MobileNetStage):
        width = choice(128, 256)

    class TwoStages(MobileNetSpace):
        stages = choice(WideStage(), per=2)

    class Tiny(ViTSpace):
        depth = choice(1)

    assert [stage.width for stage in TwoStages().largest().stages] == [256, 256]
    assert Tiny().count() == 3 * 16


def test_the_largest_cell_is_all_convolutions() -> None:
    assert set(NASBench201Space().largest().op) == {"nor_conv_3x3"}
    assert set(NASBench201Space().smallest().op) == {"none"}


OFFICIAL = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_1x1~1|nor_conv_3x3~2|"


def test_official_strings_are_read_and_written() -> None:
    arch = from_arch_str(OFFICIAL)
    ops = ("nor_conv_3x3", "none", "skip_connect", "avg_pool_3x3", "nor_conv_1x1", "nor_conv_3x3")
    assert arch.op == ops
    assert arch_str(arch) == OFFICIAL


@given(st.integers(0, 2**32 - 1))
def test_any_cell_comes_back_from_its_official_string(seed: int) -> None:
    arch = NASBench201Space().sample(np.random.default_rng(seed))
    assert from_arch_str(arch_str(arch)) == arch


UNKNOWN = OFFICIAL.replace("skip_connect", "conv_9x9")


@pytest.mark.parametrize("text", ["", OFFICIAL[:-1], OFFICIAL.replace("~2", "~1"), OFFICIAL + OFFICIAL, UNKNOWN])
def test_other_strings_are_refused_in_one_line(text: str) -> None:
    with pytest.raises(SpaceError) as error:
        from_arch_str(text)
    assert "\n" not in str(error.value)


def test_a_cell_draws_its_operations_between_its_nodes() -> None:
    graph = NASBench201Space().graph(from_arch_str(OFFICIAL))
    assert sorted(label for _, label in graph.nodes(data="label") if label not in ("input", "sum", "output")) == sorted(
        ["nor_conv_3x3", "skip_connect", "avg_pool_3x3", "nor_conv_1x1", "nor_conv_3x3"]
    )
    assert graph.in_degree("node.1") == 1 and graph.in_degree("output") == 3
    assert graph.in_degree("node.2") == 1  # its other edge is "none"
    empty = NASBench201Space().graph(NASBench201Space().smallest())
    assert set(empty) == {"input", "node.1", "node.2", "output"} and not empty.edges
    assert len(EDGES) == 6


def test_an_operation_has_an_effect_where_a_path_leads_through_it() -> None:
    """Against reachability in the drawn graph."""
    space = NASBench201Space()
    codes = space.sample_codes(200, np.random.default_rng(0))
    for row, effective in zip(codes, space.effective_codes(codes), strict=True):
        graph = space.graph(space.decode(row[None])[0])
        used = networkx.descendants(graph, "input") & networkx.ancestors(graph, "output")
        expected = [code if f"op.{edge}" in used else 0 for edge, code in enumerate(row.tolist())]
        assert effective.tolist() == expected


@ALL
def test_effective_codes_have_the_shape_of_codes_and_stay_as_they_are(space: Space) -> None:
    codes = space.sample_codes(20, np.random.default_rng(0))
    once = space.effective_codes(codes)
    assert once.shape == codes.shape and once.dtype == codes.dtype
    assert (space.effective_codes(once) == once).all()


@ALL
def test_codes_vary_as_their_networks_do(space: Space) -> None:
    rng = np.random.default_rng
    a, b = space.sample_codes(2, rng(0))
    one, other = space.decode([a, b])
    assert space.decode(space.mutated_codes(a, rng(1))[None])[0] == space.mutate(one, rng(1))
    assert space.decode(space.crossed_codes(a, b, rng(1))[None])[0] == space.crossover(one, other, rng(1))


PUBLISHED = [16, 27, 38, 50, 61, 72, 84, 95, 106, 117, 128, 140, 151, 162, 174, 185]


def test_linear_widths_are_the_published_ones() -> None:
    space = ReXNetSpace()
    widths = {arch.multiplier: arch.widths for arch in space.where(start=16, slope=180).enumerate()}
    assert list(widths[1.0]) == PUBLISHED
    assert widths[0.9][:3] == (16, 26, 36)
    assert (widths[0.9][-1], widths[1.3][-1]) == (168, 240)


@given(st.integers(1, 40), st.integers(0, 300), st.floats(0.5, 3), st.integers(1, 30), st.sampled_from([1, 4, 8]))
def test_linear_widths_never_fall_and_keep_to_the_line(
    start: int, slope: int, multiplier: float, blocks: int, divisor: int
) -> None:
    widths = linear_widths(start, slope, multiplier, blocks, divisor)
    assert widths == sorted(widths)
    for block, width in enumerate(widths):
        exact = max(multiplier, 1) * start + multiplier * block * slope / blocks
        assert width % divisor == 0
        assert abs(width - exact) <= divisor / 2 + 1e-9 or width == divisor


def test_the_branches_of_an_ensemble_are_drawn_apart() -> None:
    class Three(EnsembleSpace):
        third = choice(*LAYERS, per=8, start="split")

    graph = Three().graph(Three().at(split=6).largest())
    assert graph.out_degree("first.5") == graph.in_degree("output") == 3
    assert set(graph.successors("first.5")) == {"first.6", "second.6", "third.6"}
    whole = Three().graph(Three().at(split=8).largest())
    assert list(whole.successors("first.7")) == ["output"]
