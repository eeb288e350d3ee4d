"""How architectures share weights: one hook, from (parameter, architecture, shape) to the tensor the module uses."""

from typing import Protocol

from torch import Tensor

from search_spaces import Architecture
from supernets.layout import Shape
from supernets.store import SharedTensor


class Sharing(Protocol):
    """A rule that gives an architecture its tensors."""

    name: str

    def tensor(self, shared: SharedTensor, arch: Architecture, shape: Shape) -> Tensor:
        """The tensor ``arch`` uses for a parameter of ``shape``, differentiable; blocked where axes are fused."""
        ...

    def copy(self, shared: SharedTensor, arch: Architecture, shape: Shape) -> Tensor:
        """The same values, independent of the store, at ``shape``."""
        ...


class Entangled:
    """Every architecture uses its box of the one stored tensor.

    "Weight entanglement" in AutoFormer, arXiv:2107.00651, section 3.2.
    """

    name = "entangled"

    def tensor(self, shared: SharedTensor, arch: Architecture, shape: Shape) -> Tensor:
        return shared.leaf(shape)

    def copy(self, shared: SharedTensor, arch: Architecture, shape: Shape) -> Tensor:
        return shared.copy(shape)
