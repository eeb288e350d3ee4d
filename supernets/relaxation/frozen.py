"""Treat weights as constants: an architecture step needs no gradients of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from supernets.relaxation.modules import Expected


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Make a relaxed module's weights constants within the context; gradients of probabilities and inputs stay equal.

    Run both forward and backward inside, so that recomputed activations find the same state. To request only the
    gradients of the probabilities from autograd would not save the work: custom autograd functions compute every
    gradient that their forward pass announced.
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
    """Yield the parameters that the module reads directly, and those under its expectations."""
    yield from module.parameters()
    for own in module.modules():
        for computed in own.__dict__.get("_computed", {}).values():
            if isinstance(computed.function, Expected):
                yield computed.function.leaf
