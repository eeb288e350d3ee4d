"""Random small spaces for property tests: depths, fixed positions, nesting, conditions and constraints, mixed.

`random_spaces()` draws instances, some of them narrowed; every declaration is in an order in which parents come first.
"""

import inspect
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from search_spaces import Architecture, Choice, Constraint, Derived, Space, SpaceError, choice, constraint, derive

NAMES = ("width", "op", "kernel", "ratio")
OPTIONS = (
    (16, 24, 32),
    (0.5, 1.0, 2),
    ("conv", "pool", "skip"),
    (False, True),
    (1,),
    ([1, 1], [1, 2], []),
    ("a", 3, 2.5, True),
)
DEPTHS = ((0, 1, 2), (1, 2), (0, 2), (2,))


def random_spaces(
    *, nesting: int = 1, constraints: bool = True, narrowed: bool = True, most: int | None = None
) -> st.SearchStrategy[Space]:
    """Spaces with nested spaces to this depth; `most` bounds the number of networks."""
    return _spaces(nesting, constraints, narrowed, most)


@st.composite
def spaces_and_architectures(draw: st.DrawFn, **settings: Any) -> tuple[Space, Architecture, np.random.Generator]:
    """A random space, one of its architectures and a generator."""
    space = draw(random_spaces(**settings))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return space, space.sample(rng), rng


@st.composite
def _spaces(draw: st.DrawFn, nesting: int, constraints: bool, narrowed: bool, most: int | None) -> Space:
    declared = draw(_classes(nesting, constraints))
    try:
        space: Space = declared()
        if narrowed and draw(st.booleans()):
            slot = draw(st.sampled_from(space.slots))
            kept = draw(st.lists(st.sampled_from(slot.options), min_size=1))
            space = space.where(**{slot.path: kept})
    except SpaceError as error:
        assert "no network satisfies" in str(error)  # drawn constraints may leave nothing
        assume(False)
    assume(most is None or space.count() <= most)
    return space


@st.composite
def _classes(draw: st.DrawFn, nesting: int, constraints: bool, kind: str = "Net") -> type[Space]:
    body: dict[str, Any] = {}
    depths: list[str] = []
    for name in NAMES[: draw(st.integers(1, 4 if kind == "Net" else 2))]:
        if not depths and draw(st.integers(0, 2)) > 0:
            depths.append("depth")
            body["depth"] = choice(*draw(st.sampled_from(DEPTHS)), when=draw(_when(body, None)))
        per = draw(st.sampled_from([None, 2, *depths * 3]))
        starts = ["depth"] if depths and 0 in body["depth"].options and per == 2 else []
        start = draw(st.sampled_from([None, *starts]))
        body[name] = choice(*draw(_options(nesting, kind)), per=per, when=draw(_when(body, per)), start=start)
    if constraints and draw(st.booleans()):
        body["rule"] = draw(_constraint(body))
    if draw(st.booleans()):
        body["sum"] = draw(_derived(body))
    try:
        return type(kind, (Space,), body)
    except SpaceError as error:
        assert "never hold together" in str(error)  # drawn conditions may exclude each other
        assume(False)
        raise


@st.composite
def _options(draw: st.DrawFn, nesting: int, kind: str) -> list[Any]:
    plain = list(draw(st.sampled_from(OPTIONS)))[: draw(st.integers(1, 3 if kind == "Net" else 2))]
    if nesting == 0 or draw(st.integers(0, 2)) > 0:
        return plain
    nested: list[Any] = []
    for index in range(draw(st.integers(1, 2))):
        nested.append(draw(_classes(nesting - 1, False, f"{kind}{index}"))())
    return nested + (plain[:1] if draw(st.booleans()) else [])


@st.composite
def _when(draw: st.DrawFn, body: dict[str, Any], per: str | int | None) -> dict[str, Any] | None:
    parents = [name for name, other in body.items() if other.per in (None, per)]
    if not parents or draw(st.booleans()):
        return None
    parent = draw(st.sampled_from(parents))
    options = [o.name if isinstance(o, Space) else o for o in body[parent].options]
    return {parent: draw(st.lists(st.sampled_from(options), min_size=1, max_size=2))}


@st.composite
def _constraint(draw: st.DrawFn, body: dict[str, Any]) -> Constraint:
    names = draw(st.lists(st.sampled_from(sorted(body)), min_size=1, max_size=2, unique=True))
    each = draw(st.sampled_from([None, *(body[name].per for name in names if body[name].per is not None)]))
    salt = draw(st.integers(0, 100))
    rule = _reading(names, lambda *values: _hash(salt, values) % 4 > 0)
    return constraint(rule) if each is None else constraint(each=each)(rule)


@st.composite
def _derived(draw: st.DrawFn, body: dict[str, Any]) -> Derived:
    """A number and a list, which depend on one or two choices."""
    choices = sorted(name for name, value in body.items() if isinstance(value, Choice))
    names = draw(st.lists(st.sampled_from(choices), min_size=1, max_size=2, unique=True))
    return derive(_reading(names, lambda *values: [_hash(0, values), [len(values)]]))


def _reading(names: list[str], function: Callable[..., Any]) -> Callable[..., Any]:
    """A function with parameters of these names."""

    def named(*values: Any) -> Any:
        return function(*values)

    parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names]
    named.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return named


def _hash(salt: int, values: tuple[Any, ...]) -> int:
    return zlib.crc32(repr((salt, values)).encode())
