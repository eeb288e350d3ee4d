"""Sorting units: the largest network computes the same, small ones keep the highest scores, and heads stay whole."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from search_spaces import Architecture, Space, choice
from supernets import Supernet
from supernets.compression.coupling import coupled
from supernets.compression.importance import SCORES, Calibration
from supernets.compression.sorting import Sorted, sort_units
from supernets.compression.symmetry import Networks, Symmetry
from supernets.compression.units import Group, candidates
from supernets.errors import CompressionError, SupernetError
from supernets.sharing import Routed
from supernets.spelling import SpellingError
from supernets.tasks import Classification
from tests.supernets.zoo import ZOO


class Inputs:
    """A task of which only inputs and a loss that reads all outputs are asked."""

    metric = "loss"

    def __init__(self, example: Tensor) -> None:
        self.inputs = example

    def example(self, batch: int = 1) -> Tensor:
        return self.inputs[:batch]

    def batch(self, step: int, seed: int) -> Tensor:
        return self.inputs.roll(step, 0)

    def outputs(self, module: nn.Module, batch: Tensor) -> Tensor:
        found: Tensor = module(batch)
        return found

    def loss(self, outputs: Tensor, batch: Tensor) -> Tensor:
        places = torch.arange(outputs.shape[-1], dtype=outputs.dtype)
        return (outputs * places.cos()).square().mean()

    def calibration(self, n: int) -> Iterator[Tensor]:
        return (self.inputs for _ in range(n))


def random_score(group: Group, calibration: Calibration) -> Tensor:
    return torch.rand(group.units, generator=torch.Generator().manual_seed(group.units))


def made(name: str) -> Supernet:
    """One of the zoo, its weights and statistics drawn anew so that no two units are alike."""
    case = ZOO[name]
    supernet = Supernet(case.space, case.build, layout=case.layout, dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    supernet.load_state_dict(
        {
            key: torch.rand(value.shape, generator=generator, dtype=torch.float64) + 0.5
            if "running_var" in key
            else value + torch.randn(value.shape, generator=generator, dtype=torch.float64) / 10
            if value.is_floating_point()
            else value
            for key, value in supernet.state_dict().items()
        }
    )
    return supernet


def outputs(supernet: Supernet, example: Tensor) -> Tensor:
    with torch.no_grad():
        found: Tensor = supernet.extract(supernet.space.largest()).eval()(example)
    return found


GROUPS = {
    "conv": 4,
    "grouped": 0,
    "fused": 2,
    "encoder": 2,
    "recurrent": 1,
    "u_shaped": 1,
    "tied": 2,
    "forked": 0,
    "copied": 0,
    "normed": 2,
}
"""How many are found at least."""


@pytest.mark.parametrize("name", ZOO)
def test_the_largest_network_computes_the_same(name: str) -> None:
    supernet, example = made(name), ZOO[name].example()
    example = example.double() if example.is_floating_point() else example
    before = outputs(supernet, example)
    found = sort_units(supernet, Inputs(example), random_score)  # type: ignore[arg-type]
    assert len(found.groups) >= GROUPS[name], found.table()
    assert sum(found.moved) > 0 or not found.groups
    torch.testing.assert_close(outputs(supernet, example), before, rtol=1e-12, atol=1e-12)


# --- by hand ------------------------------------------------------------------------------------------------------


class Widths(Space):
    hidden = choice(1, 2, 3, 4)


def perceptron(arch: Architecture) -> nn.Module:
    return nn.Sequential(nn.Linear(5, arch.hidden), nn.ReLU(), nn.Linear(arch.hidden, 3))


def task(**changes: Any) -> Classification:
    rng = np.random.default_rng(0)

    def split(n: int) -> tuple[np.ndarray, np.ndarray]:
        return rng.normal(size=(n, 5)).astype(np.float32), rng.integers(0, 3, n)

    return Classification(split(40), split(20), batch_size=8, **changes)


def by_hand(name: str, supernet: Supernet, data: Classification) -> Tensor:
    """The score of the perceptron's hidden units, computed in another way."""
    first, _, last = supernet.extract(supernet.space.largest())
    scores = []
    for number in range(8):
        inputs, targets = data.batch(number, 0)
        hidden = first(inputs).relu()
        loss = nn.functional.cross_entropy(last(hidden), targets)
        g = torch.autograd.grad(loss, [first.weight, first.bias, last.weight])
        products = torch.cat([first.weight * g[0], (first.bias * g[1])[:, None], (last.weight * g[2]).T], dim=1)
        scores.append(
            {
                "taylor": products.sum(1).abs(),
                "hessian": products.square().sum(1),
                "activation": hidden.abs().mean(0),
            }.get(name, torch.zeros(4))
        )
    if name == "magnitude":
        energies = [first.weight.square().sum(1), last.weight.square().sum(0)]
        return sum((energy / energy.sum() for energy in energies), torch.zeros(4)).detach()
    return torch.stack(scores).mean(0).detach()


