"""What follows from choices: computed and canonical, told by attribute and in the JSON, no variable of the space."""

import json
import pickle
from typing import Any

import numpy as np
import pytest

from search_spaces import Architecture, Space, SpaceError, choice, constraint, derive


class Line(Space):
    start = choice(8, 16)
    slope = choice(0, 4)
    depth = choice(1, 2, 3)
    kernel = choice(3, 5, per="depth")

    @derive
    def total(widths: tuple[int, ...]) -> int:
        return sum(widths)

    @derive
    def widths(start: int, slope: int, depth: int) -> list[int]:
        return [start + slope * block for block in range(depth)]

    @derive
    def cells(widths: tuple[int, ...], kernel: tuple[int, ...]) -> list[list[int]]:
        return [[width, size] for width, size in zip(widths, kernel, strict=True)]


class Narrow(Line):
    @constraint
    def small(total: int, depth: int) -> bool:
        return total <= 12 * depth


class Pair(Space):
    first = choice(Line(slope=4), "none")
    lines = choice(Line(), per=2)
    wide = choice(1, 2, when={"first": "Line"})

    @derive
    def ends(lines: tuple[Architecture, ...]) -> list[int]:
        return [line.widths[-1] for line in lines]

    @derive
    def widest(first: Any, wide: int) -> int:
        return int(wide * max(first.widths))


EXAMPLE = {"start": 8, "slope": 4, "depth": 3, "kernel": [3, 3, 5]}


def test_values_are_read_by_attribute_and_are_no_choices() -> None:
    arch = Line().architecture(EXAMPLE)
    assert (arch.widths, arch.total, arch.cells) == ((8, 12, 16), 36, ((8, 3), (12, 3), (16, 5)))
    assert list(arch) == ["start", "slope", "depth", "kernel"]
    assert "widths" not in arch
    assert "widths" in dir(arch)
    with pytest.raises(AttributeError, match=r"Line has no active choice 'width'; did you mean 'widths'\?"):
        _ = arch.width


def test_they_add_no_network_and_take_no_slot() -> None:
    class Plain(Space):
        start, slope, depth = choice(8, 16), choice(0, 4), choice(1, 2, 3)
        kernel = choice(3, 5, per="depth")

    plain, line = Plain(), Line()
    assert line.count() == plain.count() == len(set(line.enumerate())) == 4 * (2 + 4 + 8)
    assert [slot.path for slot in line.slots] == [slot.path for slot in plain.slots]
    assert line.feature_names() == plain.feature_names()
    drawn = line.sample_many(30, np.random.default_rng(0))
    assert [dict(arch) for arch in drawn] == [dict(arch) for arch in plain.sample_many(30, np.random.default_rng(0))]


def test_json_pickles_and_stored_texts_carry_them() -> None:
    arch = Pair().largest()
    again = [Architecture.from_json(arch.json()), pickle.loads(pickle.dumps(arch))]
    for one in [*again, Architecture.stored(arch.json(), arch.digest)]:
        assert one == arch
        assert one.digest == arch.digest
        assert one.ends == arch.ends == (24, 24)
        assert one.lines[1].widths == (16, 20, 24)
    told = json.loads(arch.json())
    assert told["derived"] == {"ends": [24, 24]}
    assert told["lines"][0]["derived"]["total"] == 60


def test_a_value_is_absent_where_it_reads_what_is_not_active() -> None:
    space = Pair()
    with_first = space.architecture({**space.smallest().to_dict(), "wide": 2})
    assert with_first.widest == 16
    assert not hasattr(space.largest(), "widest")  # first is "none" there


def test_what_is_given_is_computed_anew() -> None:
    arch = Line().architecture(EXAMPLE)
    changed = {**arch.to_dict(), "slope": 0}
    assert changed["derived"]["widths"] == [8, 12, 16]
    assert Line().architecture(changed).widths == (8, 8, 8)
    assert Line().at(**arch).count() == 1
    assert Pair().at(lines=(arch, arch)).largest().ends == (16, 16)


def test_an_architecture_of_another_formula_is_another() -> None:
    arch = Line().architecture(EXAMPLE)
    other = {**arch.to_dict(), "derived": {"widths": [9, 9, 9]}}
    assert Architecture.from_json(json.dumps(other)) not in Line()
    assert Line().architecture(other) == arch


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (
            lambda: Line().architecture({**EXAMPLE, "widths": [1, 2, 3]}),
            r"^Line.widths: 'widths' is derived; name what it comes from: start, slope, depth$",
        ),
        (
            lambda: Line(total=36),
            r"^'total': 'total' is derived; name what it comes from: start, slope, depth$",
        ),
        (
            lambda: Architecture.from_json('{"is": "Line", "derived": {"widths": {"a": 1}}}'),
            r"is not what a space derives; it is an object of scalars and lists$",
        ),
        (lambda: Architecture.from_json('{"is": "Line", "derived": 4}'), r"^4 is not what a space derives;"),
    ],
)
def test_bad_input_is_one_clear_line(ask: Any, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        ask()


def test_differences_and_leaves_are_of_choices() -> None:
    a, b = Line().architecture(EXAMPLE), Line().architecture({**EXAMPLE, "slope": 0})
    assert a.diff(b) == {"slope": (4, 0)}
    assert dict(a.leaves())["kernel.2"] == 5
    assert not any("widths" in path for path, _ in a.leaves())


def test_constraints_read_them() -> None:
    space = Narrow()
    networks = [arch for arch in Line().enumerate() if sum(arch.widths) <= 12 * arch.depth]
    assert 0 < space.count() == len(networks) < Line().count()
    assert {tuple(arch.values()) for arch in space.enumerate()} == {tuple(arch.values()) for arch in networks}
    with pytest.raises(SpaceError, match=r"^Narrow.small: the constraint does not hold for start=16, slope=0, depth=1"):
        space.architecture({"start": 16, "slope": 0, "depth": 1, "kernel": [3]})


def test_a_subclass_puts_a_formula_in_the_place_of_a_choice_and_back() -> None:
    class Free(Space):
        depth = choice(1, 2)
        width = choice(8, 16, 24, per="depth")

    class OnALine(Free):
        slope = choice(0, 8)

        @derive
        def width(slope: int, depth: int) -> list[int]:
            return [8 + slope * block for block in range(depth)]

    class FreeAgain(OnALine):
        width = choice(8, 9, per="depth")

    assert OnALine().count() == 4
    assert OnALine().largest().width == (8, 16)
    assert FreeAgain().count() == 2 * (2 + 4)


def test_the_declaration_tells_them() -> None:
    declared = Pair().declaration()
    assert declared["derived"] == {"ends": ["lines"], "widest": ["first", "wide"]}
    assert declared["choices"]["lines"]["options"][0]["derived"] == {  # type: ignore[index, call-overload]
        "widths": ["start", "slope", "depth"],
        "total": ["widths"],
        "cells": ["widths", "kernel"],
    }
    assert Line().digest != Narrow().digest
    assert "derived" not in type("Plain", (Space,), {"width": choice(1, 2)})().declaration()
