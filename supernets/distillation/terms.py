"""Distillation losses as values with weights; each defines what a network imitates of its parent."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from supernets.distillation.comparing import (
    COMPARISONS,
    affinity_divergence,
    cosine_distance,
    divergence,
    relation_divergence,
    squared_error,
)
from supernets.distillation.layers import DistillationError, Layers, Mapped, Nearest, Observed, Pairs

Project = Callable[[str, Tensor, Tensor], Tensor]
"""Maps a layer name, hidden states (..., d) and the parent's (..., d') to the hidden states at the parent's width."""

RELATIONS = {
    "all": ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2)),
    "self": ((0, 0), (1, 1), (2, 2)),
    "attention": ((0, 1),),
}
"""Pairs among queries, keys and values: all nine (MiniViT), each with itself (MiniLM v2), or the attention map."""


class Term(Protocol):
    """One loss. `layers` are the layers it observes; a call receives their pairs for the current network."""

    @property
    def weight(self) -> float: ...

    @property
    def layers(self) -> tuple[Layers, ...]: ...

    def __call__(self, student: Observed, parent: Observed, pairs: list[Pairs], project: Project) -> Tensor: ...


@dataclass(frozen=True)
class Logits:
    """Imitates the distribution that output logits define: `comparing.divergence`."""

    weight: float = 1.0
    temperature: float = 1.0
    layers: tuple[Layers, ...] = ()

    def __post_init__(self) -> None:
        _weighed(self)
        if not 0 < self.temperature < math.inf:
            raise DistillationError(f"temperature = {self.temperature!r}: it must be above 0 and finite; 1 to 4 say")

    def __call__(self, student: Observed, parent: Observed, pairs: list[Pairs], project: Project) -> Tensor:
        _alike(student.outputs, parent.outputs)
        return divergence(student.outputs, parent.outputs, self.temperature)


@dataclass(frozen=True)
class Embeddings:
    """Imitates output embeddings, with distance "mse" or "cosine"."""

    weight: float = 1.0
    compare: str = "mse"
    layers: tuple[Layers, ...] = ()

    def __post_init__(self) -> None:
        _weighed(self)
        _one_of("compare", self.compare, ("mse", "cosine"))

    def __call__(self, student: Observed, parent: Observed, pairs: list[Pairs], project: Project) -> Tensor:
        _alike(student.outputs, parent.outputs)
        return (squared_error if self.compare == "mse" else cosine_distance)(student.outputs, parent.outputs)


@dataclass(frozen=True)
class Affinity:
    """Imitates the similarities between examples of a batch: `comparing.affinity_divergence` (TinyCLIP).

    It compares the outputs (N, d) with each other, or the outputs of two modules, such as image and text encoders.
    TinyCLIP trains with this loss alone: ``Distilled(task, parent, [Affinity(...)], labels=0)``.
    """

    weight: float = 1.0
    scale: float = 50.0
    """Factor applied to the cosines."""
    between: tuple[str, str] | None = None
    """Names of two modules, which network and parent share; None means the outputs."""

    def __post_init__(self) -> None:
        _weighed(self)
        if not 0 < self.scale < math.inf:
            raise DistillationError(f"scale = {self.scale!r}: it must be above 0 and finite; 50 say")

    @property
    def layers(self) -> tuple[Layers, ...]:
        return () if self.between is None else tuple(Mapped({name: name}) for name in self.between)

    def __call__(self, student: Observed, parent: Observed, pairs: list[Pairs], project: Project) -> Tensor:
        one, other = (self._pair(side) for side in (student, parent))
        return affinity_divergence(one, other, self.scale)

    def _pair(self, side: Observed) -> tuple[Tensor, Tensor]:
        first, second = (
            (side.outputs, side.outputs) if self.between is None else (side.hidden[name] for name in self.between)
        )
        if first.dim() != 2 or len(first) < 2 or first.shape[1:] != second.shape[1:]:
            raise DistillationError(
                f"affinities of embeddings {tuple(first.shape)} and {tuple(second.shape)}: both must be "
                "(examples x features), of two examples or more"
            )
        return first, second


