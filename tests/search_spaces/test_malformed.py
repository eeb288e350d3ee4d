"""Every malformed space is refused when it is declared, in one line that names the field."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from search_spaces import Space, SpaceError, choice, constraint, derive


class Conv(Space):
    kernel = choice(3, 5)
    pad = choice(0, 1)


class Attn(Space):
    heads = choice(2, 4)


def net(**body: Any) -> Space:
    space: Space = type("Net", (Space,), body)()
    return space


def rule(function: Callable[..., Any]) -> Any:
    return constraint(function)


MALFORMED: dict[str, tuple[dict[str, Any], str]] = {
    "no choices": ({}, "Net has no choices; declare some in a subclass of Space, as in width = choice(16, 32)"),
    "no options": ({"width": choice()}, "Net.width: no options; give at least one, as in choice(16, 32)"),
    "duplicate": ({"width": choice(16, 16)}, "Net.width: option 16 is given twice; options are distinct"),
    "equal numbers": ({"width": choice(4, 4.0)}, "Net.width: option 4.0 is given twice; options are distinct"),
    "True and 1": ({"width": choice(1, True)}, "Net.width: options 1 and True are equal in Python; use one type"),
    "nan": (
        {"width": choice(float("nan"))},
        "Net.width: option nan is not a number JSON can hold; options are JSON scalars, lists of them, or spaces",
    ),
    "infinity": (
        {"width": choice([float("inf")])},
        "Net.width: option inf is not a number JSON can hold; options are JSON scalars, lists of them, or spaces",
    ),
    "no JSON": (
        {"width": choice({1, 2})},
        "Net.width: option {1, 2} of type set is not a JSON scalar or list; options are JSON scalars, lists of them, "
        "or spaces",
    ),
    "a class": (
        {"stem": choice(Conv)},
        "Net.stem: option Conv is a class; a nested space is an instance: choice(Conv())",
    ),
    "a bare class": ({"stem": Conv}, "Net.stem: Conv is a class; a nested space is an instance: Conv()"),
    "a plain list": ({"width": (1, 2)}, "Net.width: a plain tuple declares nothing; say choice(...) of its items"),
    "same kind twice": (
        {"stem": choice(Conv(kernel=3), Conv())},
        "Net.stem: two options are Conv; declare them as classes with different names",
    ),
    "kind and word": (
        {"stem": choice("Conv", Conv())},
        "Net.stem: 'Conv' names both a nested space and a plain option; rename one of them",
    ),
    "per unknown": (
        {"depth": choice(1), "width": choice(1, per="dept")},
        "Net.width: per='dept' names no choice here; did you mean 'depth'?",
    ),
    "per of words": (
        {"depth": choice("a"), "width": choice(1, per="depth")},
        "Net.width: per='depth' has the option 'a'; a number of positions is an int >= 0",
    ),
    "per negative": (
        {"depth": choice(-1, 2), "width": choice(1, per="depth")},
        "Net.width: per='depth' has the option -1; a number of positions is an int >= 0",
    ),
    "per of bools": (
        {"depth": choice(False, True), "width": choice(1, per="depth")},
        "Net.width: per='depth' has the option False; a number of positions is an int >= 0",
    ),
    "per never any": (
        {"depth": choice(0), "width": choice(1, per="depth")},
        "Net.width: per='depth' gives at most 0 positions; it is to be between 1 and 10000",
    ),
    "per of a per": (
        {"depth": choice(2, per=2), "width": choice(1, per="depth")},
        "Net.width: per='depth' has a value a position itself; the number of positions is one plain choice",
    ),
    "per itself": (
        {"depth": choice(1, 2, per="depth")},
        "Net.depth: per='depth' has a value a position itself; the number of positions is one plain choice",
    ),
    "per zero": ({"w": choice(1, per=0)}, "Net.w: per=0; a fixed number of positions is between 1 and 10000"),
    "per true": (
        {"w": choice(1, per=True)},
        "Net.w: per=True; it names a sibling choice or is a number of positions",
    ),
    "when unknown": (
        {"width": choice(1, when={"op": 1})},
        "Net.width: when names 'op', which is no choice here; there are: width",
    ),
    "when no option": (
        {"op": choice("conv", "pool"), "width": choice(1, when={"op": "cnv"})},
        "Net.width: when 'op': 'cnv' is not among the options 'conv', 'pool'",
    ),
    "when nothing": (
        {"op": choice("conv"), "width": choice(1, when={"op": ()})},
        "Net.width: when 'op': no option is named; name at least one of 'conv'",
    ),
    "when an instance": (
        {"op": choice(Conv(), Attn()), "width": choice(1, when={"op": Conv()})},
        "Net.width: when 'op': Conv() is not among the options 'Conv', "
        "'Attn'; name a nested space by its name as a string",
    ),
    "when of positions": (
        {"op": choice(1, 2, per=2), "width": choice(1, when={"op": 1})},
        "Net.width: when names 'op', which has a value a position; give this choice per=2 too",
    ),
    "when is no mapping": (
        {"width": choice(1, when="op")},
        "Net.width: when='op'; it maps sibling choices to values, as in when={'op': 'conv'}",
    ),
    "when in a circle": (
        {"a": choice(1, 2, when={"b": 1}), "b": choice(1, 2, when={"a": 1}), "c": choice(1)},
        "Net: a, b depend on each other in a circle; let one of them stand without `when`",
    ),
    "when with None": (
        {"op": choice("a", "b", per=2), "width": choice(None, 1, per=2, when={"op": "a"})},
        "Net.width: None marks the positions where 'op' turns it off; use a word as the option",
    ),
    "start without positions": (
        {"split": choice(0, 1), "op": choice("a", "b", start="split")},
        "Net.op: start='split' leaves out positions, and there is one only; give `per` too",
    ),
    "start unknown": (
        {"split": choice(0, 1), "op": choice("a", per=2, start="spilt")},
        "Net.op: start='spilt' names no choice here; did you mean 'split'?",
    ),
    "start of positions": (
        {"split": choice(0, 1, per=2), "op": choice("a", per=2, start="split")},
        "Net.op: start='split' has a value a position itself; where to start is one plain choice",
    ),
    "start too far": (
        {"split": choice(0, 3), "op": choice("a", per=2, start="split")},
        "Net.op: start='split' has the option 3; a number of positions to leave out is an int from 0 to 2",
    ),
    "start never at 0": (
        {"split": choice(1, 2), "op": choice("a", per=2, start="split")},
        "Net.op: start='split' has no option 0; declare it, and leave it out with where(...)",
    ),
    "start with None": (
        {"split": choice(0, 1), "op": choice(None, "a", per=2, start="split")},
        "Net.op: None marks the positions that 'split' leaves out; use a word as the option",
    ),
    "start of what is derived": (
        {"width": choice(1), "n": derive(lambda width: 0), "heads": choice(1, 2, per=2, start="n")},
        "Net.heads: 'n' is derived; `per`, `start` and `when` name choices, so name those it is derived from",
    ),
    "never": (
        {"depth": choice(0, 1), "width": choice(1, per="depth", when={"depth": 0})},
        "Net.width: its conditions never hold together; loosen `when`",
    ),
    "reserved": (
        {"count": choice(1)},
        "Net.count: 'count' is a reserved name; call the field something else, such as 'count_'",
    ),
    "reserved by architectures": (
        {"items": choice(1)},
        "Net.items: 'items' is a reserved name; call the field something else, such as 'items_'",
    ),
    "underscore": ({"_w": choice(1)}, "Net._w: '_w' is a reserved name; call the field something else, such as 'w_'"),
    "constraint unknown": (
        {"width": choice(1), "fits": rule(lambda widht: True)},
        "Net.fits: the constraint names 'widht', which is no choice here; did you mean 'width'?",
    ),
    "constraint of nothing": (
        {"width": choice(1), "fits": rule(lambda: True)},
        "Net.fits: a constraint names its choices as parameters, as in def fits(width)",
    ),
    "constraint with default": (
        {"width": choice(1), "fits": rule(lambda width=3: True)},
        "Net.fits: parameter 'width=3'; a constraint takes choices by plain names only",
    ),
    "constraint each": (
        {"width": choice(1), "fits": constraint(each="depth")(lambda width: True)},
        "Net.fits: each='depth', but none of its choices has per='depth'; leave `each` out",
    ),
    "unsatisfiable": (
        {"width": choice(1, 2), "loose": rule(lambda width: True), "fits": rule(lambda width: width > 2)},
        "Net: no network satisfies Net.fits; loosen the constraint or add options",
    ),
    "unsatisfiable together": (
        {"w": choice(1, 2), "small": rule(lambda w: w < 2), "large": rule(lambda w: w > 1)},
        "Net: no network satisfies Net.small and Net.large; loosen the constraint or add options",
    ),
    "constraint raises": (
        {"width": choice(0, 1), "fits": rule(lambda width: 1 % width == 0)},
        "Net.fits: the constraint raised ZeroDivisionError (integer modulo by zero) for width=0; "
        "make it answer for every network",
    ),
    "constraint forgets": (
        {"width": choice(1), "fits": rule(lambda width: None)},
        "Net.fits: the constraint returned None for width=1; return True or False",
    ),
    "derived from nothing there": (
        {"width": choice(1), "twice": derive(lambda widht: 2)},
        "Net.twice: the derived value names 'widht', which is no choice here; did you mean 'width'?",
    ),
    "derived from nothing": (
        {"width": choice(1), "twice": derive(lambda: 2)},
        "Net.twice: a derived value names its choices as parameters, as in def twice(width)",
    ),
    "derived with default": (
        {"width": choice(1), "twice": derive(lambda width, by=2: by * width)},
        "Net.twice: parameter 'by=2'; a derived value takes choices by plain names only",
    ),
    "derived in a circle": (
        {"width": choice(1), "a": derive(lambda b: b), "b": derive(lambda a, width: a), "c": derive(lambda width: 1)},
        "Net: a, b are derived from each other in a circle; derive one from choices alone",
    ),
    "derived from itself": (
        {"width": choice(1), "a": derive(lambda a: a)},
        "Net: a are derived from each other in a circle; derive one from choices alone",
    ),
    "derived under a reserved name": (
        {"width": choice(1), "items": derive(lambda width: width)},
        "Net.items: 'items' is a reserved name; call the field something else, such as 'items_'",
    ),
    "a choice called derived": (
        {"derived": choice(1)},
        "Net.derived: 'derived' is a reserved name; call the field something else, such as 'derived_'",
    ),
    "a position of what is derived": (
        {"width": choice(1), "n": derive(lambda width: width), "heads": choice(1, 2, per="n")},
        "Net.heads: 'n' is derived; `per`, `start` and `when` name choices, so name those it is derived from",
    ),
    "a condition on what is derived": (
        {"width": choice(1), "n": derive(lambda width: width), "heads": choice(1, 2, when={"n": 1})},
        "Net.heads: 'n' is derived; `per`, `start` and `when` name choices, so name those it is derived from",
    ),
    "constraint each over what is derived": (
        {"d": choice(1), "w": choice(1, per="d"), "n": derive(lambda d: d),
         "fits": constraint(each="d")(lambda w, n: True)},
        "Net.fits: 'n' is derived and comes whole; leave each='d' out",
    ),
    "nothing but what is derived": (
        {"n": derive(lambda n: n)},
        "Net: n are derived from each other in a circle; derive one from choices alone",
    ),
    "nested far too often": (
        {"stem": choice(Conv(), per=10_000), "more": choice(Conv(), per=10_000)},
        "stem.6666.pad: more than 20000 choices in all; give nested spaces fewer positions",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_spaces_fail_at_definition(case: str) -> None:
    body, message = MALFORMED[case]
    with pytest.raises(SpaceError) as caught:
        net(**body)
    assert str(caught.value) == message


DERIVED: dict[str, tuple[Callable[..., Any], str]] = {
    "raises": (
        lambda width: 1 // (width - 1),
        "Net.value: the function raised ZeroDivisionError (integer division or modulo by zero) for width=1; "
        "make it answer for every network",
    ),
    "forgets": (lambda width: None, "Net.value: the function returned None for width=1; did it forget `return`?"),
    "a mapping": (
        lambda width: {"w": width},
        "Net.value: for width=1: {'w': 1} of type dict is not a JSON scalar or list; "
        "return a number, a text, a truth value or a list",
    ),
    "no number": (
        lambda width: [float("nan")],
        "Net.value: for width=1: nan is not a number JSON can hold; return a number, a text, a truth value or a list",
    ),
}


@pytest.mark.parametrize("case", DERIVED)
def test_what_cannot_be_derived_is_said_when_an_architecture_is_read(case: str) -> None:
    function, message = DERIVED[case]
    space = net(width=choice(1), value=derive(function))
    with pytest.raises(SpaceError) as caught:
        space.smallest()
    assert str(caught.value) == message


def test_a_plain_value_does_not_hide_an_inherited_choice() -> None:
    with pytest.raises(SpaceError, match=r"Wide.kernel: 7 hides an inherited choice; say choice\(7\) to fix it"):
        type("Wide", (Conv,), {"kernel": 7})


class Stack(Space):
    width = choice(16, 24, [1, 2])
    depth = choice(1, 2)
    block = choice("skip", Conv(), per="depth")


NARROWING: dict[str, tuple[dict[str, Any], str]] = {
    "unknown field": ({"widht": 16}, "'widht': Stack has no choice 'widht'; did you mean 'width'?"),
    "unknown option": ({"width": 48}, "Stack.width: 48 is not among the options 16, 24, (1, 2)"),
    "one unknown option": ({"width": (16, 48)}, "Stack.width: 48 is not among the options 16, 24, (1, 2)"),
    "True for 1": ({"depth": True}, "Stack.depth: True is not among the options 1, 2"),
    "no option": ({"width": ()}, "Stack.width: no option is named; name at least one of 16, 24, (1, 2)"),
    "unknown position": ({"block.2": "skip"}, "'block.2': 'block' has positions 0 to 1; name one of them"),
    "unknown nested": ({"block.0.kern": 3}, "'block.0.kern': 'block' holds no choice 'kern'; did you mean 'kernel'?"),
    "nothing nested": ({"width.a": 3}, "'width.a': 'width' holds no choice 'a'; there are: none"),
}


@pytest.mark.parametrize("case", NARROWING)
def test_narrowing_to_what_is_not_there_fails(case: str) -> None:
    options, message = NARROWING[case]
    with pytest.raises(SpaceError) as caught:
        Stack(**options)
    assert str(caught.value) == message


def test_narrowing_twice_to_nothing_fails() -> None:
    with pytest.raises(SpaceError, match=r"^Stack.width: 24 leaves no option; there were only 16$"):
        Stack(width=16).where(width=24)


def test_narrowing_against_a_constraint_fails() -> None:
    space = net(a=choice(1, 2), b=choice(1, 2), same=rule(lambda a, b: a == b))
    with pytest.raises(SpaceError, match=r"no network satisfies Net.same"):
        space.where(a=1, b=2)


ARCHITECTURES: dict[str, tuple[Any, str]] = {
    "no option": ({"width": 48, "depth": 1, "block": ["skip"]}, "Stack.width: got 48; the options are 16, 24, (1, 2)"),
    "True for 1": ({"width": 16, "depth": True, "block": ["skip"]}, "Stack.depth: got True; the options are 1, 2"),
    "missing": ({"depth": 1, "block": ["skip"]}, "Stack.width: got nothing; the options are 16, 24, (1, 2)"),
    "unknown": (
        {"width": 16, "depth": 1, "block": ["skip"], "widht": 1},
        "Stack.widht: Stack has no such choice; did you mean 'width'?",
    ),
    "too short": (
        {"width": 16, "depth": 2, "block": ["skip"]},
        "Stack.block: got ['skip']; here it is a list of 2 values, one a position",
    ),
    "wrong kind": ({"is": "Stuck"}, "Stack: this is a 'Stuck', not a Stack; ask the space it is from"),
    "wrong nested kind": (
        {"width": 16, "depth": 1, "block": [{"is": "Attn", "heads": 2}]},
        "Stack.block.0: got {'is': 'Attn', 'heads': 2}; the options are 'skip', 'Conv'",
    ),
    "nested": (
        {"width": 16, "depth": 1, "block": [{"is": "Conv", "kernel": 4, "pad": 0}]},
        "Stack.block.0.Conv.kernel: got 4; the options are 3, 5",
    ),
    "no mapping": ([1], "Stack: [1] is no architecture of Stack; give a mapping"),
    "no JSON": (
        "{",
        "'{' is not JSON (Expecting property name enclosed in double quotes: line 1 column 2 (char 1)); "
        "give the text that Architecture.json() wrote",
    ),
    "unhashable": (
        {"width": {1}, "depth": 1, "block": ["skip"]},
        "Stack.width: got {1}; the options are 16, 24, (1, 2)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ARCHITECTURES)
def test_what_is_no_architecture_is_refused(case: str) -> None:
    value, message = ARCHITECTURES[case]
    with pytest.raises(SpaceError) as caught:
        Stack().architecture(value)
    assert str(caught.value) == message


def test_an_inactive_choice_is_left_out() -> None:
    space = net(op=choice("conv", "pool"), kernel=choice(3, 5, when={"op": "conv"}))
    with pytest.raises(SpaceError) as caught:
        space.architecture({"op": "pool", "kernel": 3})
    assert str(caught.value) == "Net.kernel: 3 is given where the choice is not active; it needs op in ('conv')"


def test_outside_the_narrowing_or_a_constraint_is_refused() -> None:
    space = net(a=choice(1, 2), b=choice(1, 2), same=rule(lambda a, b: a == b))
    with pytest.raises(SpaceError, match=r"^Net.a: got 2, but this space is narrowed to 1$"):
        space.where(a=1).architecture({"a": 2, "b": 2})
    with pytest.raises(
        SpaceError, match=r"^Net.same: the constraint does not hold for a=1, b=2; choose values that go tog"
    ):
        space.architecture({"a": 1, "b": 2})


def test_requests_are_checked() -> None:
    space = Conv()
    rng = np.random.default_rng(0)
    with pytest.raises(
        SpaceError, match=r"^rng=0; randomness comes from a generator, as in numpy.random.default_rng\(0\)$"
    ):
        space.sample(0)
    with pytest.raises(SpaceError, match=r"^n=-1; the number of architectures is 0 or more$"):
        space.sample_many(-1, rng)
    with pytest.raises(SpaceError, match=r"^uniform='all'; it is 'networks' or 'choices'$"):
        space.sample(rng, uniform="all")
    with pytest.raises(SpaceError, match=r"^rate=2; the probability that a choice changes is between 0 and 1$"):
        space.mutate(space.largest(), rng, rate=2)
    with pytest.raises(SpaceError, match=r"^5 distinct architectures asked of Conv, which has 4; ask for fewer$"):
        space.sample_many(5, rng, distinct=True)
    with pytest.raises(
        SpaceError, match=r"^Conv has up to 4 networks, more than limit=3; narrow it or raise the limit$"
    ):
        space.enumerate(limit=3)
    with pytest.raises(SpaceError, match=r"^codes are int64 of shape \(1, 3\); they are integers of shape \(n, 2\)"):
        space.decode([[0, 0, 0]])
    with pytest.raises(SpaceError, match=r"^codes\[0\]: kernel is active there but has the code 2; codes are -1"):
        space.decode([[2, 0]])
