import numpy as np
from hypothesis import given
from hypothesis import settings as settings_of
from hypothesis import strategies as st

from dashboard import encoding
from dashboard.blocks import Block, blocks, changed_cells, declared_fields, kind_field, settings, size_field
from dashboard.figures import drawing
from search_spaces import Architecture, Space, choice
from search_spaces.nasbench201 import NASBench201Space
from tests.dashboard.seeding import ConvSpace


class Wide(Space):
    width = choice(8, 16)


class Attention(Space):
    heads = choice(2, 4)


class Mixed(Space):
    depth = choice(1, 2, 3)
    norm = choice("layer", "rms", per="depth")
    block = choice(Wide(), Attention(), per="depth")


def stored(arch: Architecture) -> Architecture:
    """As it comes out of a database: its fields in alphabetical order."""
    return Architecture.from_json(arch.json())


def test_a_declaration_puts_parts_back_into_their_order() -> None:
    space = ConvSpace()
    fields = declared_fields(space.declaration())
    found = blocks(stored(space.largest()), list(fields))
    assert list(dict.fromkeys(block.part for block in found)) == ["early", "middle", "late"]
    assert found[0] == Block("early", 0, {"width": 32, "op": "separable", "kernel": 7, "expand": 6})
    assert list(found[0].values) == ["width", "op", "kernel", "expand"]
    assert len(found) == 12


def test_values_beside_the_parts_are_settings() -> None:
    assert settings(ConvSpace().smallest()) == {"resolution": 96, "stem": 16}
    assert settings(Wide().smallest()) == {}


def test_small_nested_choices_are_values_of_their_block() -> None:
    arch = Mixed().architecture(
        {"depth": 2, "norm": ["rms", "layer"], "block": [{"is": "Wide", "width": 8}, {"is": "Attention", "heads": 4}]}
    )
    first, second = blocks(arch, ["depth", "norm", "block"])
    assert first.values == {"norm": "rms", "block": "Wide", "width": 8}
    assert second.values == {"norm": "layer", "block": "Attention", "heads": 4}


def test_a_space_without_positions_is_one_block() -> None:
    assert blocks(Wide().largest()) == [Block("", 0, {"width": 16})]


def test_width_gives_the_height_and_words_the_colour() -> None:
    found = blocks(ConvSpace().largest())
    assert size_field(found) == "width"
    assert kind_field(found) == "op"
    assert size_field([Block("", 0, {"op": "conv"})]) is None
    assert size_field([Block("", 0, {"heads": 2, "ratio": 3}), Block("", 1, {"heads": 8, "ratio": 3})]) == "heads"


def test_every_value_has_a_path() -> None:
    found = dict(encoding.chosen(ConvSpace().smallest()))
    assert found["early.width"] == 16
    assert found["late.kernel.0"] == 3
    assert dict(encoding.chosen(Mixed().smallest()))["block.0.width"] == 8


def test_changed_cells_are_those_that_differ() -> None:
    mine, theirs = [Block("a", 0, {"k": 3, "w": 8})], [Block("a", 0, {"k": 5, "w": 8})]
    assert changed_cells(mine, theirs) == {("a", 0, "k")}
    assert changed_cells(mine, []) == {("a", 0, "k"), ("a", 0, "w")}


@settings_of(max_examples=8)
@given(st.integers(0, 2**32 - 1))
def test_any_network_draws_one_box_a_block(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for space in (ConvSpace(), Mixed()):
        arch, other = (stored(one) for one in space.sample_many(2, rng))
        figure = drawing.network_figure(arch, other, space.declaration())
        boxes = [shape for shape in figure.layout.shapes if shape.type == "rect"]
        assert len(boxes) == len(blocks(arch))
        assert all(shape.y1 - shape.y0 <= 1 for shape in boxes)


def test_equal_operations_have_equal_colours_in_two_drawings() -> None:
    space = ConvSpace()
    conv = space.architecture({**space.smallest().to_dict()})
    other = space.largest()
    (mine,) = {
        shape.fillcolor
        for shape in drawing.network_figure(conv, other, space.declaration()).layout.shapes
        if shape.fillcolor
    }
    (alone,) = {
        shape.fillcolor
        for shape in drawing.network_figure(conv, None, space.declaration()).layout.shapes
        if shape.fillcolor
    }
    (theirs,) = {
        shape.fillcolor
        for shape in drawing.network_figure(other, conv, space.declaration()).layout.shapes
        if shape.fillcolor
    }
    assert mine == alone != theirs


def test_a_cell_that_branches_is_drawn_as_its_graph() -> None:
    arch = NASBench201Space().largest()
    figure = drawing.network_figure(arch)
    labels = [note.text for note in figure.layout.annotations]
    assert labels.count("nor_conv_3x3") == 6
    assert {"input", "output"} <= set(labels)


def test_a_foreign_space_of_a_known_name_is_drawn_as_a_chain() -> None:
    arch = Architecture("NASBench201Space", {"width": 3})
    assert drawing.declared_graph(arch) is None
    assert len([s for s in drawing.network_figure(arch).layout.shapes if s.type == "rect"]) == 1
