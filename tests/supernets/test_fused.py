"""Fused axes: read as blocks where a class or a run of the network says so, and told where only sizes hint at it."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from search_spaces import Architecture, Space, choice
from supernets import Blocks, Supernet
from supernets.errors import SupernetError
from supernets.fused import find_fused
from supernets.relaxation.mixture import Mixture


class Hidden(Space):
    hidden = choice(2, 4, 6)


class Gated(nn.Module):
    """A gated depthwise convolution: pointwise, norm, depthwise, cut in two."""

    def __init__(self, hidden: int, how: str) -> None:
        super().__init__()
        self.how = how
        self.into = nn.Conv2d(3, 2 * hidden, 1)
        self.norm = nn.BatchNorm2d(2 * hidden)
        self.deep = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden)
        self.out = nn.Conv2d(hidden, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.deep(self.norm(self.into(x)))
        if self.how == "glu":
            gated = F.glu(x, dim=1)
        else:
            gate, value = x.chunk(2, dim=1) if self.how == "chunk" else torch.split(x, x.shape[1] // 2, dim=1)
            gated = gate.sigmoid() * value
        found: Tensor = self.out(gated)
        return found


@pytest.mark.parametrize("how", ["chunk", "split", "glu"])
def test_halves_that_a_run_cuts_apart_are_sliced_each(how: str) -> None:
    def build(arch: Architecture) -> nn.Module:
        return Gated(arch.hidden, how)

    example, space = torch.randn(2, 3, 5, 5), Hidden()
    layout = find_fused(build, space.largest(), example)
    assert set(layout) == {f"{layer}.{kind}" for layer in ("into", "norm", "deep") for kind in ("weight", "bias")}
    assert set(layout.values()) == {Blocks(2)}
    supernet = Supernet(space, build, layout=layout)
    large, small = (supernet.extract(space.architecture({"hidden": n})) for n in (6, 2))
    for name in ("into", "deep"):
        whole = large.get_submodule(name).weight.view(2, 6, *large.get_submodule(name).weight.shape[1:])
        torch.testing.assert_close(small.get_submodule(name).weight, whole[:, :2].flatten(0, 1))


class Plain(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.one = nn.Linear(4, 2 * hidden)
        self.two = nn.Linear(2 * hidden, 4)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.one(x).chunk(2, dim=0)  # the batch, not the features
        found: Tensor = self.two(torch.cat(rows).relu())
        return found


def test_what_is_cut_along_the_batch_is_not_fused() -> None:
    assert find_fused(lambda arch: Plain(arch.hidden), Hidden().largest(), torch.randn(4, 4)) == {}


# --- attention of others ------------------------------------------------------------------------------------------


class Widths(Space):
    width = choice(16, 32)


def gpt2(arch: Architecture) -> nn.Module:
    import transformers

    config = transformers.GPT2Config(
        vocab_size=20, n_embd=arch.width, n_head=arch.width // 8, n_layer=1, n_positions=8, n_inner=24
    )
    return transformers.GPT2Model(config)  # type: ignore[no-any-return]


def test_a_narrow_gpt2_reads_queries_from_queries() -> None:
    pytest.importorskip("transformers", reason="the extra is not installed: pip install nas[transformers]")
    space = Widths()
    supernet = Supernet(space, gpt2)
    large, small = (supernet.extract(space.architecture({"width": width})) for width in (32, 16))
    whole = large.h[0].attn.c_attn.weight.view(32, 3, 32)  # type: ignore[index, union-attr]
    narrow = small.h[0].attn.c_attn.weight.view(16, 3, 16)  # type: ignore[index, union-attr]
    torch.testing.assert_close(narrow, whole[:16, :, :16])
    bias = large.h[0].attn.c_attn.bias.view(3, 32)  # type: ignore[index, union-attr]
    torch.testing.assert_close(small.h[0].attn.c_attn.bias.view(3, 16), bias[:, :16])  # type: ignore[index, union-attr]


class Queries(Space):
    heads = choice(2, 4, 8)


class Groups(Space):
    groups = choice(1, 2, 4)


def llama(heads: int, keys: int) -> nn.Module:
    import transformers

    config = transformers.LlamaConfig(
        vocab_size=20,
        hidden_size=16,
        head_dim=4,
        num_attention_heads=heads,
        num_key_value_heads=keys,
        num_hidden_layers=1,
        intermediate_size=24,
        max_position_embeddings=16,
    )
    return transformers.LlamaModel(config)  # type: ignore[no-any-return]


def test_fewer_queries_are_the_leading_ones_of_each_group() -> None:
    pytest.importorskip("transformers", reason="the extra is not installed: pip install nas[transformers]")
    space = Queries()
    supernet = Supernet(space, lambda arch: llama(arch.heads, 2))
    large, small = (supernet.extract(space.architecture({"heads": heads})) for heads in (8, 4))
    attention, narrow = large.layers[0].self_attn, small.layers[0].self_attn  # type: ignore[index, union-attr]
    # two groups of four queries, of which each keeps its first two
    kept = torch.tensor([0, 1, 4, 5])
    rows = (kept[:, None] * 4 + torch.arange(4)).flatten()
    torch.testing.assert_close(narrow.q_proj.weight, attention.q_proj.weight[rows])
    torch.testing.assert_close(narrow.o_proj.weight, attention.o_proj.weight[:, rows])
    torch.testing.assert_close(narrow.k_proj.weight, attention.k_proj.weight)
    # the same as the large one whose other queries are not listened to
    tokens = torch.randint(0, 20, (2, 5))
    muted = supernet.extract(space.largest())
    others = torch.tensor([row for row in range(32) if row not in rows.tolist()])
    with torch.no_grad():
        muted.layers[0].self_attn.o_proj.weight[:, others] = 0  # type: ignore[index, union-attr]
    torch.testing.assert_close(small(tokens).last_hidden_state, muted(tokens).last_hidden_state)


def test_fewer_groups_are_the_leading_ones_with_all_their_queries() -> None:
    pytest.importorskip("transformers", reason="the extra is not installed: pip install nas[transformers]")
    space = Groups()
    supernet = Supernet(space, lambda arch: llama(2 * arch.groups, arch.groups))
    large, small = (supernet.extract(space.architecture({"groups": n})) for n in (4, 2))
    attention, narrow = large.layers[0].self_attn, small.layers[0].self_attn  # type: ignore[index, union-attr]
    torch.testing.assert_close(narrow.q_proj.weight, attention.q_proj.weight[:16])
    torch.testing.assert_close(narrow.k_proj.weight, attention.k_proj.weight[:8])


class Timm(nn.Module):
    """Attention as timm writes it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_heads = width // 8
        self.qkv = nn.Linear(12, 3 * width)
        self.proj = nn.Linear(width, 12)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).reshape(*x.shape[:2], 3, self.num_heads, 8).permute(2, 0, 3, 1, 4)
        found: Tensor = self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return found


