"""Axes that may be fused and have no layout, told by sizes alone: a note for the reader, never a guess.

An output axis that is in every network the same whole multiple of another moved axis, and that no layer beside it takes
in as a whole, may hold several parts, as ``[q|k|v]`` does. Sizes cannot tell: `tracing` can, given an input.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

from supernets.survey import Survey

Axis = tuple[str, int]
Sizes = tuple[int, ...]
"""Sizes of one axis in each variant; 0 if the parameter is absent."""

USUAL = (2, 3)
"""Common numbers of fused parts."""


def notes(survey: Survey) -> tuple[str, ...]:
    """Return one line for each axis that may be fused, merged over similar layers, with the layout to paste."""
    sizes = _moved(survey)
    found: dict[str, str] = {}
    for (name, axis), own in sizes.items():
        if (
            len(survey.shapes[name]) > 1
            and not survey.nestings[name].by_axis[axis].told
            and _is_output(survey, name, axis)
        ):
            base = _base(survey, name, axis, own, sizes)
            if base is not None:
                count = _ratio(own, sizes[base])
                found.setdefault(
                    f"{pattern(name)} {axis}",
                    f"{pattern(name)}: axis {axis} is always {count} times axis {base[1]} of {pattern(base[0])}; if it "
                    f"holds {count} parts, give layout={layout_line(survey, {(name, axis): count})}",
                )
    matrices = {name: own for name, own in survey.nestings.items() if len(own.by_axis) > 1}
    apart = {pattern(name): None for name, own in matrices.items() if any(axis.redivided for axis in own.by_axis)}
    heads = [f"{', '.join(apart)}: {_REDIVIDED}"] if apart else []
    return (*found.values(), *heads)


_REDIVIDED = (
    "networks divide the same rows into other heads, so a head of one is made of parts of several heads of another and "
    "queries lose the keys they were trained with; let the largest network have the most heads and the largest"
)


def layout_line(survey: Survey, blocks: Mapping[Axis, int]) -> str:
    """Return the corresponding layout as text to paste, including the vectors of the same module."""
    lines: dict[str, str] = {}
    for (name, axis), count in blocks.items():
        owner = name.rpartition(".")[0]
        size = survey.shapes[name][axis]
        beside = [other for other, shape in survey.shapes.items() if other.rpartition(".")[0] == owner]
        for other in (name, *(other for other in beside if survey.shapes[other] == (size,) and other != name)):
            at = axis if other == name else 0
            lines[f'"{pattern(other)}"'] = f"Blocks({count}, axis={at})" if at else f"Blocks({count})"
    return "{" + ", ".join(f"{pattern}: {blocks}" for pattern, blocks in lines.items()) + "}"


def pattern(name: str) -> str:
    """Return the name with its numbers replaced by a wildcard."""
    return re.sub(r"(^|\.)\d+(?=\.)", r"\1*", name)


def _moved(survey: Survey) -> dict[Axis, Sizes]:
    """Return the sizes of every axis that depends on choices."""
    found: dict[Axis, Sizes] = {}
    for name, shape in survey.shapes.items():
        for axis in range(len(shape)):
            own = tuple(v.shapes[name][axis] if name in v.shapes else 0 for v in survey.variants)
            if len({*own} - {0}) > 1:
                found[name, axis] = own
    return found


def _is_output(survey: Survey, name: str, axis: int) -> bool:
    return survey.ends[name][1] == axis if name in survey.ends else axis < 2


def _takes(survey: Survey, name: str, axis: int, fused: int) -> bool:
    """Whether this axis takes in a whole output; of a parameter of unknown kind, if it is another than the output's."""
    if len(survey.shapes[name]) < 2:
        return False
    return axis == survey.ends[name][0] if name in survey.ends else axis < 2 and axis != fused


def _base(survey: Survey, name: str, axis: int, own: Sizes, sizes: Mapping[Axis, Sizes]) -> Axis | None:
    """The axis that this one is the smallest multiple of, where nothing takes it as a whole."""
    near = _near(survey, name)
    takers = [other for other in sizes if _takes(survey, *other, axis) and _ratio(own, sizes[other]) == 1]
    if any(other in near for other, _ in takers):
        return None
    bases = [(_ratio(own, sizes[other]), other) for other in sizes if other[0] in near]
    if takers:  # far away: a part must be taken close by, as the output of attention takes v
        bases = [(n, other) for n, other in bases if n in USUAL and other[0] != name and _takes(survey, *other, axis)]
    multiples = [(ratio, other) for ratio, other in bases if ratio > 1]
    return min(multiples, key=lambda found: found[0])[1] if multiples else None


def _near(survey: Survey, name: str) -> set[str]:
    """The parameters of the module around the layer, or of its whole block if that has no other matrix."""
    owner = name.rpartition(".")[0]
    parent = owner.rpartition(".")[0]
    beside = set(_below(survey, parent))
    if any(other.rpartition(".")[0] != owner and len(survey.shapes[other]) > 1 for other in beside):
        return beside
    parts = parent.split(".")
    numbers = [at for at, part in enumerate(parts) if part.isdigit()]
    return set(_below(survey, ".".join(parts[: numbers[-1] + 1]) if numbers else ""))


def _below(survey: Survey, path: str) -> Iterable[str]:
    return (name for name in survey.shapes if not path or name.startswith(path + "."))


@lru_cache(maxsize=1 << 16)
def _ratio(one: Sizes, other: Sizes) -> int:
    """How many times the other axis is this one in all variants that have both; 0 where that differs or none moves."""
    both = [(own, base) for own, base in zip(one, other, strict=True) if own and base]
    ratios = {divmod(own, base) for own, base in both}
    moves = len({own for own, _ in both}) > 1
    ratio, rest = ratios.pop() if len(ratios) == 1 and moves else (0, 0)
    return 0 if rest else ratio
