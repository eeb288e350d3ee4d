"""The ready-made models build for every architecture of their space, are plain PyTorch, and are what they claim."""

import ast
import pickle
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import supernets.models
from search_spaces import Space
from search_spaces.ensemble import EnsembleSpace
from search_spaces.gpt import GPTSpace
from search_spaces.mobilenet import MobileNetSpace, digits_space
from search_spaces.nasbench201 import EDGES as SPACE_EDGES
from search_spaces.nasbench201 import NASBench201Space, from_arch_str
from search_spaces.rexnet import ReXNetSpace
from search_spaces.vit import AutoFormerTinySpace, ViTSpace
from supernets import Supernet
from supernets.models import ensemble, gpt, mobilenet, nasbench201, rexnet, vit
from supernets.structure import OneOf, Stack

Build = Callable[[Any], nn.Module]
MODELS: dict[str, tuple[Space, Build, Tensor, tuple[int, ...]]] = {
    "mobilenet": (digits_space(), mobilenet.build, torch.randn(3, 1, 8, 8), (3, 10)),
    "mobilenet 28": (
        MobileNetSpace(**{"stages.depth": 2, "stages.width": (8, 64)}),
        partial(mobilenet.build, in_channels=3, num_classes=4, strides=(2, 2, 1), activation="hardswish"),
        torch.randn(2, 3, 28, 28),
        (2, 4),
    ),
    "vit": (ViTSpace(), vit.build, torch.randn(3, 1, 8, 8), (3, 10)),
    "gpt rotary rms": (GPTSpace(), gpt.build, torch.randint(128, (2, 20)), (2, 20, 128)),
    "gpt learned layer": (
        GPTSpace(),
        partial(gpt.build, positions="learned", norm="layer", vocab=78, context=16),
        torch.randint(78, (2, 16)),
        (2, 16, 78),
    ),
    "nasbench201": (
        NASBench201Space(),
        partial(nasbench201.build, width=4, num_cells=1, num_classes=5),
        torch.randn(2, 3, 8, 8),
        (2, 5),
    ),
    "ensemble": (EnsembleSpace(), ensemble.build, torch.randn(3, 1, 8, 8), (3, 10)),
    "rexnet": (ReXNetSpace(), partial(rexnet.build, strides=(1, 2, 1, 2, 1, 1)), torch.randn(2, 1, 8, 8), (2, 10)),
}
ALL = pytest.mark.parametrize(("space", "build", "x", "shape"), MODELS.values(), ids=list(MODELS))
FILES = sorted(path for path in Path(supernets.models.__path__[0]).glob("*.py") if path.name != "__init__.py")


@ALL
def test_every_architecture_builds_and_gives_outputs(
    space: Space, build: Build, x: Tensor, shape: tuple[int, ...]
) -> None:
    archs = [space.smallest(), space.largest(), *space.sample_many(4, np.random.default_rng(0))]
    for arch in archs:
        outputs = build(arch)(x)
        assert outputs.shape == shape and outputs.isfinite().all()


@ALL
def test_gradients_reach_every_parameter(space: Space, build: Build, x: Tensor, shape: tuple[int, ...]) -> None:
    module = build(space.largest())
    module(x).square().sum().backward()
    assert [name for name, parameter in module.named_parameters() if parameter.grad is None] == []


@ALL
def test_parameters_nest_in_those_of_the_largest(space: Space, build: Build, x: Tensor, shape: tuple[int, ...]) -> None:
    full: dict[str, Tensor] = {}
    with torch.device("meta"):
        for _, arch in space.variants():  # the largest network, and for each alternative one that has it
            full = dict(build(arch).named_parameters()) | full
    smallest = dict(build(space.smallest()).named_parameters())
    assert smallest.keys() <= full.keys()
    for name, parameter in smallest.items():
        assert all(n <= m for n, m in zip(parameter.shape, full[name].shape, strict=True))


@ALL
def test_builders_travel_to_other_processes(space: Space, build: Build, x: Tensor, shape: tuple[int, ...]) -> None:
    again = pickle.loads(pickle.dumps(build))
    names = [list(make(space.largest()).state_dict()) for make in (build, again)]
    assert names[0] == names[1]


@ALL
def test_models_build_without_memory(space: Space, build: Build, x: Tensor, shape: tuple[int, ...]) -> None:
    with torch.device("meta"):
        module = build(space.largest())
    assert module(x.to("meta")).shape == shape


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_models_are_plain_torch(path: Path) -> None:
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported.add(node.module or "")
    outside = {name for name in imported if name.split(".")[0] not in sys.stdlib_module_names | {"torch"}}
    assert outside <= {"supernets.structure", "supernets.models.layers", "supernets.models.mobilenet"}


def test_a_mobilenet_reads_attributes_alone() -> None:
    stage = SimpleNamespace(width=8, kernel=[3, 5], expansion=[2, 4])
    arch = SimpleNamespace(stem=8, head=16, stages=[stage])
    module = mobilenet.build(arch, strides=[1])
    assert isinstance(module.stages[0].rest, Stack)


