"""Learning rates and initial variances that follow the architecture: one setting serves small and large networks.

The largest learning rate that keeps what a step changes at the same size is proportional to (sum of L^3)^(-1/2) / q,
with L the number of layers on each path through the network and q the size of its kernels (Chen et al.,
arXiv:2402.17440, for stochastic gradient descent on ReLU networks): L^(-3/2) on a chain. A network of residual blocks
has as many paths as there are subsets of its blocks, so that sum grows exponentially; in its place one may take the
shortest path with the sums on it (arXiv:2602.07494). A setting is a rate found for one network, the base; another has
that rate times the quotient of both. What it gains and costs: benchmarks/results/methods.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from supernets.connectivity import Connectivity, connectivity
from supernets.spelling import parse


@dataclass(frozen=True)
class Scaling:
    """A rule for the learning rate of a network relative to that of the base network."""

    name: ClassVar[str]

    variance: bool = False
    """Whether initial weights are scaled too: by d^(-1/2) if a layer's output is one of d summands."""

    def depth(self, network: Connectivity) -> int:
        """Return the number that the square of the rate is inversely proportional to; at least 1."""
        raise NotImplementedError

    def factor(self, network: Connectivity, base: Connectivity) -> float:
        """Return the learning rate of a network as a multiple of the base network's."""
        ours, theirs = (math.log(max(1, self.depth(one))) for one in (network, base))  # they may be past all floats
        return math.exp((theirs - ours) / 2) * base.kernel / network.kernel


@dataclass(frozen=True)
class Unscaled(Scaling):
    """All networks have the same learning rate, and the default initial weights of their modules."""

    name: ClassVar[str] = "none"

    def depth(self, network: Connectivity) -> int:
        return 1

    def factor(self, network: Connectivity, base: Connectivity) -> float:
        return 1.0


@dataclass(frozen=True)
class Paths(Scaling):
    """Scaling by the sum of the cubes of the lengths of all paths (arXiv:2402.17440, eq. 8 and 9)."""

    name: ClassVar[str] = "paths"

    def depth(self, network: Connectivity) -> int:
        return sum(number * length**3 for length, number in network.paths.items())


@dataclass(frozen=True)
class Shortest(Scaling):
    """Scaling by the cube of the length of the shortest path, where residual sums count (arXiv:2602.07494)."""

    name: ClassVar[str] = "shortest"

    def depth(self, network: Connectivity) -> int:
        return network.shortest**3


SCALINGS: Mapping[str, type[Scaling]] = {method.name: method for method in (Unscaled, Paths, Shortest)}


def scaling(text: str) -> Scaling:
    """The rule that a text names, such as ``paths(variance=yes)``.

    Raises:
        SpellingError: listing what there is.
    """
    return parse(text, SCALINGS, "scaling")


@torch.no_grad()
def scale_variance(module: nn.Module, example: Tensor) -> nn.Module:
    """Divide the weight of each layer whose output is one of d that are added up by the root of d, in place.

    The sum then has the variance of one of them (arXiv:2402.17440, eq. 4, with d the in-degree of the vertex; what is
    stated there of the width is what modules' own initialisation does already).
    """
    terms = connectivity(module, example).terms
    for name, parameter in module.named_parameters():
        if parameter.dim() > 1 and name in terms:
            parameter.div_(math.sqrt(terms[name]))
    return module