@pytest.mark.parametrize("name", SCORES)
def test_small_networks_keep_the_units_of_the_highest_scores(name: str) -> None:
    supernet, data = Supernet(Widths(), perceptron), task()
    before = supernet.state_dict()["0.weight"].clone()
    order = by_hand(name, supernet, data).argsort(descending=True)
    found = sort_units(supernet, data, name)
    assert [group.units for group in found.groups] == [4]
    for size in (1, 2, 3, 4):
        small = supernet.extract(Widths().architecture({"hidden": size}))
        torch.testing.assert_close(small[0].weight.data, before[order[:size]])
    assert sort_units(supernet, data, name).moved == (0,)


def test_equal_units_keep_their_places() -> None:
    supernet = Supernet(Widths(), perceptron)
    before = {name: value.clone() for name, value in supernet.state_dict().items()}
    assert sort_units(supernet, task(), lambda group, _: torch.ones(group.units)).moved == (0,)
    torch.testing.assert_close(supernet.state_dict(), before, rtol=0, atol=0)


class Shared(Space):
    hidden = choice(2, 4, 8)


def two_blocks(arch: Architecture) -> nn.Module:
    def block() -> nn.Module:
        return nn.Sequential(nn.Linear(5, arch.hidden), nn.ReLU(), nn.Linear(arch.hidden, 5))

    return nn.Sequential(block(), block(), nn.Linear(5, 3))


def test_blocks_that_share_a_choice_are_sorted_each_for_itself() -> None:
    supernet = Supernet(Shared(), two_blocks)
    groups, left = coupled(Networks(supernet, torch.randn(2, 5)))
    assert [sorted(part.name for part in group.parts) for group in groups] == [
        [f"{block}.0.bias", f"{block}.0.weight", f"{block}.2.weight"] for block in (0, 1)
    ]
    assert not left


class Embedding(Space):
    width = choice(2, 4, 6)


def encoder(arch: Architecture) -> nn.Module:
    return nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, arch.width))


class Similar(Inputs):
    """A loss of what resembles what, for which the order of features is nothing."""

    def loss(self, outputs: Tensor, batch: Tensor) -> Tensor:
        return (outputs @ outputs.T).square().mean()


def test_features_of_the_outputs_change_places_only_where_the_task_does_not_mind() -> None:
    example = torch.randn(6, 5)
    kept = sort_units(Supernet(Embedding(), encoder), Inputs(example), "magnitude")  # type: ignore[arg-type]
    assert not kept.groups and "compute something else" in kept.table()
    supernet = Supernet(Embedding(), encoder)
    before = outputs(supernet, example)
    found = sort_units(supernet, Similar(example), random_score)  # type: ignore[arg-type]
    assert [group.outputs for group in found.groups] == [True]
    after = outputs(supernet, example)
    torch.testing.assert_close(after.sort(dim=1).values, before.sort(dim=1).values)
    assert "the outputs' features with them" in found.table()