@pytest.mark.parametrize("stem", [8, 12])
def test_the_first_block_of_a_stage_is_never_residual(stem: int) -> None:
    """Were it residual where the widths happen to agree, no mixture of widths could be computed."""
    stage = SimpleNamespace(width=8, kernel=[3, 5], expansion=[2, 4])
    module = mobilenet.build(SimpleNamespace(stem=stem, head=16, stages=[stage]), strides=[1])
    module.eval()
    with torch.no_grad():
        for block in (module.stages[0].first, *module.stages[0].rest):
            block.project_norm.weight.zero_()
        x = torch.randn(2, stem, 4, 4)
        assert not module.stages[0].first(x).any()
        y = torch.randn(2, 8, 4, 4)
        assert torch.equal(module.stages[0].rest(y), y)


def test_a_mobilenet_strides_where_it_is_told() -> None:
    shapes = []
    module = mobilenet.build(digits_space().smallest(), strides=(1, 2, 2))
    module.stages.register_forward_hook(lambda module, inputs, output: shapes.append(output.shape))
    module(torch.zeros(2, 1, 8, 8))
    module(torch.zeros(2, 1, 28, 28))
    assert shapes == [(2, 16, 2, 2), (2, 16, 7, 7)]


def test_autoformer_tiny_is_expressible() -> None:
    build = partial(vit.build, in_channels=3, head_size=64)
    with torch.device("meta"):
        module = build(AutoFormerTinySpace().largest(), num_classes=1000, image_size=224, patch_size=16)
        small = build(AutoFormerTinySpace().smallest(), image_size=64, patch_size=8)
    # Patches, positions, 14 blocks (two norms, q, k, v and output of 4 x 64 features, an MLP of 960), norm, classifier.
    block = 4 * 240 + 3 * (240 * 256 + 256) + (256 * 240 + 240) + (240 * 960 + 960) + (960 * 240 + 240)
    expected = (3 * 16 * 16 * 240 + 240) + 14 * 14 * 240 + 14 * block + 2 * 240 + (240 * 1000 + 1000)
    assert sum(parameter.numel() for parameter in module.parameters()) == expected
    assert small(torch.empty(2, 3, 64, 64, device="meta")).shape == (2, 10)


def test_attention_is_that_of_torch() -> None:
    attention = vit.Attention(width=12, num_heads=3, head_size=4)
    reference = nn.MultiheadAttention(12, 3, batch_first=True)
    with torch.no_grad():
        layers = (attention.query, attention.key, attention.value)
        reference.in_proj_weight.copy_(torch.cat([layer.weight for layer in layers]))
        reference.in_proj_bias.copy_(torch.cat([layer.bias for layer in layers]))
        reference.out_proj.load_state_dict(attention.out.state_dict())
    x = torch.randn(2, 5, 12)
    torch.testing.assert_close(attention(x), reference(x, x, x, need_weights=False)[0])


@pytest.mark.parametrize("positions", gpt.POSITIONS)
def test_a_language_model_does_not_see_the_future(positions: str) -> None:
    module = gpt.build(GPTSpace().smallest(), positions=positions).eval()
    tokens = torch.randint(128, (1, 12))
    changed = tokens.clone()
    changed[0, 8:] = (changed[0, 8:] + 1) % 128
    before, after = module(tokens), module(changed)
    torch.testing.assert_close(before[:, :8], after[:, :8])
    assert not torch.allclose(before[:, 8:], after[:, 8:])


def test_rotary_scores_depend_on_the_distance_alone() -> None:
    rotary = gpt.Rotary(context=32, head_size=8)
    q, k = torch.randn(8), torch.randn(8)
    scores = rotary(q.expand(1, 1, 32, 8)) @ rotary(k.expand(1, 1, 32, 8)).transpose(-1, -2)
    for distance in (0, 3, 10):
        diagonal = scores[0, 0].diagonal(-distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), rtol=1e-4, atol=1e-5)


def test_rotary_tables_are_not_saved_and_embeddings_have_one_name() -> None:
    names = gpt.build(GPTSpace().smallest()).state_dict()
    assert not any("rotary" in name for name in names)
    assert [name for name in names if names[name].shape[0] == 128 and "tokens" in name] == ["tokens.weight"]


PUBLISHED = {  # official string: parameters, multiply-adds of convolutions and classifier at 32x32, CIFAR-10
    "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|": (
        1_531_546,
        220_119_680,
    ),
    "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|": (73_306, 7_783_040),
    "|avg_pool_3x3~0|+|nor_conv_1x1~0|none~1|+|avg_pool_3x3~0|nor_conv_1x1~1|avg_pool_3x3~2|": (129_306, 15_647_360),
    "|none~0|+|avg_pool_3x3~0|none~1|+|none~0|nor_conv_3x3~1|nor_conv_1x1~2|": (344_346, 47_104_640),
    "|nor_conv_3x3~0|+|avg_pool_3x3~0|nor_conv_1x1~1|+|none~0|nor_conv_1x1~1|nor_conv_3x3~2|": (615_386, 86_426_240),
    "|skip_connect~0|+|none~0|nor_conv_3x3~1|+|none~0|nor_conv_3x3~1|nor_conv_1x1~2|": (587_386, 82_494_080),
}


