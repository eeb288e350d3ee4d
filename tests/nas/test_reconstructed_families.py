"""Reconstructing models of many families: nothing is missed, the largest network stays, no layer gets worse."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from supernets import Supernet
from supernets.compression.reconstruction import reconstructed

pytest.importorskip("transformers", reason="the extra is not installed: pip install nas[transformers]")

import pretrained
from test_propose import imported, text

LEFT = {
    "gpt2": {"lm_head": "tied"},
    "llama": {"lm_head": "tied"},
    "bert": {"decoder": "tied"},
    "t5": {"lm_head": "tied"},
    "whisper": {"proj_out": "tied"},
    "hubert": {"conv": "by groups"},
    "mixtral": {},
    "phi3": {},
    "falcon": {"lm_head": "tied"},
    "mamba2": {"lm_head": "tied", "conv1d": "by groups"},
    "resnet": {},
    "convnext": {"": "by groups"},
}
"""Layers that cannot be fitted, by a part of their names, and why."""


class Inputs:
    """A task of one batch of inputs."""

    def __init__(self, inputs: tuple[Tensor, ...]) -> None:
        self.inputs = inputs

    def batch(self, step: int, seed: int) -> tuple[Tensor, ...]:
        return self.inputs

    def outputs(self, module: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        found: Tensor = module(*batch)
        return found


@pytest.mark.parametrize("family", LEFT)
def test_layers_of_each_family_are_fitted(family: str, tmp_path: Path) -> None:
    run, inputs = imported(text(family), tmp_path, family), pretrained.EXAMPLES[family]()
    net = Supernet(run.space, run.build, layout=run.LAYOUT, init=run.INIT)
    task: Any = Inputs(inputs)
    with torch.no_grad():
        largest = net.extract(run.space.largest()).eval()
        whole, _ = reconstructed(net, run.space.largest(), task, 2)
        assert torch.equal(task.outputs(whole, inputs), task.outputs(largest, inputs))
    _, found = reconstructed(net, run.space.smallest(), task, 2)
    assert sum(layer.kept for layer in found.layers) > len(found.layers) / 2, found.table()
    for name, why in found.left:
        assert any(part in name and reason in why for part, reason in LEFT[family].items()), found.table()
