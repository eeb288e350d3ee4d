"""Read named modules of a network as a chain, and put another chain in their place."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from supernets.compression.chain import Chain
from supernets.errors import CompressionError


def chain_of(network: nn.Module, names: Sequence[str], example: Tensor) -> Chain:
    """Return the chain of the modules with these names, in the order they run.

    A network whose own `forward` adds shortcuts between the modules needs another way: pass the modules and shortcuts
    to `Chain.read`, which adds the shortcuts itself, and put the chain in place of the whole block.

    Args:
        example: an input of the network, which checks that the network with the chain computes the same outputs.

    Raises:
        CompressionError: a name has no module, the network runs other modules between them or in another order, or
            `Chain.read` raises it.
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
    """Return a copy of the network that runs the chain in place of the modules with these names."""
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
