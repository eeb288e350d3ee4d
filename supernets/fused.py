"""Fused axes found by running networks: derived where that is exact, told where it is not.

An axis that every network splits in the same number of equal parts is in blocks. Where the parts of a smaller network
are the first ones of the largest, a leading part is right as it is. Anything else cannot be cut from one tensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from torch import Tensor

from search_spaces import Architecture, Space
from supernets.apart import looked_at
from supernets.errors import SupernetError
from supernets.layout import Blocks, Layouts
from supernets.ratios import pattern
from supernets.skeleton import Build, build_initialised, build_skeleton
from supernets.survey import Survey, Variant
from supernets.tracing import Axis, Parts, trace

Example = Tensor | tuple[Tensor, ...]


def find_fused(
    space: Space, build: Build, example: Example, layout: Layouts | None = None, also: Sequence[Architecture] = ()
) -> dict[str, tuple[Blocks, ...]]:
    """The layouts that runs on an example prove, of parameters that have none by their class or by ``layout``.

    Raises:
        SupernetError: a network does not run on the example.
    """
    return dict(proved(*looked_at(space, build, layout or {}, also), example).proved)


def proved(surveyed: Survey, build: Build, example: Example) -> Survey:
    """The survey with the layouts that runs prove, and with notes on the axes that no layout can express."""
    runs = _runs(surveyed, build, example)
    found: dict[str, list[Blocks]] = {}
    notes: dict[str, str] = {}
    for name, axis in dict.fromkeys(axis for run in runs for axis in run.parts):
        if surveyed.nestings[name].by_axis[axis].told or not _moves(surveyed.variants, name, axis):
            continue
        parts = _parts_of_moved(runs, name, axis)
        if all(_is_leading(own, max(parts, key=sum)) for own in parts):
            continue
        sizes = {variant.shapes[name][axis] for variant in surveyed.variants if name in variant.shapes}
        if _even(parts) and not any(size % len(parts[0]) for size in sizes):
            found.setdefault(name, []).append(Blocks(len(parts[0]), axis))
        else:
            notes[f"{pattern(name)} {axis}"] = _uneven(name, axis, parts)
    return surveyed.with_proved({name: tuple(blocks) for name, blocks in found.items()}, tuple(notes.values()))


def _uneven(name: str, axis: int, parts: Sequence[Parts]) -> str:
    sizes = " or ".join(" + ".join(map(str, own)) for own in dict.fromkeys(parts))
    return (
        f"{pattern(name)}: axis {axis} holds parts of {sizes}, which no slice of one tensor keeps apart, so smaller "
        "networks read some of one part as another; give layout= a function of the architecture that returns Parts("
        f"{', '.join(map(str, parts[0]))}{f', axis={axis}' if axis else ''}) for these sizes, or build a layer for each"
    )


@dataclass(frozen=True)
class _Run:
    variant: Variant
    parts: dict[Axis, Parts]

    def of(self, name: str, axis: int) -> Parts:
        """The parts of an axis; one, where it is not split."""
        return self.parts.get((name, axis)) or (self.variant.shapes[name][axis],)


def _runs(surveyed: Survey, build: Build, example: Example) -> list[_Run]:
    """Of the largest network, and of others until each choice and each axis that is split has been moved once.

    Layers whose names differ in numbers alone are alike: one of them is enough.
    """
    runs: list[_Run] = []
    choices: set[str] = set()
    for variant in surveyed.variants:
        choice = pattern(f"{variant.choice}.")
        split = {axis for run in runs for axis in run.parts if not _moves([run.variant for run in runs], *axis)}
        still = {(pattern(name), axis) for name, axis in split} - _patterns_moved(runs)
        new = {(pattern(name), axis) for name, axis in split if _moves([runs[0].variant, variant], name, axis)}
        if choice not in choices or still & new:
            choices.add(choice)
            runs.append(_Run(variant, _traced(build, variant, example)))
    return runs


def _patterns_moved(runs: Sequence[_Run]) -> set[Axis]:
    variants = [run.variant for run in runs]
    return {(pattern(name), axis) for run in runs for name, axis in run.parts if _moves(variants, name, axis)}


def _moves(variants: Sequence[Variant], name: str, axis: int) -> bool:
    return len({variant.shapes[name][axis] for variant in variants if name in variant.shapes}) > 1


def _parts_of_moved(runs: Sequence[_Run], name: str, axis: int) -> list[Parts]:
    """The parts of an axis in each run that has it; of a layer that is alike, where only that one has been moved."""
    alike = [(other, at) for run in runs for other, at in run.parts if at == axis and pattern(other) == pattern(name)]
    moved = [other for other, _ in [(name, axis), *alike] if _moves([run.variant for run in runs], other, axis)]
    chosen = moved[0] if moved else name
    return [run.of(chosen, axis) for run in runs if chosen in run.variant.shapes]


def _is_leading(parts: Parts, full: Parts) -> bool:
    """Whether these are the first of the full parts, the last one perhaps not all of it."""
    *before, last = parts
    return len(parts) <= len(full) and (*before,) == full[: len(before)] and last <= (*full, 0)[len(before)]


def _even(found: Sequence[Parts]) -> bool:
    """Whether all are the same number of parts, of equal sizes."""
    return len({len(parts) for parts in found}) == 1 and all(len(set(parts)) == 1 for parts in found)


SMALL = 10_000_000
"""Parameters up to which a network is run with values: a run on the meta device imports torch's compiler first."""


def _traced(build: Build, variant: Variant, example: Example) -> dict[Axis, Parts]:
    """On shapes alone where the network is large and its forward needs no values."""
    inputs = example if isinstance(example, tuple) else (example,)
    if sum(map(prod, variant.shapes.values())) > SMALL:
        try:
            module = build_skeleton(build, variant.arch).to("meta").eval()
            return trace(module, [tensor.to("meta") for tensor in inputs])
        except (NotImplementedError, RuntimeError):
            pass  # a forward that looks at values
    try:
        return trace(build_initialised(build, variant.arch, 0).eval(), inputs)
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        raise SupernetError(
            f"the network of {variant.arch.json()} does not run on the example: {' '.join(str(error).split())[:200]}; "
            "give an input that its forward takes, or leave the example out"
        ) from error
