"""Learnt distributions as choices by name, and their figures."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from dashboard import choices, theme
from dashboard.choices import Choice
from dashboard.figures import probabilities
from nas.records import Distribution
from search_spaces import Space, choice
from tests.contracts.searcher import Blocks
from tests.dashboard.seeding import ConvSpace
from tests.dashboard.seeding import learnt as seeded
from tests.nas.learnt import learnt


def named(found: Distribution, declaration: Mapping[str, Any]) -> dict[str, Choice]:
    return {one.name: one for one in choices.choices(found, declaration)}


class Shapes(Space):
    size = choice((3, 3), (5, 5))
    bias = choice(False, True)
    only = choice("one")


@pytest.mark.parametrize("space", [Blocks(), ConvSpace(), Shapes(), Blocks(depth=2).where(width=(8, 16))])
@pytest.mark.parametrize("seed", range(4))
def test_every_open_choice_has_its_options_and_what_was_derived(space: Space, seed: int) -> None:
    """Against the space itself, which a database does not hold."""
    found = learnt(space, seed)
    shown = named(found, space.declaration())
    (codes,) = space.codes([found.arch])
    open_slots = [(slot, kept, code) for slot, kept, code in zip(space.slots, space.domains, codes, strict=True)]
    open_slots = [(slot, kept, code) for slot, kept, code in open_slots if len(kept) > 1]
    assert list(shown) == [slot.path for slot, _, _ in open_slots]
    for slot, kept, code in open_slots:
        one = shown[slot.path]
        texts = [str(option).strip("()").removesuffix(",") for option in slot.options]
        assert one.labels == tuple(texts[index] for index in kept)
        assert one.taken == (kept.index(code) if code >= 0 else None)
        assert one.is_ordered == slot.numeric
        assert one.rows[-1].tolist() == [found.final[slot.path][index] for index in kept]


def test_without_the_declaration_options_are_numbered() -> None:
    shown = named(learnt(Blocks()), {})
    assert shown["width"].labels == ("1", "2", "3") and shown["width"].taken is None


def test_choices_alike_are_one_with_their_mean() -> None:
    found = choices.choices(learnt(Blocks(), 1), Blocks().declaration())
    grouped = {one.name: one for one in choices.families(found)}
    assert list(grouped) == [
        "width", "depth", "ratio, mean of 4", "op, mean of 4", "op.*.Block.kernel, mean of 4",
        "op.*.Block.squeeze, mean of 4",
    ]  # fmt: skip
    ratios = [one.rows for one in found if one.family == "ratio"]
    assert grouped["ratio, mean of 4"].rows == pytest.approx(np.mean(ratios, axis=0))
    assert {one.family for one in found if one.name.endswith("kernel")} == {"op.*.Block.kernel"}


def test_bands_of_a_panel_fill_it_at_every_step() -> None:
    found = choices.families(choices.choices(seeded("", 9), ConvSpace().declaration()))
    steps = seeded("", 9).steps
    figure = probabilities.steps_figure(found, steps)
    bands: dict[str, list[Any]] = {}
    for trace in figure.data:
        if trace.stackgroup:
            bands.setdefault(trace.stackgroup, []).append(trace)
    assert [len(panel) for panel in bands.values()] == [len(one.labels) for one in found]
    for panel in bands.values():
        assert np.sum([band.y for band in panel], axis=0) == pytest.approx(np.ones(len(steps)))
    assert [note.text for note in figure.layout.annotations] == [one.name for one in found]


def test_wide_bands_are_named_in_their_middle_and_larger_numbers_are_darker() -> None:
    one = Choice("width", ("8", "16", "32"), np.array([[0.4, 0.3, 0.3], [0.5, 0.1, 0.4]]), 0, True, "width")
    *bands, names = probabilities.steps_figure([one], (0, 10)).data
    assert [text.strip() for text in names.text] == ["8", "32"]
    assert list(names.y) == pytest.approx([0.25, 0.8])
    reds = [int(band.fillcolor.removeprefix("rgb(").split(",")[0]) for band in bands]
    assert reds[0] > reds[1] > reds[2]
    words = Choice("op", ("conv", "pool"), np.array([[0.5, 0.5]]), 0, False, "op")
    assert probabilities.steps_figure([words], (0,)).data[1].fillcolor == theme.TINTS[1]


def test_the_end_has_a_row_a_choice_and_frames_what_was_derived() -> None:
    found = choices.choices(learnt(Blocks(), 3), Blocks().declaration())
    figure = probabilities.end_figure(found)
    (cells,) = figure.data
    assert list(figure.layout.yaxis.ticktext) == [one.name for one in found]
    for number, one in enumerate(found):
        assert [z for z in cells.z[number] if z is not None] == one.rows[-1].tolist()
        bold = [index for index, text in enumerate(cells.text[number]) if text.startswith("<b>")]
        assert bold == ([] if one.taken is None else [one.taken])
    framed = {(round((shape.y0 + shape.y1) / 2), round((shape.x0 + shape.x1) / 2)) for shape in figure.layout.shapes}
    assert framed == {(number, one.taken) for number, one in enumerate(found) if one.taken is not None}
