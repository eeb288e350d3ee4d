"""Weight sharing: one hook from (architecture, parameter name, shape) to the tensor that the module reads.

A `Sharing` is a declaration, a plain value. Bound to the store of a supernet it becomes `Weights`, which may change the
stored tensors: add copies of a tensor or routers, or replace several tensors by one.
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
    """The space, store and survey to which a sharing is bound, and a source of initial values."""

    space: Space
    store: Store
    survey: Survey
    seed: int
    initialise: Callable[[int], dict[str, Tensor]]
    """Maps an index 1, 2, ... to another independent initialisation of every parameter, at full size."""

    def drawn(self, name: str) -> Iterator[Tensor]:
        """Yield independent initialisations of one parameter, without end."""
        index = 1
        while True:
            yield self.initialise(index)[name]
            index += 1


class Weights:
    """A sharing bound to a store; it looks up tensors by name at each use."""

    notes: tuple[str, ...] = ()
    """Automatic decisions, for reports."""

    def __init__(self, ground: Ground) -> None:
        self.store = ground.store

    def at(self, arch: Architecture, route: int) -> Callable[[str, Shape], Reading]:
        """Return a function from a parameter's name and shape in the network of ``arch`` to what the network reads."""
        raise NotImplementedError

    def route(self, arch: Architecture) -> int:
        """Return the model, among several whole models, to which an architecture currently belongs."""
        return 0

    def accompany(self, plan: Plan, course: Course) -> Plan:
        """Return the plan of a training; a sharing that learns during training returns a wrapper around it."""
        return plan


def check_blocks(names: Iterable[str], store: Store, remedy: str) -> None:
    """Raise if a parameter, whose rows get coefficients, has an architecture-dependent number of blocks."""
    for name in names:
        if store.parameters[name].axes.grids:
            raise SupernetError(
                f"{name} is in another number of blocks in other networks, so its rows have no fixed coefficients: "
                f"{remedy}"
            )


@dataclass(frozen=True)
class Sharing:
    """A rule that assigns tensors to an architecture."""

    name: ClassVar[str]

    def bind(self, ground: Ground) -> Weights:
        raise NotImplementedError

    def num_elements(self, shapes: Mapping[str, Shape]) -> int:
        """Return the number of stored values for parameters of these shapes, without allocation."""
        return sum(map(prod, shapes.values()))


@dataclass(frozen=True)
class Entangled(Sharing):
    """Every architecture uses its slice of one stored tensor.

    "Weight entanglement" in AutoFormer, arXiv:2107.00651, section 3.2.
    """

    name: ClassVar[str] = "entangled"

    def bind(self, ground: Ground) -> Weights:
        return _Entangled(ground)


class _Entangled(Weights):
    def at(self, arch: Architecture, route: int) -> Callable[[str, Shape], Reading]:
        return lambda name, shape: self.store.parameters[name].leaf(shape)
