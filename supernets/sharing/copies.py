"""Common parts of sharings with several whole models: copies of every parameter, and choices named by path.

Model 0 keeps the plain names; model 2's copy of ``head.weight`` is ``head.weight@2``. A network reads only one model,
so the others get no gradient and the optimiser leaves them unchanged.
"""

from collections.abc import Callable, Mapping

from torch import Tensor

from search_spaces import Architecture, Space
from search_spaces.narrowing import of_all_positions
from supernets.errors import SupernetError
from supernets.layout import Shape
from supernets.sharing.base import Ground, Weights
from supernets.store import Reading, SharedTensor


class SharingError(SupernetError):
    """A setting of a sharing is invalid, or does not fit the space."""


class Copies(Weights):
    """Several whole models in one store; a subclass decides which of them an architecture reads.

    Args:
        values: maps a model 1, 2, ... to the initial values of its parameters.
    """

    def __init__(self, ground: Ground, num_models: int, values: Callable[[int], Mapping[str, Tensor]]) -> None:
        super().__init__(ground)
        self.space = ground.space
        self.num_models = num_models
        self.names = tuple(self.store.parameters)  # of model 0
        for model in range(1, num_models):
            own = values(model)
            for name in self.names:
                first = self.store.parameters[name]
                copy = SharedTensor(copied(name, model), own[name].clone(), first.axes, first.trainable)
                self.store.parameters[copy.name] = copy

    def at(self, arch: Architecture, route: int) -> Callable[[str, Shape], Reading]:
        if not 0 <= route < self.num_models:
            raise SharingError(f"route = {route}: there are {self.num_models} models, 0 to {self.num_models - 1}")
        return lambda name, shape: self.store.parameters[copied(name, route)].leaf(shape)


def copied(name: str, model: int) -> str:
    """Return the name of a model's copy of a parameter."""
    return f"{name}@{model}" if model else name


def check_models(models: int) -> None:
    if models < 1:
        raise SharingError(f"models = {models}: it must be 1 or more; 4 is a good start")


def slots_named(space: Space, path: str) -> list[int]:
    """Return the slots of a path; without a position it means all of them: ``heads`` is heads.0, heads.1, ...

    Raises:
        SharingError: the space has no such choice; the message lists its choices.
    """
    paths = [slot.path for slot in space.slots]
    found = [index for index, own in enumerate(paths) if path in (own, of_all_positions(own))]
    if not found:
        there = ", ".join(dict.fromkeys(map(of_all_positions, paths)))
        raise SharingError(f"{space.name} has no choice {path!r}: its choices are {there}")
    return found
