"""Sorting models of many families: the networks compute the same, and what each choice moves comes out in groups."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from supernets import Supernet
from supernets.compression.importance import Calibration
from supernets.compression.sorting import sort_units
from supernets.compression.symmetry import Networks, exact
from supernets.compression.units import Group

pytest.importorskip("transformers", reason="the extra is not installed: pip install nas[transformers]")

import pretrained
from test_propose import imported, text

# How many groups of how many units there are: the stream, heads or groups of queries, experts, hidden units.
UNITS = {
    "gpt2": {32: 1, 4: 3, 128: 3},
    "llama": {32: 1, 2: 3, 48: 3},
    "qwen3": {32: 1, 2: 3, 48: 3},
    "bert": {32: 1, 4: 3, 48: 3},
    "t5": {32: 1, 4: 4, 48: 4},  # of self-attention in one stack all heads share one table of positions
    "vit": {32: 1, 4: 3, 48: 3},
    "whisper": {32: 3, 4: 6, 48: 4},
    "hubert": {4: 3, 48: 3},
    "mixtral": {32: 1, 2: 3, 4: 3, 48: 3},
    "phi3": {32: 1, 2: 3, 48: 3},
    "falcon": {32: 1, 4: 3, 128: 3},
    "mamba2": {32: 1, 8: 3},
    "qwen3_moe": {32: 1, 2: 3, 4: 3, 24: 3},
    "deepseek": {32: 1, 4: 3, 16: 4},
    "resnet": {16: 2, 32: 3, 48: 3},
    "bottleneck": {32: 1, 8: 2, 64: 1, 16: 4},
    "convnext": {16: 1, 64: 1, 24: 1, 96: 1, 32: 1, 128: 3, 48: 1, 192: 1},
}
LEFT = {"hubert": {"width"}, "deepseek": {"experts"}}
"""A stream that a convolution in groups reads; experts that a router takes by groups."""


class Inputs:
    """A task of inputs alone, whose loss minds where every feature is."""

    metric = "loss"

    def __init__(self, inputs: tuple[Tensor, ...]) -> None:
        self.inputs = inputs

    def example(self, batch: int = 1) -> tuple[Tensor, ...]:
        return self.inputs

    def batch(self, step: int, seed: int) -> tuple[Tensor, ...]:
        return self.inputs

    def outputs(self, module: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        found: Tensor = module(*batch)
        return found

    def loss(self, outputs: Tensor, batch: Any) -> Tensor:
        return (outputs * torch.arange(outputs.shape[-1], dtype=outputs.dtype).cos()).square().mean()


def random_score(group: Group, calibration: Calibration) -> Tensor:
    return torch.rand(group.units, generator=torch.Generator().manual_seed(group.units))


@torch.no_grad()
def outputs(networks: Networks) -> list[Tensor]:
    """Of all networks, with the supernet's own weights in float64."""
    values = {name: exact(value) for name, value in networks.supernet.state_dict().items()}
    return [output for own in networks.outputs(values) for output in own]


@pytest.mark.parametrize("family", pretrained.one_of_a_kind(UNITS))
def test_units_of_each_kind_change_places_and_networks_compute_the_same(family: str, tmp_path: Path) -> None:
    run, inputs = imported(text(family), tmp_path, family), pretrained.EXAMPLES[family]()
    net = Supernet(run.space, run.build, layout=run.LAYOUT, init=run.INIT)
    networks = Networks(net, inputs)
    before = outputs(networks)
    found = sort_units(net, Inputs(inputs), random_score)  # type: ignore[arg-type]
    for one, other in zip(outputs(networks), before, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12 * max(1.0, float(other.abs().max())))
    assert Counter(group.units for group in found.groups) == UNITS[family], found.table()
    assert sum(found.moved) > 0
    left = {choice for own in found.left if own.why.startswith("the networks") for choice in own.choices}
    assert left == LEFT.get(family, set())
