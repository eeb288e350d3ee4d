"""Pair the layers of a network with layers of its parent, and capture the outputs of modules during a pass.

Layers are named modules. Patterns match each part of a dotted name separately, so ``blocks.*`` matches every child of
``blocks`` and nothing below it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor, nn

from supernets.errors import SupernetError
from supernets.views import leaves

Pairs = list[tuple[str, str]]
"""Names of a network's layers, each with the name of the parent's layer from which it learns."""


class DistillationError(SupernetError):
    """A setting of distillation is invalid, or the parent provides nothing to learn from."""


# --- pairs of layers ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Every:
    """Every layer of a network learns from one of the parent's layers, evenly spaced and ending with the last.

    Layer i of n learns from layer ceil((i + 1) m / n) - 1 of the parent's m, both counted from 0: six layers learn from
    1, 3, 5, 7, 9 and 11 of twelve. Each depth of a supernet thus has its own mapping.
    """

    student: str
    """Name pattern of the network's layers, such as ``blocks.*``; layers keep the module's order."""
    parent: str = ""
    """Name pattern of the parent's layers; empty means the same pattern."""
    last: bool = False
    """Pair only the last layers (MiniLM, arXiv:2002.10957)."""

    def pairs(self, student: nn.Module, parent: nn.Module) -> Pairs:
        learning, teaching = matching(student, self.student, "the network"), self.teaching(parent)
        n, m = len(learning), len(teaching)
        found = [(name, teaching[-(-(i + 1) * m // n) - 1]) for i, name in enumerate(learning)]
        return found[-1:] if self.last else found

    def teaching(self, parent: nn.Module) -> list[str]:
        found = matching(parent, self.parent or self.student, "the parent")
        return found[-1:] if self.last else found

    def check(self, student: nn.Module) -> None:
        matching(student, self.student, "the network")


@dataclass(frozen=True)
class Mapped:
    """Layers by name, each with a layer of the parent; a network skips layers that it lacks."""

    names: tuple[tuple[str, str], ...]

    def __init__(self, names: Mapping[str, str] | Iterable[tuple[str, str]]) -> None:
        pairs = tuple(names.items()) if isinstance(names, Mapping) else tuple(names)
        if not pairs:
            raise DistillationError("a mapping of layers is empty: name a layer and the parent's it learns from")
        object.__setattr__(self, "names", pairs)

    def pairs(self, student: nn.Module, parent: nn.Module) -> Pairs:
        there = dict(student.named_modules())
        found = [(own, teaching) for own, teaching in self.names if own in there]
        if not found:
            raise _unknown(self.names[0][0], student, "the network")
        return found

    def teaching(self, parent: nn.Module) -> list[str]:
        return [_known(name, parent, "the parent") for _, name in self.names]

    def check(self, student: nn.Module) -> None:
        for name, _ in self.names:
            _known(name, student, "the largest network")


@dataclass(frozen=True)
class Nearest:
    """Each of the parent's layers teaches the nearest layer on the current batch (CoFi, arXiv:2204.00408).

    The assignment thus adapts: when masks empty a layer, another takes its place. Only `Hidden` compares layers; it
    takes the least distance for each of the parent's layers.
    """

    student: str
    """Name pattern of the network's layers, such as ``blocks.*``."""
    parent: str = ""
    """Name pattern of the parent's layers; empty means the same pattern. Fewer layers cost less."""

    def pairs(self, student: nn.Module, parent: nn.Module) -> Pairs:
        return [
            (own, taught) for taught in self.teaching(parent) for own in matching(student, self.student, "the network")
        ]

    def teaching(self, parent: nn.Module) -> list[str]:
        return matching(parent, self.parent or self.student, "the parent")

    def check(self, student: nn.Module) -> None:
        matching(student, self.student, "the network")


Layers = Every | Mapped | Nearest


def every(student: str, parent: str = "") -> Every:
    """Return pairs of all layers that match a pattern with evenly spaced layers of the parent; see `Every`."""
    return Every(student, parent)


def nearest(student: str, parent: str = "") -> Nearest:
    """Return pairs of each of the parent's layers with the network's nearest layer; see `Nearest`."""
    return Nearest(student, parent)


def last(student: str, parent: str = "") -> Every:
    """Return the pair of the last layer that matches a pattern and the parent's last."""
    return Every(student, parent, last=True)


def matching(network: nn.Module, pattern: str, whose: str) -> list[str]:
    """Return the names of modules that match a pattern, in the module's order.

    Raises:
        DistillationError: no module matches.
    """
    wanted = pattern.split(".")
    found = [
        name
        for name, _ in network.named_modules()
        if name and len(parts := name.split(".")) == len(wanted) and all(map(fnmatchcase, parts, wanted))
    ]
    if not found:
        raise _unknown(pattern, network, whose)
    return found


def _known(name: str, network: nn.Module, whose: str) -> str:
    if name not in dict(network.named_modules()):
        raise _unknown(name, network, whose)
    return name


def _unknown(name: str, network: nn.Module, whose: str) -> DistillationError:
    known = [path for path, _ in network.named_modules() if path]
    listed = ", ".join(known[:8]) + ", ..." * (len(known) > 8)
    return DistillationError(f"{whose} has no layer {name!r}: its modules are {listed or 'none'}")


# --- captured outputs -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Observed:
    """The outputs of a network on a batch, and the outputs of some of its modules by name."""

    outputs: Tensor
    hidden: Mapping[str, Tensor]


@contextmanager
def hearing(network: nn.Module, names: Iterable[str]) -> Iterator[dict[str, Tensor]]:
    """Capture the outputs of modules by name while the network runs; repeated runs keep the last output.

    The hooks exist only within the context, so the network itself stays unchanged.

    Raises:
        DistillationError: a module returns no floating-point tensor.
    """
    heard: dict[str, Tensor] = {}
    hooks = [network.get_submodule(name).register_forward_hook(_hear(name, heard)) for name in names]
    try:
        yield heard
    finally:
        for hook in hooks:
            hook.remove()


def _hear(name: str, heard: dict[str, Tensor]) -> Any:
    def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        found = _first(output)
        if found is None or not found.is_floating_point():
            raise DistillationError(
                f"the layer {name!r}, a {type(module).__name__}, gives {type(output).__name__} and no floating point "
                "tensor to learn from: name another module"
            )
        heard[name] = found

    return hook


def _first(output: Any) -> Tensor | None:
    """Return the first tensor of a module's output, because blocks of transformers models return tuples."""
    return next(leaves(output), None)
