"""Embeds checkpoints as graphs: units are nodes, weights are edges, in the order of the layers.

The embedding is invariant to permutations of hidden units: rows of one layer together with columns of the next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

_KINDS = ("bias", "weight", "running_mean", "running_var")
"""Ends of the names of vectors with a number per unit that are read; others are ignored."""
_EDGE = 2  # features of an edge: mean and standard deviation of its weights
_WIDTH = 6  # width of messages


@dataclass
class Layer:
    """A layer: edges (out, in, 2) from the units before, or (out, 2) from each unit to itself, and nodes (out, 4)."""

    edges: Tensor
    follows: bool
    """Whether its inputs are the outputs of the layer before; otherwise they are unknown."""
    nodes: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.nodes = torch.zeros(len(self.edges), len(_KINDS), dtype=torch.float64)

    @property
    def shape(self) -> tuple[object, ...]:
        """Key by which layers are batched."""
        return (*self.edges.shape, self.follows)


def layers(state: Mapping[str, Tensor]) -> list[Layer]:
    """Return the layers of a state dict, in its order.

    A matrix or kernel (out, in, ...) starts a layer. If `in` is a multiple of the units before, as after a flattened
    image, several numbers form one edge. Vectors that follow, with one number per unit, belong to its nodes.
    """
    found: list[Layer] = []
    for name, tensor in state.items():
        if not tensor.is_floating_point():
            continue
        if tensor.dim() >= 2:
            found.append(_layer(tensor.detach().double().cpu(), len(found[-1].edges) if found else None))
        elif found and tensor.shape == (len(found[-1].edges),) and (kind := name.rpartition(".")[2]) in _KINDS:
            found[-1].nodes[:, _KINDS.index(kind)] += tensor.detach().double().cpu()
    return found


def _layer(weight: Tensor, before: int | None) -> Layer:
    size, inputs = weight.shape[:2]
    if before is not None and inputs == 1 and before == size and weight.dim() > 2:  # depthwise
        return Layer(_edges(weight.reshape(size, -1)), True)
    if before is not None and inputs % before == 0:
        return Layer(_edges(weight.reshape(size, before, -1)) * before**0.5, True)
    return Layer(_edges(weight.reshape(size, inputs, -1)) * inputs**0.5, False)


def _edges(values: Tensor) -> Tensor:
    """Return mean and standard deviation of (..., k) numbers as (..., 2)."""
    return torch.stack([values.mean(-1), values.std(-1, correction=0)], -1)


class Reader(nn.Module):
    """Embeds networks: passes messages along the edges from layer to layer, and pools the units of all layers."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.edge, self.unit = nn.Linear(_EDGE, _WIDTH), nn.Linear(_WIDTH, _WIDTH, bias=False)
        self.node, self.message = nn.Linear(len(_KINDS), _WIDTH), nn.Linear(_WIDTH, _WIDTH)
        self.out = nn.Linear(2 * _WIDTH, size)
        self.double()

    def forward(self, networks: Sequence[Sequence[Layer]]) -> Tensor:
        """Return (n, size) embeddings of n networks; zeros for those without layers."""
        found = torch.zeros(len(networks), self.out.out_features, dtype=torch.float64)
        once = {id(network): network for network in networks if network}  # embed repeated networks once
        groups: dict[tuple[object, ...], list[int]] = {}
        for key, network in once.items():
            groups.setdefault(tuple(layer.shape for layer in network), []).append(key)
        places = {key: [i for i, network in enumerate(networks) if id(network) == key] for key in once}
        for keys in groups.values():
            embedded = self._together([list(row) for row in zip(*(once[key] for key in keys), strict=True)])
            rows = [(place, row) for row, key in enumerate(keys) for place in places[key]]
            targets, sources = torch.tensor(rows).T
            found = found.index_copy(0, targets, embedded[sources])
        return found

    def _together(self, chain: Sequence[Sequence[Layer]]) -> Tensor:
        """Return (b, size) embeddings of b networks of the same shapes, given layer by layer."""
        units: Tensor | None = None
        summed: list[Tensor] = []
        for same in chain:
            edges, nodes = torch.stack([one.edges for one in same]), torch.stack([one.nodes for one in same])
            heard = self.edge(edges)
            if same[0].follows and units is not None:
                told = self.unit(units)
                heard = heard + (
                    told if edges.dim() == 3 else told[:, None]
                )  # from the same unit, or from all units before
            heard = heard.relu() if edges.dim() == 3 else heard.relu().mean(2)
            units = torch.tanh(self.message(heard) + self.node(nodes))
            summed.append(torch.cat([units.mean(1), units.std(1, correction=0)], 1))
        embedded: Tensor = torch.sigmoid(self.out(torch.stack(summed).mean(0)))
        return embedded
