"""Weight sharing: one hook, from (architecture, parameter name, shape) to the tensor the module reads.

A `Sharing` is a declaration, a value that can be written down; bound to the store of a supernet it becomes `Weights`,
which may have changed what is stored: further copies of a tensor, routers, one tensor in place of several.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from search_spaces import Architecture, Space
from supernets.errors import SupernetError
from supernets.layout import Shape
from supernets.store import Reading, Store

if TYPE_CHECKING:
    from supernets.steps import Course, Plan
    from supernets.survey import Survey


@dataclass(frozen=True)
class Ground:
    """The space, store and survey that a sharing is bound to, with a source of initial values."""

    space: Space
    store: Store
    survey: Survey
    seed: int
    initialise: Callable[[int], dict[str, Tensor]]
    """From an index 1, 2, ... to another independent initialisation of every parameter, at full size."""

    def drawn(self, name: str) -> Iterator[Tensor]:
        """Independent initialisations of one parameter, one after the other."""
        index = 1
        while True:
            yield self.initialise(index)[name]
            index += 1


class Weights:
    """A sharing bound to a store, which it reads by name whenever it needs a tensor."""

    notes: tuple[str, ...] = ()
    """Decisions that it made by itself, for reports."""

    def __init__(self, ground: Ground) -> None:
        self.store = ground.store

    def at(self, arch: Architecture, route: int) -> Callable[[str, Shape], Reading]:
        """From a parameter's name and shape in the network of ``arch`` to what the network reads."""
        raise NotImplementedError

    def route(self, arch: Architecture) -> int:
        """Which of several whole models an architecture belongs to now."""
        return 0

    def accompany(self, plan: Plan, course: Course) -> Plan:
        """The plan of a training, for a sharing that itself learns from the training to take part in."""
        return plan


def check_blocks(names: Iterable[str], store: Store, remedy: str) -> None:
    """Raise where the number of blocks of a parameter whose rows get coefficients depends on the architecture."""
    for name in names:
        if store.parameters[name].axes.grids:
            raise SupernetError(
                f"{name} is in another number of blocks in other networks, so its rows have no fixed coefficients: "
                f"{remedy}"
            )


@dataclass(frozen=True)
class Sharing:
    """A rule that gives an architecture its tensors."""

    name: ClassVar[str]

    def bind(self, ground: Ground) -> Weights:
        raise NotImplementedError

    def num_elements(self, shapes: Mapping[str, Shape]) -> int:
        """Return how many numbers are stored for parameters of these shapes; allocates nothing."""
        return sum(map(prod, shapes.values()))


@dataclass(frozen=True)
class Entangled(Sharing):
    """Every architecture uses its box of the one stored tensor.

    "Weight entanglement" in AutoFormer, arXiv:2107.00651, section 3.2.
    """

    name: ClassVar[str] = "entangled"

    def bind(self, ground: Ground) -> Weights:
        return _Entangled(ground)


class _Entangled(Weights):
    def at(self, arch: Architecture, route: int) -> Callable[[str, Shape], Reading]:
        return lambda name, shape: self.store.parameters[name].leaf(shape)
