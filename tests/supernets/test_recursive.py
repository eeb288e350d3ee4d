"""Recursive blocks: one set of weights run several times, of which an architecture says how many."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from search_spaces import Space, choice
from supernets import Supernet, recursive
from supernets.export import export, rebuilt
from supernets.relaxation import Mixture
from supernets.structure import Stack
from supernets.tasks import Classification
from supernets.training import TrainingConfig, train


class Times(Space):
    width = choice(4, 6)
    times = choice(0, 1, 2, 4)


class Block(nn.Module):
    """A residual block with two matrices and a norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.down(self.up(self.norm(x)).relu())
        return y


class Filtered(Block):
    """With batch norm, which has statistics."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.norm = nn.BatchNorm1d(width)  # type: ignore[assignment]


def build(arch: Any, own: tuple[str, ...] = ("norm*",), kind: type[Block] = Block) -> nn.Module:
    body = recursive(lambda: kind(arch.width), arch.times, own)
    return nn.Sequential(nn.Linear(3, arch.width), body, nn.Linear(arch.width, 2))


def made(**settings: Any) -> Supernet:
    supernet = Supernet(Times(), partial(build, **settings), dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    for tensor in supernet.state_dict().values():
        if tensor.is_floating_point():
            tensor.data.uniform_(0.1, 0.9, generator=generator)
    return supernet


X = torch.linspace(-1, 1, 15, dtype=torch.float64).view(5, 3)
NETWORKS = list(Times().enumerate())


@pytest.mark.parametrize("arch", NETWORKS, ids=[arch.digest for arch in NETWORKS])
@pytest.mark.parametrize("kind", [Block, Filtered])
def test_extracted_is_sliced_and_is_the_block_run_again(kind: type[Block], arch: Any) -> None:
    supernet = made(kind=kind)
    subnet, network = supernet.subnet(arch).eval(), supernet.extract(arch).eval()
    assert torch.equal(subnet(X), network(X))
    first, body, last = network
    x = first(X)
    for block in body:
        x = x + body[0].down(body[0].up(block.norm(x)).relu())
    assert torch.equal(network(X), last(x))


def test_a_block_that_owns_nothing_is_the_same_function_each_time() -> None:
    arch = Times().largest()
    first, body, last = made(own=()).extract(arch)
    x = first(X)
    for _ in range(4):
        x = body[0](x)
    assert torch.equal(nn.Sequential(first, body, last)(X), last(x))


def test_parameters_count_once_and_macs_as_often_as_it_runs() -> None:
    space = Times(width=6)
    shared, with_norms, example = made(own=()), made(), torch.zeros(1, 3)
    archs = {times: space.where(times=times).largest() for times in (1, 2, 4)}
    whole, ends = 6 * 3 + 6 + 2 * 6 + 2, 6 * 3 + 2 * 6
    block, norm = 2 * 72 + 12 + 6 + 12, 12
    for times, arch in archs.items():
        assert shared.count_parameters(arch) == whole + block
        assert with_norms.count_parameters(arch) == whole + block + (times - 1) * norm
        assert sum(parameter.numel() for parameter in shared.extract(arch).parameters()) == whole + block
        assert shared.profile(arch, example).macs == ends + times * 2 * 72


def test_the_gradient_of_what_is_shared_is_the_sum_over_the_runs() -> None:
    arch, supernet = Times().largest(), made()
    supernet.subnet(arch)(X).square().sum().backward()
    alone = build(arch)
    body = alone[1]
    network = supernet.extract(arch)
    for run in range(4):  # a block of its own for each run
        body[run] = Block(6)
    alone.double().load_state_dict(network.state_dict())
    alone(X).square().sum().backward()
    found = supernet.gradients()
    for name in ("up.weight", "up.bias", "down.weight", "down.bias"):
        summed = torch.stack([body[run].get_parameter(name).grad for run in range(4)]).sum(0)
        torch.testing.assert_close(found[f"1.0.{name}"], summed)
    for run in range(4):
        torch.testing.assert_close(found[f"1.{run}.norm.weight"], body[run].norm.weight.grad)


def test_batch_norm_keeps_statistics_for_each_run() -> None:
    names = made(kind=Filtered).state_dict()
    assert {f"1.{run}.norm.running_mean" for run in range(4)} <= set(names)
    assert [name for name in names if name.endswith("up.weight")] == ["1.0.up.weight"]


def test_it_relaxes() -> None:
    supernet = made()
    supernet.check_relaxation(X)
    space = supernet.space
    mixture = Mixture(space)
    relaxed = supernet.relax(mixture)
    for arch in space.enumerate():
        chances = {
            slot.path: torch.eye(len(slot.options), dtype=torch.float64)[code]
            for slot, code in zip(space.slots, space.codes([arch])[0].tolist(), strict=True)
        }
        mixture.update(chances)
        torch.testing.assert_close(relaxed(X), supernet.subnet(arch)(X), rtol=0, atol=1e-12)


def test_it_trains_and_comes_back_from_an_export(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(96, 3, generator=generator)
    labels = (images.sum(1) > 0).long()
    task = Classification((images[:64], labels[:64]), (images[64:80], labels[64:80]), (images[80:], labels[80:]))
    supernet = Supernet(Times(), build)
    before = supernet.digest()
    train(supernet, task, TrainingConfig(steps=5, evaluate_every=0, checkpoint_every=0), progress=False)
    assert supernet.digest() != before
    arch = Times().largest()
    network = supernet.extract(arch).eval()
    example = images[:2]
    exported = export(
        network, arch=arch, build=build, example=example, directory=tmp_path / "net", formats=("safetensors",)
    )
    again = rebuilt(exported.directory).eval()
    assert torch.equal(again(example), network(example))
    assert again[1][0].up.weight is again[1][3].up.weight


def test_no_time_is_the_identity() -> None:
    body = recursive(lambda: Block(2), 0)
    assert isinstance(body, Stack) and body(X) is X


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: recursive(Block(2), 2),
            r"^recursive: Block is a module: give a function that builds it, ",
        ),
        (lambda: recursive(lambda: Block(2), -1), r"^recursive: times = -1: a block is run 0 times or more, a whole"),
        (lambda: recursive(lambda: Block(2), 1.5), r"^recursive: times = 1.5: "),
        (
            lambda: recursive(iter([nn.Linear(2, 2), nn.Linear(2, 3)]).__next__, 2),
            r"^tie: weight of block 1 is \(3, 2\)",
        ),
    ],
)
def test_bad_input_is_one_line(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
