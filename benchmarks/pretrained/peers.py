"""What others make of a trained model for a number of parameters, each used as its own guide says.

Torch-Pruning removes coupled groups of units (arXiv:2301.12900) at one ratio everywhere, found by bisection for a size;
nvidia-modelopt's FastNAS searches networks of convolutions and linear layers, a run a size. Neither is a dependency:
what is not installed is left out. whittle 0.6 works on litgpt's GPT class alone and with transformers before 4.54, so
it cannot take part.
"""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

Make = Callable[[float], nn.Module]
"""A pruned network for a pruning ratio."""


def installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def torch_pruning(
    parent: nn.Module,
    example: Tensor,
    importance: str,
    loss: Callable[[nn.Module], Tensor] | None,
    *,
    heads: Callable[[nn.Module], dict[nn.Module, int]],
    ignored: Callable[[nn.Module], list[nn.Module]],
    prepare: Callable[[nn.Module], None],
    settle: Callable[[nn.Module], None],
) -> Make:
    """Pruning by Torch-Pruning 1.6 with one ratio for all layers.

    Args:
        importance: "magnitude" or "taylor"; the latter reads gradients of `loss`.
        heads: the query, key and value layers of a model with their numbers of heads.
        ignored: layers whose outputs stay.
        prepare: brings a model into a form that its graph of dependencies can be told of.
        settle: puts attributes right that the model keeps beside its layers.
    """
    import torch_pruning as tp

    def make(ratio: float) -> nn.Module:
        model = copy.deepcopy(parent).eval()
        prepare(model)
        importances: dict[str, Any] = {
            "magnitude": tp.importance.GroupMagnitudeImportance,
            "taylor": tp.importance.GroupTaylorImportance,
        }
        pruner = tp.pruner.BasePruner(
            model,
            example,
            importance=importances[importance](),
            pruning_ratio=ratio,
            num_heads=heads(model),
            prune_num_heads=False,
            prune_head_dims=True,
            ignored_layers=ignored(model),
            root_module_types=[nn.Linear, nn.Conv2d],
            round_to=4,
        )
        if importance == "taylor":
            assert loss is not None
            model.zero_grad()
            loss(model).backward()
        pruner.step()
        model.zero_grad()
        settle(model)
        return model.eval()

    return make


def fastnas(
    parent: nn.Module, batches: list[Tensor], quality: Callable[[nn.Module], float], share: float, folder: Path
) -> nn.Module:
    """A network of so large a share of the parameters by FastNAS of nvidia-modelopt 0.47, a search for each size.

    Args:
        batches: to calibrate batch norm on, as its guide wants.
        quality: the higher, the better.
        folder: for its search, which goes on where it was stopped.
    """
    import modelopt.torch.prune as mtp

    model = copy.deepcopy(parent).eval()
    config = {
        "data_loader": [(x, x) for x in batches],
        "score_func": quality,
        "checkpoint": str(folder),
        "verbose": False,
    }
    pruned, _ = mtp.prune(
        model, mode="fastnas", constraints={"params": f"{share:.0%}"}, dummy_input=batches[0][:2], config=config
    )
    return pruned.eval()


def of_size(make: Make, size: Callable[[nn.Module], float], wanted: float, tries: int = 8) -> nn.Module:
    """Return the network with the lowest ratio that is no larger than wanted, by bisection."""
    low, high = 0.0, 0.97
    best = make(high)
    for _ in range(tries):
        middle = (low + high) / 2
        found = make(middle)
        if size(found) <= wanted:
            high, best = middle, found
        else:
            low = middle
    return best


def bert_heads(model: nn.Module) -> dict[nn.Module, int]:
    """Return the heads of the encoder of `benchmarks.pretrained.encoder`."""
    return {
        layer: own.num_attention_heads
        for own in model.modules()
        if type(own).__name__ == "BertSelfAttention"
        for layer in (own.query, own.key, own.value)
    }


def settle_bert(model: nn.Module) -> None:
    for own in model.modules():
        if type(own).__name__ == "BertSelfAttention":
            own.all_head_size = own.query.out_features
            own.attention_head_size = own.all_head_size // own.num_attention_heads


class Table(nn.Module):
    """A weight that is read, not called: of an `nn.Embedding` that is never called Torch-Pruning knows nothing."""

    def __init__(self, weight: nn.Parameter) -> None:
        super().__init__()
        self.weight = weight


def prepare_gpt(model: nn.Module) -> None:
    """Prepare a model of `supernets.models.gpt`, whose position embedding is not called."""
    positions = model.get_submodule("positions")
    assert isinstance(positions, nn.Embedding)
    model.set_submodule("positions", Table(positions.weight))


def settle_gpt(model: nn.Module) -> None:
    for own in model.modules():
        if isinstance(own, nn.RMSNorm):
            own.normalized_shape = tuple(own.weight.shape)


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def trained_alike(model: nn.Module, steps: int, loss: Callable[[nn.Module, int], Tensor], lr: float) -> nn.Module:
    """Return a copy trained for `steps` by the common recipe of all contenders: AdamW, warm-up, cosine."""
    model = copy.deepcopy(model).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr, weight_decay=0.01)
    warm = max(1, steps // 10)
    schedule = torch.optim.lr_scheduler.SequentialLR(
        optimizer,
        [
            torch.optim.lr_scheduler.LinearLR(optimizer, 1 / warm, 1.0, warm),
            torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps - warm),
        ],
        [warm],
    )
    for step in range(steps):
        loss(model, step).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return model.eval()


def gpt_heads(model: nn.Module) -> dict[nn.Module, int]:
    """Return the heads of a model of `supernets.models.gpt`."""
    return {
        layer: own.num_heads
        for own in model.modules()
        if type(own).__name__ == "Attention"
        for layer in (own.query, own.key, own.value)
    }