@dataclass(frozen=True)
class Hidden:
    """Imitates the outputs of the parent's layers.

    A linear map, which belongs to the training and not to the network, projects from the largest network's width to the
    parent's; narrower networks use its leading columns. "gram" compares cosines between positions, so widths may differ
    without a map.
    """

    which: Layers
    """The pairs of layers: `every`, `last`, `nearest`, or a `Mapped` or dict of names."""
    weight: float = 1.0
    compare: str = "mse"
    """One of `comparing.COMPARISONS`."""
    axis: int = -1
    """The feature axis: 1 for convolutions, which return (N, d, height, width)."""
    projection: bool = True
    """Whether to learn a map to the parent's width, initially the identity if widths are equal. Without a map, widths
    must agree."""

    def __post_init__(self) -> None:
        _weighed(self)
        _one_of("compare", self.compare, tuple(COMPARISONS))
        if isinstance(self.which, dict):
            object.__setattr__(self, "which", Mapped(self.which))

    @property
    def layers(self) -> tuple[Layers, ...]:
        return (self.which,)

    @property
    def projects(self) -> bool:
        return self.projection and self.compare != "gram"

    def __call__(self, student: Observed, parent: Observed, pairs: list[Pairs], project: Project) -> Tensor:
        terms = [self._term(own, student.hidden[own], parent.hidden[name], project) for own, name in pairs[0]]
        if isinstance(self.which, Nearest):
            of_parent: dict[str, list[Tensor]] = {}
            for (_, name), term in zip(pairs[0], terms, strict=True):
                of_parent.setdefault(name, []).append(term)
            terms = [torch.stack(distances).min() for distances in of_parent.values()]
        return sum(terms[1:], terms[0]) / len(terms)

    def _term(self, name: str, own: Tensor, taught: Tensor, project: Project) -> Tensor:
        own, taught = (self.features_last(x) for x in (own, taught))
        same = slice(-1) if self.projects or self.compare == "gram" else slice(None)
        if own.dim() != taught.dim() or own.shape[same] != taught.shape[same]:
            remedy = (
                "they may differ in their width only" if self.projects else "let projection=True, or compare 'gram'"
            )
            raise DistillationError(
                f"the layer {name!r} gives {tuple(own.shape)} and its parent's {tuple(taught.shape)}: {remedy}"
            )
        return COMPARISONS[self.compare](project(name, own, taught) if self.projects else own, taught)

    def features_last(self, hidden: Tensor) -> Tensor:
        return hidden.movedim(self.axis, -1)


@dataclass(frozen=True)
class Relations:
    """Imitates the relations of positions by queries, keys and values: `comparing.relation_divergence`.

    No map is needed, because relations of T positions are T x T for any width. They precede rotary embeddings and cover
    all positions, padding included.
    """

    qkv: tuple[Layers, ...]
    """`every` (or `last`) of the modules that return queries, keys and values: three, or one if they are fused."""
    weight: float = 1.0
    between: str = "all"
    """One of RELATIONS."""
    heads: int = 1
    """Number of heads into which the vectors are divided, for network and parent."""

    def __post_init__(self) -> None:
        _weighed(self)
        _one_of("between", self.between, tuple(RELATIONS))
        if len(self.qkv) not in (1, 3):
            raise DistillationError(
                f"qkv names {len(self.qkv)} kinds of modules: name three, of queries, keys and values, or the fused one"
            )
        if self.heads < 1:
            raise DistillationError(f"heads = {self.heads!r}: it must be 1 or more")

    @property
    def layers(self) -> tuple[Layers, ...]:
        return self.qkv

    def __call__(self, student: Observed, parent: Observed, pairs: list[Pairs], project: Project) -> Tensor:
        terms = [
            relation_divergence(
                self._vectors(student, [own for own, _ in of_layer]),
                self._vectors(parent, [name for _, name in of_layer]),
                RELATIONS[self.between],
                self.heads,
            )
            for of_layer in zip(*pairs, strict=True)
        ]
        return sum(terms[1:], terms[0]) / len(terms)

    def _vectors(self, side: Observed, names: list[str]) -> list[Tensor]:
        found = [side.hidden[name] for name in names]
        found = list(found[0].chunk(3, -1)) if len(found) == 1 else found
        widths = {vectors.shape[-1] for vectors in found}
        if any(width % self.heads for width in widths) or (self.between != "self" and len(widths) > 1):
            remedy = "let between='self', and heads divide them" if len(widths) > 1 else "let heads divide them"
            listed = ", ".join(map(str, sorted(widths)))
            raise DistillationError(f"{names[0]!r} and its like give vectors of {listed} features: {remedy}")
        return found


@dataclass(frozen=True)
class Custom:
    """A custom function from the observations of a network and its parent to a scalar."""

    function: Callable[[Observed, Observed], Tensor]
    weight: float = 1.0
    layers: tuple[Layers, ...] = ()
    """Layers whose outputs the function needs in `Observed.hidden`."""

    def __post_init__(self) -> None:
        _weighed(self)

    def __call__(self, student: Observed, parent: Observed, pairs: list[Pairs], project: Project) -> Tensor:
        return self.function(student, parent)


def pairs_of(term: Term, student: nn.Module, parent: nn.Module) -> list[Pairs]:
    """Return the pairs of each of a term's `layers` for the current network."""
    return [layers.pairs(student, parent) for layers in term.layers]


def described(value: Any) -> str:
    """Return a term as text, equal for equal settings in every process; functions appear by name only."""
    if is_dataclass(value) and not isinstance(value, type):
        return f"{type(value).__name__}({', '.join(described(getattr(value, f.name)) for f in fields(value))})"
    if isinstance(value, tuple):
        return f"({', '.join(map(described, value))})"
    return getattr(value, "__qualname__", repr(value))


def _weighed(term: Term) -> None:
    if not 0 < term.weight < math.inf:
        raise DistillationError(f"weight = {term.weight!r}: it must be above 0 and finite; leave the loss out for none")


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise DistillationError(f"{name} = {value!r} is unknown: choose one of {', '.join(known)}")


def _alike(outputs: Tensor, parent: Tensor) -> None:
    if outputs.shape != parent.shape:
        raise DistillationError(
            f"the network's outputs are {tuple(outputs.shape)} and its parent's {tuple(parent.shape)}: they must be "
            "alike to be compared; let the parent have the same classes, or distil hidden states or relations"
        )
