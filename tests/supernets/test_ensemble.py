"""Networks that begin as one: what paths share, what it costs, what the trunk learns, and that it goes home."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces import Architecture, EnsembleSpace
from search_spaces.ensemble import LAYERS
from supernets import Supernet, ensemble
from supernets.distillation import Distilled, Hidden, every
from supernets.export import export, rebuilt
from supernets.models.ensemble import build
from supernets.structure import Ensemble
from supernets.tasks import Classification, EachPath, TaskError
from supernets.training import TrainingConfig, train

SPACE = EnsembleSpace()
OPS = ("k3e2", "k5e2", "skip", "k3e4")


def arch(split: int, first: tuple[str, ...] = OPS * 2, second: tuple[str, ...] = OPS[::-1] * 2) -> Architecture:
    own = [None if at < split else op for at, op in enumerate(second)]
    return SPACE.architecture({"split": split, "first": list(first), "second": own})


def images(n: int) -> Tensor:
    return torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(n))


def task(**settings: Any) -> Classification:
    splits = [(images(n), images(n).flatten(1).sum(1).gt(32).long()) for n in (96, 32, 33)]
    return Classification(*splits, batch_size=16, num_classes=3, **settings)


def tanh(width: int = 4) -> list[nn.Module]:
    return [nn.Sequential(nn.Linear(width, width), nn.Tanh()) for _ in range(3)]


def forked(split: int, branches: int = 2) -> nn.Sequential:
    """A stem and an ensemble of smooth layers, in float64."""
    torch.manual_seed(1)
    others = [[*tanh()[split:], nn.Linear(4, 3)] for _ in range(branches - 1)]
    return nn.Sequential(nn.Linear(5, 4), ensemble([*tanh(), nn.Linear(4, 3)], *others)).double()


def path_of(model: nn.Sequential, number: int, split: int) -> nn.Sequential:
    """One path of an ensemble as a plain network of the same modules."""
    stem, joined = model
    first, own = (list(joined.paths[which]._modules.values()) for which in (0, number))
    return nn.Sequential(stem, *(first if number == 0 else [*first[:split], *own]))


X = torch.linspace(-1, 1, 35, dtype=torch.float64).view(7, 5)
Y = torch.arange(7) % 3


class Plain(Classification):
    """Seven rows, in float64."""

    def __init__(self) -> None:
        super().__init__((X, Y), (X, Y), dtype=torch.float64, batch_size=7)


@pytest.mark.parametrize("split", [0, 1, 3])
@pytest.mark.parametrize("branches", [2, 3])
def test_it_is_the_mean_of_the_paths(split: int, branches: int) -> None:
    model = forked(split, branches)
    paths = [path_of(model, number, split) for number in range(branches)]
    torch.testing.assert_close(model(X), torch.stack([path(X) for path in paths]).mean(0), rtol=0, atol=0)
    told = EachPath(Plain()).outputs(model, (batch := Plain().batch(0, 0)))
    torch.testing.assert_close(told, torch.stack([path(batch.inputs) for path in paths]), rtol=0, atol=0)


def test_one_path_is_the_plain_network() -> None:
    model = forked(3, 1)
    plain = path_of(model, 0, 3)
    each, alone = EachPath(Plain()), Plain()
    batch = alone.batch(0, 0)
    assert torch.equal(model(X), plain(X))
    each.loss(each.outputs(model, batch), batch).backward()
    taught = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    alone.loss(plain(batch.inputs), batch).backward()
    assert all(torch.equal(a, b.grad) for a, b in zip(taught, model.parameters(), strict=True))
    plain_batch = each.outputs(plain, batch)
    assert plain_batch.shape == (1, 7, 3) and torch.equal(plain_batch[0], plain(batch.inputs))


@pytest.mark.parametrize("split", [0, 1, 3])
@pytest.mark.parametrize("branches", [2, 3])
def test_the_trunk_learns_the_mean_of_the_losses_and_branches_their_own(split: int, branches: int) -> None:
    model = forked(split, branches)
    each, batch = EachPath(Plain()), Plain().batch(0, 0)
    each.loss(each.outputs(model, batch), batch).backward()
    found = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    losses = [F.cross_entropy(path_of(model, k, split)(batch.inputs), batch.targets) for k in range(branches)]
    (sum(losses) / branches).backward()
    trunk = {
        name for name in found if name.startswith("0.") or (name.startswith("1.paths.0.") and _layer(name) < split)
    }
    for name, parameter in model.named_parameters():
        factor = 1 if name in trunk else branches
        torch.testing.assert_close(found[name], factor * parameter.grad, rtol=1e-14, atol=1e-16)
    assert len(trunk) == 2 + 2 * split


def _layer(name: str) -> int:
    return int(name.split(".")[3])


def test_the_plain_loss_of_the_mean_is_left_as_it_is() -> None:
    """Who trains the network by a loop of their own gets what autograd gives."""
    model, joined = forked(1), forked(1)
    F.cross_entropy(model(X), Y).backward()
    outputs = torch.stack([path_of(joined, k, 1)(X) for k in range(2)]).mean(0)
    F.cross_entropy(outputs, Y).backward()
    for ours, plain in zip(model.parameters(), joined.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, plain.grad, rtol=1e-14, atol=1e-16)


def test_costs_count_the_trunk_once() -> None:
    supernet, example = Supernet(SPACE, build), images(1)
    same = partial(arch, second=OPS * 2)
    apart, joined = (supernet.profile(same(split), example) for split in (0, 8))
    stem = 16 * 9 * 64
    one = supernet.profile(same(8), example).macs - _head_macs()
    assert apart.macs == 2 * one - stem
    assert joined.macs == one + _head_macs()
    split = same(4)
    network = supernet.extract(split)
    assert supernet.count_parameters(split) == sum(parameter.numel() for parameter in network.parameters())
    trunk = sum(p.numel() for at in range(4) for p in network[1].paths[0].get_submodule(str(at)).parameters())
    whole = sum(p.numel() for p in network[1].paths[0].parameters())
    assert supernet.count_parameters(split) == sum(p.numel() for p in network[0].parameters()) + 2 * whole - trunk


def _head_macs() -> int:
    return 48 * 64 * 4 + 64 * 10


def test_wherever_it_splits_the_first_path_has_the_same_weights() -> None:
    supernet = Supernet(SPACE, build)
    names = [{name for name, _ in supernet.extract(arch(split)).named_parameters()} for split in (0, 4, 8)]
    firsts = [{name for name in own if name.startswith("1.paths.0.")} for own in names]
    assert firsts[0] == firsts[1] == firsts[2]
    seconds = [{name for name in own if name.startswith("1.paths.1.")} for own in names]
    assert seconds[2] < seconds[1] < seconds[0]
    assert all(name.startswith("1.paths.1.8.") for name in seconds[2])


def test_it_trains_each_path_and_comes_back_from_an_export(tmp_path: Path) -> None:
    supernet, each = Supernet(SPACE, partial(build, num_classes=3)), EachPath(task(), alone=True)
    settings = TrainingConfig(steps=4, strategy="uniform(over=choices)", evaluate_every=0, checkpoint_every=2)
    result = train(supernet, each, settings, directory=tmp_path / "supernet", progress=False)
    again = train(supernet, each, settings, directory=tmp_path / "supernet", progress=False)
    assert again.resumed_from == 4 and again.losses == result.losses
    chosen = arch(4)
    network = supernet.extract(chosen).eval()
    told = each.evaluate(network)
    assert 0 <= told["error_alone"] <= 1 and told["error"] == task().evaluate(network)["error"]
    assert each.further_metrics == ("error_alone",)
    exported = export(
        network,
        arch=chosen,
        build=partial(build, num_classes=3),
        example=images(2),
        directory=tmp_path / "net",
        formats=("safetensors",),
    )
    back = rebuilt(exported.directory).eval()
    assert torch.equal(back(images(5)), network(images(5)))
    assert exported.max_abs_difference < 1e-4


def test_the_metric_alone_is_the_mean_of_the_paths() -> None:
    each = EachPath(Plain(), alone=True)
    model = forked(1, 3)
    errors = [Plain().evaluate(path_of(model, number, 1))["error"] for number in range(3)]
    assert each.evaluate(model)["error_alone"] == pytest.approx(sum(errors) / 3)


def test_the_losses_of_examples_sum_over_paths() -> None:
    each, model, batch = EachPath(Plain()), forked(1), Plain().batch(0, 0)
    outputs = each.outputs(model, batch)
    losses = each.losses(outputs, batch)
    assert losses.shape == (7,)
    torch.testing.assert_close(losses.mean(), each.loss(outputs, batch))


def test_no_hook_stays_behind() -> None:
    model, each = forked(1), EachPath(Plain(), alone=True)
    each.outputs(model, Plain().batch(0, 0))
    each.evaluate(model)
    assert not any(part._forward_hooks for part in model.modules())


def test_layers_are_called_by_their_number_in_the_whole_path() -> None:
    (_, joined) = forked(2)
    assert isinstance(joined, Ensemble) and joined.split == 2
    assert [list(path._modules) for path in joined.paths] == [["0", "1", "2", "3"], ["2", "3"]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ensemble([]), r"^ensemble: the first path has no layer: give all its layers"),
        (
            lambda: ensemble(tanh(), tanh()[1:], tanh()[2:]),
            r"^ensemble: paths of 3, 2, 1 layers: the first has all, and the others their last ones, each as many",
        ),
        (lambda: ensemble(tanh(), []), r"^ensemble: paths of 3, 0 layers: "),
        (lambda: ensemble(tanh()[1:], tanh()), r"^ensemble: paths of 2, 3 layers: "),
    ],
)
def test_bad_input_is_one_line(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_two_ensembles_and_taught_layers_are_refused() -> None:
    both = nn.Sequential(forked(1)[1], nn.Linear(3, 4), forked(1)[1]).double()
    with pytest.raises(TaskError, match=r"^0 and 2 are ensembles in one network, and paths are those of one: "):
        EachPath(Plain()).outputs(both, Plain().batch(0, 0))
    parent = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3)).double()
    taught = Distilled(Plain(), parent, [Hidden(every("*"))])
    with pytest.raises(TaskError, match=r"^the layers of 'classification, taught' learn from a parent, which paths "):
        EachPath(taught)


def test_the_model_says_what_its_layers_are() -> None:
    with pytest.raises(ValueError, match=r"^7 widths and 8 strides: the network has 8 layers, give one each"):
        build(arch(4), widths=(16,) * 7)
    assert len(LAYERS) == 5