@pytest.mark.parametrize(("text", "sizes"), PUBLISHED.items())
def test_cell_networks_have_the_published_sizes(text: str, sizes: tuple[int, int]) -> None:
    with torch.device("meta"):
        module = nasbench201.build(from_arch_str(text)).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(torch.empty(1, 3, 32, 32, device="meta"))
    assert (sum(p.numel() for p in module.parameters()), counter.get_total_flops() // 2) == sizes


def test_cells_sum_what_enters_a_node() -> None:
    x = torch.randn(2, 4, 6, 6)
    skips = nasbench201.Cell(4, ["skip_connect"] * 6)
    torch.testing.assert_close(skips(x), 4 * x)  # four paths lead from node 0 to node 3
    chain = nasbench201.Cell(4, ["skip_connect", "none", "skip_connect", "none", "none", "skip_connect"])
    torch.testing.assert_close(chain(x), x)
    assert not nasbench201.Cell(4, ["none"] * 6)(x).any()
    assert all(isinstance(edge, OneOf) for edge in skips.edges)
    assert nasbench201.EDGES == SPACE_EDGES


def test_operations_never_share_names() -> None:
    cells = [nasbench201.Cell(4, [op] * 6) for op in ("nor_conv_1x1", "nor_conv_3x3")]
    names = [set(cell.state_dict()) for cell in cells]
    assert names[0] and names[1] and not names[0] & names[1]


BAD: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "strides": (lambda: mobilenet.build(digits_space().smallest(), strides=(1, 2)), "give one stride each"),
    "activation": (lambda: mobilenet.build(digits_space().smallest(), activation="tanh"), "choose one of relu"),
    "patches": (lambda: vit.build(ViTSpace().smallest(), image_size=28, patch_size=8), "choose a divisor"),
    "positions": (lambda: gpt.build(GPTSpace().smallest(), positions="none"), "choose one of rotary"),
    "norm": (lambda: gpt.build(GPTSpace().smallest(), norm="batch"), "choose one of rms"),
    "odd head": (lambda: gpt.build(GPTSpace().smallest(), head_size=15), "even size"),
}


@pytest.mark.parametrize(("build", "words"), BAD.values(), ids=list(BAD))
def test_bad_settings_are_refused_in_one_line(build: Callable[[], nn.Module], words: str) -> None:
    with pytest.raises(ValueError, match=words) as error:
        build()
    assert "\n" not in str(error.value)


def test_a_rexnet_adds_its_input_to_the_first_channels() -> None:
    block = rexnet.Block(4, 6, 6, 1, None).eval()
    with torch.no_grad():
        block.project[1].weight.zero_()
        x = torch.randn(2, 4, 3, 3)
        y = block(x)
    assert torch.equal(y[:, :4], x)
    assert not y[:, 4:].any()
    assert not rexnet.Block(6, 4, 6, 1, None).residual
    assert not rexnet.Block(4, 6, 6, 2, None).residual


def test_the_published_rexnet_has_its_published_size() -> None:
    """4.8 million parameters and 0.40 billion multiply-accumulates, for 1000 classes and images of 224 pixels."""
    arch = ReXNetSpace().architecture({"start": 16, "slope": 180, "multiplier": 1.0})
    with torch.device("meta"):
        module = rexnet.build(arch, num_classes=1000, in_channels=3, stem_stride=2).eval()
        assert round(sum(parameter.numel() for parameter in module.parameters()) / 1e6, 1) == 4.8
        with FlopCounterMode(display=False) as counter:
            module(torch.zeros(1, 3, 224, 224))
    assert round(counter.get_total_flops() / 2e9, 2) == 0.4


def test_an_extracted_rexnet_is_its_slice() -> None:
    space = ReXNetSpace(multiplier=(0.9, 1.3))
    supernet = Supernet(space, partial(rexnet.build, strides=(1, 2, 1, 2, 1, 1)), seed=0)
    x = torch.randn(2, 1, 8, 8)
    for arch in (space.smallest(), space.sample(np.random.default_rng(1))):
        assert torch.equal(supernet.subnet(arch).eval()(x), supernet.extract(arch).eval()(x))


def test_a_rexnet_says_what_does_not_fit() -> None:
    arch = ReXNetSpace().smallest()
    with pytest.raises(ValueError, match=r"16 widths: stages=\(1, 2\) are 3 blocks, give one each"):
        rexnet.build(arch, stages=(1, 2), strides=(1, 1))
    with pytest.raises(ValueError, match=r"strides=\(1,\): there are 6 stages, give one stride each"):
        rexnet.build(arch, strides=(1,))
