"""Which layers of a network learn from which of its parent's, and what their modules give while they run.

Layers are modules by name. A pattern matches name by name: ``blocks.*`` is every child of ``blocks`` and nothing below
it, as `*` stands within one part of a dotted name.
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
"""Names of a network's layers, each with that of the parent's layer it learns from."""


class DistillationError(SupernetError):
    """A setting of distillation that cannot be, or a parent that teaches nothing."""


# --- which from which ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Every:
    """Every layer of a network learns from one of the parent's; they are spread evenly, and the last from the last.

    Layer i of n learns from layer ceil((i + 1) m / n) - 1 of the parent's m, both counted from 0: of 12, six layers
    learn from 1, 3, 5, 7, 9 and 11. So each depth of a supernet has a mapping of its own.
    """

    student: str
    """Name pattern, ``blocks.*``; layers come in the module's order."""
    parent: str = ""
    """Likewise; empty where the parent's layers have the same names."""
    last: bool = False
    """Only the last learns, from the last (MiniLM, arXiv:2002.10957)."""

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
    """Layers by name, each with the parent's; a shallow network, which lacks some of them, learns the others."""

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
    """Each of the parent's layers teaches the one that is nearest to it on the batch at hand (CoFi, arXiv:2204.00408).

    So the assignment is learnt: layers that masks have emptied teach and learn little, and others take their place.
    Only `Hidden` compares layers, and takes the least distance for each of the parent's.
    """

    student: str
    """Name pattern, ``blocks.*``."""
    parent: str = ""
    """Likewise; empty where the parent's layers have the same names. Fewer layers than there are cost less."""

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
    """All layers that a pattern names, evenly from the parent's; see `Every`."""
    return Every(student, parent)


def nearest(student: str, parent: str = "") -> Nearest:
    """Each of the parent's layers from whichever is nearest to it; see `Nearest`."""
    return Nearest(student, parent)


def last(student: str, parent: str = "") -> Every:
    """The last layer that a pattern names, from the parent's last."""
    return Every(student, parent, last=True)


def matching(network: nn.Module, pattern: str, whose: str) -> list[str]:
    """The names of modules that match a pattern, in the module's order.

    Raises:
        DistillationError: none does.
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


# --- what they give -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Observed:
    """What a network made of a batch: its outputs, and what some of its modules gave, by name."""

    outputs: Tensor
    hidden: Mapping[str, Tensor]


@contextmanager
def hearing(network: nn.Module, names: Iterable[str]) -> Iterator[dict[str, Tensor]]:
    """What modules give while the network runs, by name; of one that runs more than once, the last.

    The hooks are there for this one context, so nothing about a network says that anybody listens.

    Raises:
        DistillationError: when a module gives no floating point tensor.
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
    """A tensor, or the first of a tuple, list or mapping of them, as blocks of transformers give."""
    return next(leaves(output), None)
