"""Weights as constants: a step of the architecture asks for no gradient of theirs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from supernets.relaxation.modules import Expected


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Inside, a relaxed module's weights are constants; probabilities and inputs get the very same gradients.

    Forward and backward both belong inside, so that activations which are computed again find the weights as they were.
    Asking autograd for the gradients of the probabilities alone is not enough: a function of ours computes whatever its
    forward has announced.
    """
    leaves = [leaf for leaf in _leaves(module) if leaf.requires_grad]
    for leaf in leaves:
        leaf.requires_grad_(False)
    try:
        yield
    finally:
        for leaf in leaves:
            leaf.requires_grad_(True)


def _leaves(module: nn.Module) -> Iterator[nn.Parameter]:
    """What the module reads as it is, and what its expectations are made of."""
    yield from module.parameters()
    for own in module.modules():
        for computed in own.__dict__.get("_computed", {}).values():
            if isinstance(computed.function, Expected):
                yield computed.function.leaf
