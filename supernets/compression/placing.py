"""The chain that modules of a network make, by their names, and a network with another in its place."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from supernets.compression.chain import Chain
from supernets.errors import CompressionError


def chain_of(network: nn.Module, names: Sequence[str], example: Tensor) -> Chain:
    """The chain of the modules with these names, in the order they run.

    Where a network adds shortcuts between them by itself, give their modules to `Chain.read`, which adds them in its
    stead, and put the chain where the network has the whole block.

    Args:
        example: an input of the network, on which it must give the same with the chain in place.

    Raises:
        CompressionError: there is no such module, the network runs others between them or in another order, or as
            `Chain.read`.
    """
    chain = Chain.read([_named(network, name) for name in names])
    with torch.no_grad():
        before = copy.deepcopy(network).eval()(example)
        try:
            after = placed(network, names, chain).eval()(example)
        except RuntimeError:
            after = None
    if not isinstance(after, Tensor) or after.shape != before.shape or not torch.allclose(after, before, 1e-4, 1e-5):
        raise CompressionError(
            f"modules {', '.join(names)} do not run one behind the other in {type(network).__name__}, for outputs "
            "differ: name all modules of the chain, in order, and none that runs twice"
        )
    return chain


def placed(network: nn.Module, names: Sequence[str], chain: nn.Module) -> nn.Module:
    """A copy of the network that runs the chain in place of the modules with these names."""
    found = copy.deepcopy(network)
    for name in names:
        _named(found, name)
        found.set_submodule(name, nn.Identity())
    found.set_submodule(names[0], copy.deepcopy(chain))
    return found


def _named(network: nn.Module, name: str) -> nn.Module:
    try:
        return network.get_submodule(name)
    except AttributeError:
        raise CompressionError(f"{type(network).__name__} has no module {name!r}: see its named_modules()") from None
