"""Parameters that fuse parts of unequal sizes, stored as separate tensors that are sliced separately.

A module reads the concatenation that `Joined` computes, as a parametrized weight; `whole` restores ordinary parameters.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from supernets.layout import Parts


class Joined(nn.Module):
    """Maps the parts to the parameter (`forward`), and back (`right_inverse`)."""

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self.parts = parts

    def forward(self, *tensors: Tensor) -> Tensor:
        axis, groups = self.parts.axis, self.parts.groups
        if groups == 1:
            return torch.cat(tensors, axis)
        return torch.cat([_grouped(tensor, axis, groups) for tensor in tensors], axis + 1).flatten(axis, axis + 1)

    def right_inverse(self, tensor: Tensor) -> tuple[Tensor, ...]:
        axis, groups = self.parts.axis, self.parts.groups
        sizes = [size // groups for size in self.parts.sizes]
        cut = torch.split(_grouped(tensor, axis, groups), sizes, axis + 1)
        return tuple(part.flatten(axis, axis + 1).clone(memory_format=torch.contiguous_format) for part in cut)


def _grouped(tensor: Tensor, axis: int, groups: int) -> Tensor:
    shape = tensor.shape
    return tensor.reshape(*shape[:axis], groups, shape[axis] // groups, *shape[axis + 1 :])


def take_apart(owner: nn.Module, attribute: str, parts: Parts) -> None:
    """Make a module store a parameter in parts."""
    parametrize.register_parametrization(owner, attribute, Joined(parts))


def whole(module: nn.Module) -> nn.Module:
    """Replace the parameters that are stored in parts by ordinary ones, in place; return the module."""
    for owner in module.modules():
        for attribute in list(_joined(owner)):
            parametrize.remove_parametrizations(owner, attribute)
    return module


def joined(module: nn.Module) -> Iterator[tuple[str, Joined, tuple[str, ...]]]:
    """Yield the parameters that are stored in parts: name, join, and names of the parts."""
    for path, owner in module.named_modules():
        prefix = path + "." if path else ""
        for attribute, join in _joined(owner).items():
            below = f"{prefix}parametrizations.{attribute}.original"
            names = tuple(f"{below}{number}" for number in range(len(join.parts.sizes)))
            yield prefix + attribute, join, names


def _joined(owner: nn.Module) -> dict[str, Joined]:
    lists = owner._modules.get("parametrizations")
    if not isinstance(lists, nn.ModuleDict):
        return {}
    firsts = {attribute: next(steps.children()) for attribute, steps in lists.named_children()}
    return {attribute: first for attribute, first in firsts.items() if isinstance(first, Joined)}
