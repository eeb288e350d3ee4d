"""Choose the parameters to mix by shapes alone, in a model whose names are not informative.

Mixture-of-Supernets mixes feed-forward layers: a matrix into a wider inner axis and one back out of it. In a model
without such layers, the candidates are its convolutions, its recurrent cells, or the matrices between its first and
last one.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from supernets.layout import Shape
from supernets.ratios import pattern

Shapes = Mapping[str, Shape]


@dataclass(frozen=True)
class Chosen:
    """The chosen modules, and the rule that chose them."""

    owners: tuple[str, ...]
    rule: str

    def __str__(self) -> str:
        patterns = dict.fromkeys(pattern(f"{owner}.") + "*" for owner in self.owners)
        return f"{', '.join(patterns)} ({self.rule})"


def choose(shapes: Shapes) -> Chosen | None:
    """Return the modules whose parameters to mix, by the first rule that finds any; None without any matrix.

    Args:
        shapes: the largest shape of every parameter, in the order of the model.
    """
    matrices = {name: shape for name, shape in shapes.items() if len(shape) > 1}
    rules: tuple[tuple[Callable[[Shapes], Iterable[str]], str], ...] = (
        (_inner, "pairs of matrices around a wider inner axis"),
        (_kernels, "convolutions"),
        (_cells, "cells with several matrices"),
        (_between, "matrices between the first and the last"),
        (lambda found: found, "all matrices"),
    )
    for find, rule in rules:
        owners = dict.fromkeys(_owner(name) for name in find(matrices))
        if owners:
            return Chosen(tuple(owners), rule)
    return None


def _owner(name: str) -> str:
    return name.rpartition(".")[0]


def _inner(matrices: Shapes) -> Iterable[str]:
    """Return the pairs within one module, or else within one block, whose name ends in a number."""
    return [*_pairs(matrices, lambda name: _owner(_owner(name)))] or [*_pairs(matrices, _block)]


def _block(name: str) -> str:
    parts = _owner(_owner(name)).split(".")
    last = max((at for at, part in enumerate(parts) if part.isdigit()), default=-1)
    return ".".join(parts[: last + 1])


def _pairs(matrices: Shapes, place: Callable[[str], str]) -> Iterable[str]:
    places: dict[str, list[str]] = defaultdict(list)
    for name in matrices:
        places[place(name)].append(name)
    for names in places.values():
        for down in names:
            outputs, inner = matrices[down][:2]
            ups = [name for name in names if name != down and _leads_in(matrices[name], outputs, inner)]
            # three matrices would be queries, keys and values
            if outputs < inner and 0 < len(ups) < 3:
                yield from (*ups, down)


def _leads_in(shape: Shape, width: int, inner: int) -> bool:
    """Return whether a matrix maps the width to the inner axis, or to twice that if there is a gate."""
    return shape[0] in (inner, 2 * inner) and shape[1] == width > 1


def _kernels(matrices: Shapes) -> Iterable[str]:
    """Return the convolution kernels, except depthwise ones, which have one input and little to mix."""
    return [name for name, shape in matrices.items() if len(shape) > 2 and shape[1] > 1]


def _cells(matrices: Shapes) -> Iterable[str]:
    owners = [_owner(name) for name in matrices]
    return [name for name in matrices if owners.count(_owner(name)) > 1]


def _between(matrices: Shapes) -> Iterable[str]:
    return list(matrices)[1:-1]