def test_qkv_of_timm_is_three_blocks() -> None:
    space = Widths()
    supernet = Supernet(space, lambda arch: nn.Sequential(Timm(arch.width)))
    large, small = (supernet.extract(space.architecture({"width": width}))[0] for width in (32, 16))
    torch.testing.assert_close(small.qkv.weight.view(3, 16, 12), large.qkv.weight.view(3, 32, 12)[:, :16])


# --- parametrizations ---------------------------------------------------------------------------------------------


def normed(norm: Callable[[nn.Module], nn.Module]) -> Callable[[Architecture], nn.Module]:
    return lambda arch: nn.Sequential(norm(nn.Linear(4, arch.hidden)), nn.ReLU(), nn.Linear(arch.hidden, 3))


@pytest.mark.parametrize("norm", [parametrizations.spectral_norm, parametrizations.orthogonal])
def test_norms_that_are_computed_from_weights_are_refused(norm: Callable[[nn.Module], nn.Module]) -> None:
    with pytest.raises(
        SupernetError, match=r"^0 has a \w+, which is computed from the values of its weight .* weight_norm"
    ):
        Supernet(Hidden(), normed(norm))


def test_weight_norm_is_sliced_and_relaxed() -> None:
    space, example = Hidden(), torch.randn(5, 4, dtype=torch.float64)
    supernet = Supernet(space, normed(parametrizations.weight_norm), dtype=torch.float64)
    for hidden in (2, 6):
        arch = space.architecture({"hidden": hidden})
        torch.testing.assert_close(supernet.subnet(arch).eval()(example), supernet.extract(arch).eval()(example))
    assert supernet.relax(Mixture(space)).eval()(example).isfinite().all()


class Adapted(nn.Module):
    """A layer as peft wraps it: the layer itself and, by the adapter's name, two thin ones."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.base_layer = layer
        self.lora_A = nn.ModuleDict({"default": nn.Linear(layer.in_features, 2, bias=False)})
        self.lora_B = nn.ModuleDict({"default": nn.Linear(2, layer.out_features, bias=False)})

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.base_layer(x) + self.lora_B["default"](self.lora_A["default"](x))
        return found


def test_models_with_adapters_around_their_layers_open() -> None:
    space, example = Hidden(), torch.randn(5, 4)

    def build(arch: Architecture) -> nn.Module:
        return nn.Sequential(Adapted(nn.Linear(4, arch.hidden)), nn.ReLU(), Adapted(nn.Linear(arch.hidden, 3)))

    parent = build(space.largest())
    supernet = Supernet(space, build, init=parent)
    torch.testing.assert_close(supernet.extract(space.largest())(example), parent(example))
    small = space.smallest()
    torch.testing.assert_close(supernet.subnet(small)(example), supernet.extract(small)(example))


def test_coverage_tells_of_axes_that_may_be_fused() -> None:
    class Mixer(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.into = nn.Linear(4, width)
            self.both = nn.Linear(width, 2 * width)
            self.out = nn.Linear(2 * width, 3)

    supernet = Supernet(Widths(), lambda arch: Mixer(arch.width))
    (line,) = supernet.coverage().multiples
    assert line.startswith("axis 0 of both.weight is always 2 times the other")
    assert "layout={'both.weight': Blocks(2, axis=0)}" in line and line in supernet.coverage().table()
    said = Supernet(Widths(), lambda arch: Mixer(arch.width), layout={"both.weight": Blocks(2), "both.bias": Blocks(2)})
    assert said.coverage().multiples == ()