class Moody(nn.Module):
    """What it computes depends on the order of its units once a weight is large, as no random one is."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(5, arch.hidden), nn.Linear(arch.hidden, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x).relu()
        place = torch.arange(1.0, hidden.shape[-1] + 1).to(hidden)
        return self.last(torch.where(self.first.weight.abs().max() > 50, hidden * place, hidden))


def test_units_stay_where_the_given_weights_mind_their_order() -> None:
    supernet = Supernet(Widths(), Moody)
    supernet.state_dict()["first.weight"][0, 0] = 100.0
    before, example = supernet.state_dict()["first.weight"].clone(), task().example(6)
    expected = outputs(supernet, example)
    found = sort_units(supernet, task(), random_score)
    assert not found.groups and found.left
    assert torch.equal(supernet.state_dict()["first.weight"], before)
    torch.testing.assert_close(outputs(supernet, example), expected, rtol=0, atol=0)


class Odd(Space):
    hidden = choice(2, 3)


def test_sizes_without_a_common_unit_are_cut_into_single_ones() -> None:
    supernet = Supernet(Odd(), perceptron)
    (group,), _ = coupled(Networks(supernet, torch.randn(2, 5)))
    assert group.units == 3


# --- models of others -----------------------------------------------------------------------------------------------


def transformers_models() -> dict[str, Callable[[], tuple[Space, Callable[[Architecture], nn.Module]]]]:
    from tests.supernets import test_transformers as theirs

    return {
        "bert": lambda: (theirs.BertSpace(), theirs.bert),
        "llama": lambda: (theirs.LlamaSpace(), theirs.llama),
    }


class Logits(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        found = self.model(tokens)
        return found.logits if hasattr(found, "logits") else found.last_hidden_state.square().sum(-1)  # type: ignore[no-any-return]


@pytest.mark.parametrize(("name", "labels"), [("bert", {"width", "hidden"}), ("llama", {"width", "hidden"})])
def test_transformers_models_are_sorted(name: str, labels: set[str]) -> None:
    pytest.importorskip("transformers", reason="the extra is not installed: pip install nas[transformers]")
    space, build = transformers_models()[name]()
    torch.manual_seed(0)
    supernet = Supernet(space, lambda arch: Logits(build(arch)), dtype=torch.float64)
    tokens = torch.randint(0, 50, (3, 7))
    before = outputs(supernet, tokens)
    found = sort_units(supernet, Inputs(tokens), random_score)  # type: ignore[arg-type]
    assert labels <= {choice for group in found.groups for choice in group.choices}
    torch.testing.assert_close(outputs(supernet, tokens), before, rtol=1e-5, atol=1e-6)  # norms go through float32


class Heads(Space):
    heads = choice(1, 2, 4)


class Attention(nn.Module):
    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(5, heads * 6) for _ in range(3))
        self.out = nn.Linear(heads * 6, 5)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (f(x).unflatten(-1, (self.heads, 6)).transpose(1, 2) for f in (self.query, self.key, self.value))
        found: Tensor = self.out(nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return found


def test_heads_move_whole() -> None:
    supernet, example = Supernet(Heads(), lambda arch: Attention(arch.heads)), torch.randn(2, 7, 5)
    networks = Networks(supernet, example)
    (group,), _ = coupled(networks)
    assert group.units == 4
    symmetry = Symmetry(networks, candidates(supernet.survey), None)
    assert symmetry.holds(group.parts, 4) and not symmetry.holds(group.parts, 8)
    before = supernet.state_dict()["value.weight"].clone()
    sort_units(supernet, Inputs(example), lambda group, _: torch.tensor([0.0, 3.0, 1.0, 2.0]))  # type: ignore[arg-type]
    torch.testing.assert_close(supernet.state_dict()["value.weight"].view(4, 6, 5), before.view(4, 6, 5)[[1, 3, 2, 0]])


# --- what cannot be ---------------------------------------------------------------------------------------------------


def test_what_cannot_be_scored_is_one_line_and_changes_nothing() -> None:
    supernet = Supernet(Widths(), perceptron)
    before = {name: value.clone() for name, value in supernet.state_dict().items()}
    broken = task()
    broken.splits["train"].inputs[2:].fill_(math.nan)
    for by, line in (
        ("taylor", "the loss of calibration batch 0 is no finite number"),
        ("activation", "reads of the calibration batches is no finite number"),
        (lambda group, _: torch.ones(3), r"is of shape \(3,\), .* it must be 4 finite numbers"),
        (lambda group, _: torch.full((4,), math.nan), "holds what is no number"),
    ):
        with pytest.raises(CompressionError, match=line):
            sort_units(supernet, broken, by)  # type: ignore[arg-type]
    broken.splits["train"].inputs.fill_(math.nan)
    with pytest.raises(SupernetError, match="give what is no finite number on the example"):
        sort_units(supernet, broken)
    with pytest.raises(CompressionError, match="batches = 0: scores need at least 1 batch"):
        sort_units(supernet, task(), "taylor(batches=0)")
    with pytest.raises(SpellingError, match="no importance score is called 'luck': choose one of magnitude"):
        sort_units(supernet, task(), "luck")
    torch.testing.assert_close(supernet.state_dict(), before, rtol=0, atol=0)


def test_mixed_weights_are_not_sorted() -> None:
    supernet = Supernet(Widths(), perceptron, sharing=Routed(mixed=("0.*",), hidden=2))
    with pytest.raises(SupernetError, match="only entangled weights are sorted"):
        sort_units(supernet, task())


def test_the_report_names_groups() -> None:
    found = sort_units(Supernet(Widths(), perceptron), task(), "magnitude")
    assert isinstance(found, Sorted) and replace(found, left=()).table().startswith("sorted by magnitude: 1 groups")
