"""Networks bound before, kept because some come again in every step."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from search_spaces import Architecture
from supernets.trainable import Trainable

NUM_KEPT_MODULES = 8192  # about 5 kB each


class KeptNetworks:
    """Networks in training mode; the last ones are kept, for some come again in every step."""

    def __init__(self, trained: Trainable) -> None:
        self._learner = trained
        self._kept: OrderedDict[tuple[Architecture, int], tuple[nn.Module, int]] = OrderedDict()
        self._modules = 0

    def at(self, arch: Architecture, route: int | None) -> nn.Module:
        key = arch, self._learner.route(arch) if route is None else route
        network, size = self._kept.pop(key, (None, 0))
        if network is None:
            network = self._learner.subnet(*key)
            size = sum(1 for _ in network.modules())
            self._modules += size
        self._kept[key] = network, size
        while self._modules > NUM_KEPT_MODULES and len(self._kept) > 1:
            _, (_, dropped) = self._kept.popitem(last=False)
            self._modules -= dropped
        return network.train()
