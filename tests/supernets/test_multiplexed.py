"""Weight multiplexing: what is shared, and the exact checks of its transforms."""

import itertools
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from search_spaces import Architecture, Space, choice
from search_spaces.vit import ViTSpace
from supernets import Blocks, Multiplexed, Supernet, SupernetError
from supernets.models import vit
from supernets.sharing.multiplexed import shared
from supernets.structure import stack, tie
from tests.contracts.sharing import shuffled


class Depths(Space):
    width = choice(4, 8)
    depth = choice(1, 2, 3, 4)


class Plain(nn.Module):
    """Blocks with a fused matrix of three parts and a norm; `names` says which block each layer is."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        width = arch.width
        self.first = nn.Linear(3, width)
        self.blocks = stack(
            nn.ModuleDict({"query": nn.Linear(width, 3 * width), "norm": nn.LayerNorm(width)})
            for _ in range(arch.depth)
        )
        self.last = nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for block in self.blocks:
            a, b, c = block["query"](block["norm"](x)).chunk(3, -1)
            x = x + a.tanh() * b + c
        y: Tensor = self.last(x)
        return y


def made(**settings: object) -> Supernet:
    sharing = Multiplexed(**settings)  # type: ignore[arg-type]
    layout = {"*query*": Blocks(3)}
    return shuffled(Supernet(Depths(), Plain, sharing=sharing, layout=layout, dtype=torch.float64))


X = torch.linspace(-1, 1, 15, dtype=torch.float64).view(5, 3)


def test_layers_share_their_matrices_and_keep_their_norms() -> None:
    names = set(made(transform="none").state_dict())
    assert {name for name in names if "query" in name} == {
        f"blocks.{i}.query.{kind}" for i in (0, 2) for kind in ("weight", "bias")
    }
    assert {f"blocks.{i}.norm.weight" for i in range(4)} <= names
    arch = Depths().largest()
    network = made(transform="none").extract(arch)
    assert torch.equal(network.blocks[0]["query"].weight, network.blocks[1]["query"].weight)
    assert not torch.equal(network.blocks[1]["query"].weight, network.blocks[2]["query"].weight)


@pytest.mark.parametrize("settings", [{"transform": "gain"}, {"transform": "heads", "head_size": 2}])
def test_identity_transforms_equal_plain_sharing_exactly(settings: dict[str, object]) -> None:
    plain, with_transform = made(transform="none"), made(**settings)
    own = {name: tensor for name, tensor in with_transform.state_dict().items() if name.startswith("@")}
    assert len(own) == 4
    identity = {n: torch.eye(len(t)).double() if t.dim() == 2 else torch.ones_like(t) for n, t in own.items()}
    with_transform.load_state_dict({**plain.state_dict(), **identity})
    for arch in Depths().enumerate():
        assert torch.equal(plain.subnet(arch)(X), with_transform.subnet(arch)(X))


def test_used_once_a_layer_is_entangled() -> None:
    once = Supernet(Depths(), Plain, sharing=Multiplexed(repeat=1), seed=3)
    assert once.digest() == Supernet(Depths(), Plain, seed=3).digest()


def test_heads_cost_two_matrices_a_layer() -> None:
    class Eight(Space):
        width = choice(32, 64)
        depth = choice(2, 4)
        heads = choice(2, 4, per="depth")
        ratio = choice(2, per="depth")

    build = partial(vit.build, head_size=16)
    plain, heads = (
        Supernet(Eight(), build, sharing=Multiplexed(transform=transform, head_size=16))
        for transform in ("none", "heads")
    )
    assert heads.num_parameters - plain.num_parameters == 4 * 2 * 4**2
    entangled = Supernet(Eight(), build)
    blocks = [n for n in entangled.state_dict() if n.startswith("blocks.1.") and "norm" not in n]
    saved = 2 * sum(entangled.state_dict()[n].numel() for n in blocks)
    assert entangled.num_parameters - plain.num_parameters == saved


@pytest.mark.parametrize("settings", [{"transform": "gain"}, {"transform": "heads", "head_size": 2}])
def test_folded_weights_are_the_transform_of_the_shared_ones(settings: dict[str, object]) -> None:
    net, arch = made(**settings), Depths().at(width=4, depth=3).largest()
    state, network = net.state_dict(), net.extract(arch)
    for layer, first in ((0, 0), (1, 0)):
        parts = state[f"blocks.{first}.query.weight"].view(3, 8, 8)[:, :4, :4]
        transform = state[f"@{settings['transform']}.blocks.{layer}.query"]
        if settings["transform"] == "gain":
            expected = parts * transform.view(3, 8)[:, :4, None]
        else:
            expected = (
                (torch.kron(transform[:2, :2], torch.eye(2).double()) @ parts.transpose(0, 1).reshape(4, 12))
                .view(4, 3, 4)
                .transpose(0, 1)
            )
        assert torch.allclose(network.blocks[layer]["query"].weight, expected.reshape(12, 4), atol=1e-12)


def test_a_shared_weights_gradient_is_the_sum_over_its_layers() -> None:
    net, arch = made(transform="none"), Depths().largest()
    network = net.extract(arch)
    net.subnet(arch)(X).square().sum().backward()
    network(X).square().sum().backward()
    gradients = net.gradients()
    for first in (0, 2):
        apart = [network.blocks[layer]["query"].weight.grad for layer in (first, first + 1)]
        assert torch.allclose(gradients[f"blocks.{first}.query.weight"], apart[0] + apart[1], rtol=1e-10)


def test_ready_made_transformers_have_layers_to_share() -> None:
    space = ViTSpace()
    net = shuffled(Supernet(space, vit.build, sharing=Multiplexed(transform="heads"), dtype=torch.float64))
    images = torch.randn(2, 1, 8, 8, dtype=torch.float64)
    for arch in space.sample_many(5, np.random.default_rng(0)):
        assert torch.allclose(net.subnet(arch)(images), net.extract(arch)(images), rtol=0, atol=1e-12)


def test_only_layers_of_equal_shapes_share() -> None:
    shapes = {
        "a.0.weight": (4, 3),
        "a.1.weight": (4, 4),
        "a.2.weight": (4, 4),
        "a.3.weight": (4, 4),
        "b.weight": (2, 2),
    }
    assert shared(shapes, 2) == {"a.2.weight": "a.2.weight", "a.3.weight": "a.2.weight"}
    assert shared(shapes, 3) == {}
    nested = {f"s.{i}.{j}.weight": (4, 4) for i in range(2) for j in range(2)}
    assert shared(nested, 2) == {f"s.{i}.{j}.weight": f"s.0.{j}.weight" for i in range(2) for j in range(2)}


def test_mistakes_get_one_line() -> None:
    with pytest.raises(SupernetError, match="repeat = 0"):
        Multiplexed(repeat=0)
    with pytest.raises(SupernetError, match="transform = 'shift' is unknown: choose one of gain, heads, none"):
        Multiplexed(transform="shift")
    with pytest.raises(SupernetError, match=r"found no layers to share.*the model has weight, bias"):
        Supernet(Depths(), lambda arch: nn.Linear(arch.width, 2), sharing=Multiplexed())
    with pytest.raises(SupernetError, match=r"24 rows, which are no whole heads of 3: set head_size"):
        Supernet(Depths(), Plain, sharing=Multiplexed(transform="heads", head_size=3), layout={"*query*": Blocks(3)})


class Copies(Space):
    width = choice(4, 8)
    copied = choice(True, False, per=3)


def copying(arch: Architecture) -> nn.Module:
    blocks = [nn.Sequential(nn.Linear(8, arch.width), nn.ReLU(), nn.Linear(arch.width, 8)) for _ in range(4)]
    tie(blocks, arch.copied)
    return nn.Sequential(stack(blocks), nn.Linear(8, 2))


def test_learnt_ties_decide_above_what_is_multiplexed() -> None:
    """A layer that copies has the matrix and the transform of the one it copies; one that does not has its own."""
    supernet = shuffled(Supernet(Copies(), copying, sharing=Multiplexed(repeat=2)))
    x = torch.randn(3, 8)
    for copied in itertools.product((True, False), repeat=3):
        arch = Copies().architecture({"width": 4, "copied": copied})
        found = supernet.extract(arch)
        torch.testing.assert_close(supernet.subnet(arch)(x), found(x), rtol=0, atol=1e-5)
        blocks = list(found[0])
        for place, copies in enumerate(copied):
            assert torch.equal(blocks[place](x), blocks[place + 1](x)) == copies
        ratio = blocks[1][0].weight / blocks[0][0].weight
        torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio), msg="one matrix, and a factor for each row")
