"""Subnets that share activations evaluate bitwise as they do alone."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nas.demos import image, text
from search_spaces import Architecture, Space, choice
from search_spaces.mobilenet import digits_space
from search_spaces.vit import ViTSpace
from supernets import Blocks, Supernet, calibrate, stack
from supernets.models import mobilenet, vit
from supernets.prefixes import Activations, PrefixEvaluator, share
from supernets.skeleton import Build
from supernets.tasks import Classification

RNG = np.random.default_rng(0)


def task(side: int, num: int = 48) -> Classification:
    def split(n: int) -> tuple[np.ndarray, np.ndarray]:
        return RNG.normal(size=(n, 1, side, side)).astype(np.float32), RNG.integers(0, 4, n)

    return Classification(split(num), split(num), batch_size=8, name="noise")


class Chain(Space):
    width = choice(4, 8)
    depth = choice(2, 4, 6)
    kernel = choice(1, 3, per="depth")


class Plain(nn.Module):
    """A stem, blocks with batch norm that write into their inputs, and a setting that no parameter shows."""

    def __init__(self, kernel: int, width: int) -> None:
        super().__init__()
        self.scale = kernel / 3
        self.act = nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(width, width, kernel, padding=kernel // 2)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.conv(self.act(x))) * self.scale
        return y


def build(arch: Architecture) -> nn.Module:
    blocks = stack(Plain(kernel, arch.width) for kernel in arch.kernel)
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(arch.width, 4))
    return nn.Sequential(nn.Conv2d(1, arch.width, 3, padding=1), blocks, head)


CASES: dict[str, tuple[Callable[[], Space], Build, Classification]] = {
    "chain": (Chain, build, task(6)),
    "mobilenet": (digits_space, partial(mobilenet.build, num_classes=4), task(8)),
    "vit": (ViTSpace, partial(vit.build, num_classes=4), task(8)),
}


def alone(supernet: Supernet, arch: Architecture, of: Classification) -> dict[str, float]:
    return calibrate.evaluate(supernet, arch, of)


@pytest.mark.parametrize("name", CASES)
def test_values_are_bitwise_those_of_each_alone(name: str) -> None:
    space, made, of = CASES[name]
    supernet = Supernet(space(), made)
    evaluate = PrefixEvaluator(supernet, of)
    parent = supernet.space.sample(np.random.default_rng(1))
    archs = [
        parent,
        *list(supernet.space.neighbours(parent))[:10],
        *supernet.space.sample_many(4, np.random.default_rng(2)),
    ]
    for position in evaluate.order(archs):
        assert evaluate(archs[position]) == alone(supernet, archs[position], of)
    assert [evaluate(arch) for arch in archs[::-1]] == [alone(supernet, arch, of) for arch in archs[::-1]]
    assert evaluate.activations.spared > 0


@pytest.mark.parametrize("run", [image.run, text.run], ids=["image", "text"])
def test_the_demos_networks_share_what_they_begin_with(run) -> None:  # type: ignore[no-untyped-def]
    supernet = Supernet(run.space, run.build)
    archs = run.space.sample_many(4, np.random.default_rng(0))
    inputs = run.task.example(16)
    activations = Activations()
    for arch in [*archs, *archs]:
        expected = supernet.subnet(arch).eval()
        with torch.inference_mode():
            assert torch.equal(share(supernet.subnet(arch).eval(), activations)(inputs), expected(inputs))
    assert activations.spared >= activations.run


def test_what_is_kept_stays_within_its_bytes() -> None:
    supernet = Supernet(Chain(), build)
    evaluate = PrefixEvaluator(supernet, CASES["chain"][2], max_bytes=20_000)
    for arch in Chain().sample_many(6, np.random.default_rng(0)):
        assert evaluate(arch) == alone(supernet, arch, CASES["chain"][2])
        assert evaluate.activations.num_bytes <= 20_000


def test_trained_weights_are_others() -> None:
    of, supernet = CASES["chain"][2], Supernet(Chain(), build)
    evaluate = PrefixEvaluator(supernet, of)
    arch = Chain().largest()
    before = evaluate(arch)
    with torch.no_grad():
        for _, tensor in supernet._store.named_tensors():
            tensor += 0.3 if tensor.is_floating_point() else 0
    assert evaluate(arch) == alone(supernet, arch, of) != before


def test_gradients_are_left_alone() -> None:
    supernet, activations = Supernet(Chain(), build), Activations()
    module = share(supernet.subnet(Chain().largest()), activations)
    module(torch.randn(2, 1, 6, 6)).sum().backward()
    assert activations.num_bytes == 0


class Drawing(nn.Module):
    """Holds what nobody can compare."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(0)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.rand(x.shape, generator=self.generator)


def test_blocks_that_hold_other_things_are_run_each_time() -> None:
    activations = Activations()
    module = share(nn.Sequential(nn.Linear(3, 3), Drawing(), nn.Linear(3, 3)).eval(), activations)
    with torch.inference_mode():
        first, second = module(torch.ones(2, 3)), module(torch.ones(2, 3))
    assert not torch.equal(first, second)
    assert (activations.spared, activations.run) == (1, 5), "what stands before it is spared"


def test_settings_tell_blocks_of_equal_weights_apart() -> None:
    activations, block = Activations(), Plain(3, 4).eval()
    module = share(nn.Sequential(block), activations)
    with torch.inference_mode():
        first = module(torch.ones(1, 4, 3, 3))
        block.scale = 2.0
        assert torch.allclose(module(torch.ones(1, 4, 3, 3)), 2 * first)


def test_fused_and_mixed_weights_are_computed_each_time() -> None:
    class Wide(Space):
        width = choice(4, 8)

    def fused(arch: Architecture) -> nn.Module:
        return nn.Sequential(nn.Linear(6, 3 * arch.width), nn.Linear(3 * arch.width, 2))

    supernet = Supernet(Wide(), fused, layout={"0.*": Blocks(3), "1.weight": Blocks(3, axis=1)})
    activations, x = Activations(), torch.randn(3, 6)
    for arch in [*Wide().enumerate(), *Wide().enumerate()]:
        with torch.inference_mode():
            assert torch.equal(share(supernet.subnet(arch).eval(), activations)(x), supernet.subnet(arch).eval()(x))
