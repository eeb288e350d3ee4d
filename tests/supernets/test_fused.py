"""Fused axes: what classes imply, what a trace proves, what is only noted; and networks cut by hand to compare with."""

import ast
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from search_spaces import Architecture, Space, choice
from supernets import Blocks, Grid, Routed, Supernet, SupernetError, fused
from supernets.fused import find_fused
from supernets.relaxation.mixture import Mixture
from supernets.sharing import LowRank
from tests.supernets.zoo import ZOO

transformers = pytest.importorskip("transformers", reason="the extra is not installed: pip install nas[transformers]")

Build = Callable[[Architecture], nn.Module]


def tokens(vocab: int = 50) -> Tensor:
    return torch.randint(vocab, (2, 7), generator=torch.Generator().manual_seed(0))


def whole(space: Space, build: Build, **settings: object) -> tuple[Supernet, dict[str, Tensor]]:
    """A supernet in float64 with random weights and biases, and its weights as the largest network has them."""
    net = Supernet(space, build, dtype=torch.float64, **settings)  # type: ignore[arg-type]
    random = torch.Generator().manual_seed(1)
    values = {name: torch.randn(value.shape, generator=random) * 0.2 for name, value in net.state_dict().items()}
    net.load_state_dict({name: value.abs() if "running_var" in name else value for name, value in values.items()})
    return net, {name: tensor.detach().clone() for name, tensor in net.extract(space.largest()).state_dict().items()}


def same(net: Supernet, arch: Architecture, expected: dict[str, Tensor], example: Tensor) -> None:
    """The network of an architecture is the one that was cut by hand: weights and outputs bitwise."""
    extracted = net.extract(arch).eval()
    state = extracted.state_dict()
    for name, value in expected.items():
        assert torch.equal(state[name], value), name
    by_hand = net.build(arch).double().eval()
    missing, unexpected = by_hand.load_state_dict({**extracted.state_dict(), **expected})
    assert not missing and not unexpected
    with torch.no_grad():
        outputs = [module(example)[0] for module in (by_hand, extracted, net.subnet(arch).eval())]
    assert torch.equal(outputs[0], outputs[1])
    assert torch.allclose(outputs[0], outputs[2], rtol=0, atol=1e-12)


# --- GPT-2: q, k and v in one transposed matrix -----------------------------------------------------------------------


class GPT2Space(Space):
    width = choice(16, 24, 32)
    depth = choice(1, 2)
    hidden = choice(20, 40)


def gpt2(heads: Callable[[int], int], cross: bool = False) -> Build:
    def build(arch: Architecture) -> nn.Module:
        return transformers.GPT2LMHeadModel(
            transformers.GPT2Config(
                vocab_size=50, n_positions=16, n_embd=arch.width, n_layer=arch.depth, n_inner=arch.hidden,
                n_head=heads(arch.width), add_cross_attention=cross, bos_token_id=0, eos_token_id=0,
            )
        )  # fmt: skip

    return build


def narrow_gpt2(state: dict[str, Tensor], width: int, hidden: int, kept: Tensor) -> dict[str, Tensor]:
    """The weights of a narrower GPT-2, ``kept`` being the features of q, k, v and of their output that stay."""
    found = {}
    for name, value in state.items():
        *_, layer, kind = name.split(".")
        if layer == "c_attn":
            columns = [part.index_select(-1, kept) for part in value.split(32, dim=-1)]
            value = torch.cat(columns, -1)[:width] if kind == "weight" else torch.cat(columns, -1)
        elif name.endswith("attn.c_proj.weight"):
            value = value[kept][:, :width]
        elif layer == "c_fc":
            value = value[:width, :hidden] if kind == "weight" else value[:hidden]
        elif name.endswith("mlp.c_proj.weight"):
            value = value[:hidden, :width]
        else:
            value = value[..., :width]
        found[name] = value
    return found


@pytest.mark.parametrize("fixed_heads", [False, True])
def test_a_narrow_gpt2_reads_q_from_q(fixed_heads: bool) -> None:
    """Fewer heads of 8 features, or fewer features in each of 4 heads."""
    net, state = whole(GPT2Space(), gpt2(lambda width: 4 if fixed_heads else width // 8))
    for width in (16, 24):
        kept = torch.arange(32).view(4, 8)[:, : width // 4].flatten() if fixed_heads else torch.arange(width)
        arch = net.space.at(width=width, hidden=20, depth=2).largest()
        same(net, arch, narrow_gpt2(state, width, 20, kept), tokens())


def test_gpt2s_cross_attention_has_k_and_v_in_one_matrix() -> None:
    net, state = whole(GPT2Space(), gpt2(lambda width: width // 8, cross=True))
    narrow = net.extract(net.space.at(width=16).largest()).state_dict()
    for kind in ("weight", "bias"):
        name = f"transformer.h.0.crossattention.c_attn.{kind}"
        k, v = state[name].split(32, dim=-1)
        expected = torch.cat([k[..., :16], v[..., :16]], -1)
        assert torch.equal(narrow[name], expected[:16] if kind == "weight" else expected)


# --- grouped queries -----------------------------------------------------------------------------------------------


class LlamaSpace(Space):
    """A query head is one of its key head's group."""

    shared = choice(1, 2, 3)  # key heads
    group = choice(1, 2, 4)  # query heads of each
    size = choice(4, 8)
    width = choice(24, 48)
    hidden = choice(20, 30)


def llama(arch: Architecture) -> nn.Module:
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=50, hidden_size=arch.width, intermediate_size=arch.hidden, num_hidden_layers=2,
            num_attention_heads=arch.shared * arch.group, num_key_value_heads=arch.shared, head_dim=arch.size,
            max_position_embeddings=16, attention_bias=True,
        )
    )  # fmt: skip


def narrow_llama(state: dict[str, Tensor], arch: Architecture) -> dict[str, Tensor]:
    """Weights of a smaller Llama: heads chosen one by one, by hand."""
    queries = [
        (key * 4 + query) * 8 + feature
        for key in range(arch.shared)
        for query in range(arch.group)
        for feature in range(arch.size)
    ]
    keys = [key * 8 + feature for key in range(arch.shared) for feature in range(arch.size)]
    found = {}
    for name, value in state.items():
        layer = name.split(".")[-2]
        if layer == "q_proj":
            value = value[queries]
        elif layer in ("k_proj", "v_proj"):
            value = value[keys]
        elif layer in ("gate_proj", "up_proj"):
            value = value[: arch.hidden]
        elif name.endswith("o_proj.weight"):
            value = value[:, queries]
        elif layer == "down_proj":
            value = value[:, : arch.hidden]
        if layer in ("o_proj", "down_proj"):
            value = value[: arch.width]
        elif "bias" not in name:
            value = value[..., : arch.width]
        found[name] = value
    return found


LLAMAS = {
    "queries alone": {"shared": 3, "size": 8},
    "keys alone": {"group": 4, "size": 8},
    "both": {"size": 8},
    "features of a head": {"shared": 3, "group": 4},
    "all": {},
}


@pytest.mark.parametrize("moved", list(LLAMAS))
def test_fewer_query_heads_are_the_leading_ones_of_each_group(moved: str) -> None:
    net, state = whole(LlamaSpace().at(**LLAMAS[moved]), llama)
    archs = [net.space.smallest(), *(arch for arch in net.space.enumerate() if arch.width == 24 and arch.hidden == 30)]
    for arch in archs[:: max(1, len(archs) // 8)]:
        same(net, arch, narrow_llama(state, arch), tokens())


def test_gradients_of_networks_with_other_groups_add_up_where_they_belong() -> None:
    net, state = whole(LlamaSpace(), llama)
    places = {name: torch.arange(value.numel()).view_as(value) for name, value in state.items()}
    total = {name: torch.zeros_like(value) for name, value in state.items()}
    archs = [arch for index, arch in enumerate(net.space.enumerate()) if index % 19 == 5]
    assert len({(arch.shared, arch.group) for arch in archs}) > 3
    for arch in archs:
        net.subnet(arch).eval()(tokens())[0].square().mean().backward()
        extracted = net.extract(arch).eval()
        extracted(tokens())[0].square().mean().backward()
        at = narrow_llama(places, arch)
        for name, parameter in extracted.named_parameters():
            assert parameter.grad is not None
            total[name].view(-1).index_add_(0, at[name].flatten(), parameter.grad.flatten())
    gradients = net.gradients()
    for name, gradient in gradients.items():
        assert torch.allclose(gradient, total[name], rtol=1e-9, atol=1e-12), name


def test_groups_that_do_not_fit_into_the_largest_network_are_told() -> None:
    """More key heads for the same queries: no selection keeps the pairs, so heads are plain leading ones."""

    class Traded(Space):
        group = choice(1, 2)

    def build(arch: Architecture) -> nn.Module:
        return transformers.LlamaForCausalLM(
            transformers.LlamaConfig(
                vocab_size=50, hidden_size=16, intermediate_size=20, num_hidden_layers=1, num_attention_heads=2,
                num_key_value_heads=2 // arch.group, head_dim=8, max_position_embeddings=16,
            )
        )  # fmt: skip

    net = Supernet(Traded(), build)
    q = "model.layers.0.self_attn.q_proj.weight"
    assert torch.equal(net.extract(Traded().smallest()).get_parameter(q), net.state_dict()[q])
    assert any("q_proj" in note and "lose the keys" in note for note in net.coverage().notes)
    assert "q_proj" in net.coverage().table()


# --- other families --------------------------------------------------------------------------------------------------


class Small(Space):
    width = choice(16, 32)
    heads = choice(2, 4)
    hidden = choice(12, 20)


def config(kind: str, arch: Architecture, **more: object) -> object:
    return getattr(transformers, kind)(
        vocab_size=50, hidden_size=arch.width, intermediate_size=arch.hidden, num_hidden_layers=1,
        num_attention_heads=arch.heads, max_position_embeddings=16, pad_token_id=0, **more,
    )  # fmt: skip


def phi3(arch: Architecture, shared: int | None = None) -> nn.Module:
    return transformers.Phi3ForCausalLM(
        config("Phi3Config", arch, num_key_value_heads=shared, head_dim=8, bos_token_id=0, eos_token_id=0)
    )


def bert(arch: Architecture) -> nn.Module:
    return transformers.BertModel(config("BertConfig", arch))


def neox(arch: Architecture) -> nn.Module:
    return transformers.GPTNeoXModel(config("GPTNeoXConfig", arch))


def modernbert(arch: Architecture) -> nn.Module:
    return transformers.ModernBertModel(config("ModernBertConfig", arch))


def experts(arch: Architecture) -> nn.Module:
    return transformers.Qwen3MoeForCausalLM(
        config(
            "Qwen3MoeConfig", arch, num_key_value_heads=2, head_dim=8, num_experts=4, num_experts_per_tok=2,
            moe_intermediate_size=arch.hidden, decoder_sparse_step=1,
        )
    )  # fmt: skip


def blocks(net: Supernet, ending: str) -> tuple[int, ...]:
    return next(axes.blocks for name, axes in net._survey.axes.items() if name.endswith(ending))


FAMILIES: dict[str, tuple[Build, Space, dict[str, tuple[int, ...]]]] = {
    "phi3": (phi3, Small(), {"qkv_proj.weight": (3, 1), "gate_up_proj.weight": (2, 1), "o_proj.weight": (1, 1)}),
    "bert": (bert, Small().at(heads=4), {"self.query.weight": (4, 1), "output.dense.weight": (1, 4)}),
    "neox": (neox, Small().at(heads=4), {"query_key_value.weight": (12, 1), "attention.dense.weight": (1, 4)}),
    "modernbert": (modernbert, Small(), {"Wi.weight": (2, 1), "Wqkv.weight": (3, 1)}),
    "experts": (experts, Small(), {"gate_up_proj": (1, 2, 1), "q_proj.weight": (2, 1), "o_proj.weight": (1, 2)}),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", list(FAMILIES))
def test_families_are_known_and_a_run_agrees(family: str) -> None:
    build, space, expected = FAMILIES[family]
    net = Supernet(space, build, example=tokens())
    assert {ending: blocks(net, ending) for ending in expected} == expected
    assert not net._survey.proved
    with torch.no_grad():
        for arch in space.enumerate():
            outputs = [one.eval()(tokens())[0] for one in (net.subnet(arch), net.extract(arch))]
            assert torch.allclose(*outputs, rtol=1e-5, atol=1e-6)


def test_unequal_parts_that_stay_are_one_tensor() -> None:
    net = Supernet(Small().at(heads=4), lambda arch: phi3(arch, 2))  # nothing moves them
    assert blocks(net, "qkv_proj.weight") == (1, 1)


class TimmAttention(nn.Module):
    """As in timm."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, count, width = x.shape
        q, k, v = self.qkv(x).reshape(batch, count, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        x = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.proj(x.transpose(1, 2).reshape(batch, count, width))


def test_timms_qkv_is_known() -> None:
    net = Supernet(Small(), lambda arch: TimmAttention(arch.width, arch.width // 8))
    narrow = net.extract(Small().smallest()).qkv.weight
    assert torch.equal(narrow, torch.cat([part[:16, :16] for part in net.state_dict()["qkv.weight"].split(32)]))


class Gate(Space):
    width = choice(4, 6)
    hidden = choice(3, 5, 8)


# --- what a run shows ----------------------------------------------------------------------------------------------


class Halves(nn.Module):
    """A gated depthwise convolution, whose halves are cut apart in one way or another."""

    def __init__(self, hidden: int, how: str) -> None:
        super().__init__()
        self.how = how
        self.into = nn.Conv2d(3, 2 * hidden, 1)
        self.deep = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden)
        self.out = nn.Conv2d(hidden, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.deep(self.into(x))
        half = x.shape[1] // 2
        if self.how == "glu":
            return self.out(nn.functional.glu(x, dim=1))
        if self.how == "view":
            gate, value = x.unflatten(1, (2, half)).unbind(1)
        elif self.how == "slices":
            gate, value = x[:, :half], x[:, half:]
        else:
            gate, value = x.chunk(2, dim=1) if self.how == "chunk" else torch.split(x, half, dim=1)
        return self.out(gate.sigmoid() * value)


@pytest.mark.parametrize("how", ["chunk", "split", "glu", "view", "slices"])
def test_halves_are_found_however_they_are_cut(how: str) -> None:
    space = Gate().at(width=4)
    found = find_fused(space, lambda arch: Halves(arch.hidden, how), torch.randn(2, 3, 5, 5))
    assert set(found) == {f"{layer}.{kind}" for layer in ("into", "deep") for kind in ("weight", "bias")}
    assert set(found.values()) == {(Blocks(2),)}


class Batched(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.one = nn.Linear(4, 2 * hidden)
        self.two = nn.Linear(2 * hidden, 4)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.one(x).chunk(2, dim=0)  # the batch, not the features
        return self.two(torch.cat(rows).relu())


def test_what_is_cut_along_the_batch_is_not_fused() -> None:
    assert find_fused(Gate().at(width=4), lambda arch: Batched(arch.hidden), torch.randn(4, 4)) == {}


@pytest.mark.parametrize("name", ["fused", "u_shaped"])
def test_a_run_proves_what_would_have_to_be_said(name: str) -> None:
    case = ZOO[name]
    said = Supernet(case.space, case.build, layout=case.layout)
    shown = Supernet(case.space, case.build, example=case.example().float())
    assert shown._survey.axes == said._survey.axes
    assert not shown.coverage().notes
    assert "blocks as a run has shown" in shown.coverage().table()
    found = find_fused(case.space, case.build, case.example().float())
    assert Supernet(case.space, case.build, layout=found)._survey.axes == said._survey.axes
    assert not find_fused(case.space, case.build, case.example().float(), case.layout)


class GatedConv(nn.Module):
    """A depthwise convolution whose output is chunked in two, after a pointwise one and a norm (as in Restormer)."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, arch.width, 3, padding=1)
        self.into = nn.Conv2d(arch.width, 2 * arch.hidden, 1)
        self.norm = nn.BatchNorm2d(2 * arch.hidden)
        self.mix = nn.Conv2d(2 * arch.hidden, 2 * arch.hidden, 3, padding=1, groups=2 * arch.hidden)
        self.out = nn.Conv2d(arch.hidden, arch.width, 1)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        x = self.stem(x)
        gate, value = self.mix(self.norm(self.into(x)).relu()).chunk(2, 1)
        return (x + self.out(gate.sigmoid() * value),)


def test_the_halves_of_a_gated_depthwise_convolution_stay_apart() -> None:
    images = torch.rand(2, 1, 5, 5, generator=torch.Generator().manual_seed(0))
    net, state = whole(Gate(), GatedConv, example=images)
    arch = Gate().architecture({"is": "Gate", "width": 4, "hidden": 3})
    kept = [*range(3), *range(8, 11)]
    expected = {
        name: value[kept] if name.split(".")[0] in ("norm", "mix") and value.dim() else value
        for name, value in state.items()
    }
    expected |= {"stem.weight": state["stem.weight"][:4], "stem.bias": state["stem.bias"][:4]}
    expected |= {"into.weight": state["into.weight"][kept][:, :4], "into.bias": state["into.bias"][kept]}
    expected |= {"out.weight": state["out.weight"][:4, :3], "out.bias": state["out.bias"][:4]}
    same(net, arch, expected, images.double())


class Parts(Space):
    width = choice(4, 8)


class Uneven(nn.Module):
    """A state of half the width beside a gate, in one matrix."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.width = arch.width
        self.fused = nn.Linear(5, arch.width + arch.width // 2)
        self.head = nn.Linear(arch.width // 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        gate, state = self.fused(x).split([self.width, self.width // 2], -1)
        return self.head(state * gate[..., ::2])


class Grown(nn.Module):
    """Features that are appended to the input's: the first part does not move, so a leading part is right."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.more = nn.Linear(5, arch.width)
        self.head = nn.Linear(5 + arch.width, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.cat([x, self.more(x)], -1))


def test_what_no_layout_can_express_is_told() -> None:
    x = torch.rand(2, 5)
    note = Supernet(Parts(), Uneven, example=x).coverage().notes[0]
    assert note.startswith("fused.weight: axis 0 holds parts of 8 + 4 or 4 + 2") or note.startswith("fused.bias")
    assert "Parts(8, 4) for these sizes" in note and "a layer for each" in note
    assert not Supernet(Parts(), Grown, example=x).coverage().notes
    assert not Supernet(Parts(), Grown, example=x)._survey.proved


def test_an_input_that_does_not_fit_is_one_line() -> None:
    with pytest.raises(SupernetError, match=r"does not run on the example.*give an input") as caught:
        Supernet(Parts(), Grown, example=torch.rand(2, 7))
    assert "\n" not in str(caught.value)


# --- what sizes tell ------------------------------------------------------------------------------------------------


def test_an_axis_that_is_always_a_multiple_is_told_with_the_layout_to_paste() -> None:
    case = ZOO["fused"]
    table = Supernet(case.space, case.build).coverage().table()
    for line in (
        'layout={"*.*.attention.qkv.weight": Blocks(3), "*.*.attention.qkv.bias": Blocks(3)}',
        'layout={"*.*.gate_up.weight": Blocks(2), "*.*.gate_up.bias": Blocks(2)}',
    ):
        assert line in table
        Supernet(case.space, case.build, layout=eval_layout(line))


def eval_layout(line: str) -> dict[str, Blocks]:
    """Read the line back as the Python that it is."""
    found = ast.parse(line.removeprefix("layout="), mode="eval").body
    assert isinstance(found, ast.Dict)
    return {
        ast.literal_eval(key): Blocks(*map(ast.literal_eval, value.args))  # type: ignore[arg-type, attr-defined]
        for key, value in zip(found.keys, found.values, strict=True)
    }


# --- what users say --------------------------------------------------------------------------------------------------


class OwnAttention(nn.Module):
    """Grouped queries in a class that nobody knows."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.ask = nn.Linear(5, arch.shared * arch.group * 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.ask(x)


class OwnSpace(Space):
    shared = choice(1, 2)
    group = choice(1, 3)


def test_a_layout_may_be_a_function_of_the_architecture() -> None:
    net = Supernet(OwnSpace(), OwnAttention, layout={"ask.*": lambda arch: Grid(arch.shared, arch.group)})
    stored = net.state_dict()["ask.weight"].view(2, 3, 4, 5)
    for arch in OwnSpace().enumerate():
        weight = net.extract(arch).ask.weight
        assert torch.equal(weight, stored[: arch.shared, : arch.group].reshape(weight.shape))
    alone = Supernet(OwnSpace().at(shared=2), OwnAttention, layout={"ask.*": Blocks(2)})
    assert torch.equal(
        alone.extract(alone.space.smallest()).ask.weight,
        alone.state_dict()["ask.weight"].view(2, 3, 4, 5)[:, :1].reshape(8, 5),
    )


def test_wrong_grids_are_one_line() -> None:
    def grid(arch: Architecture) -> Grid:
        return Grid(3 - arch.shared, arch.shared * arch.group)

    cases: list[tuple[str, Callable[[], object]]] = [
        (r"Grid\(0,\): a grid has at least one level", lambda: Grid(0)),
        (r"do not divide into 5 fused blocks", lambda: Supernet(OwnSpace(), OwnAttention, layout={"ask.*": Grid(5)})),
        (r"do not fit into one another", lambda: Supernet(OwnSpace(), OwnAttention, layout={"ask.*": grid})),
    ]
    for message, provoke in cases:
        with pytest.raises(SupernetError, match=message) as caught:
            provoke()
        assert "\n" not in str(caught.value)


def test_blocks_by_architecture_are_neither_relaxed_nor_routed() -> None:
    layout = {"ask.*": lambda arch: Grid(arch.shared, arch.group)}
    net = Supernet(OwnSpace(), OwnAttention, layout=layout)
    with pytest.raises(SupernetError, match="another number of blocks in other networks"):
        net.relax(Mixture(net.space))
    with pytest.raises(SupernetError, match="leave it out of mixed"):
        Supernet(OwnSpace(), OwnAttention, layout=layout, sharing=Routed(mixed=("ask.*",)))


def test_a_large_network_is_run_on_shapes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    case, example = ZOO["fused"], ZOO["fused"].example().float()
    found = find_fused(case.space, case.build, example)
    monkeypatch.setattr(fused, "SMALL", 0)
    monkeypatch.setattr(fused, "build_initialised", None)
    assert find_fused(case.space, case.build, example) == found


def test_adapters_have_the_blocks_of_each_network() -> None:
    layout = {"ask.*": lambda arch: Grid(arch.shared, arch.group)}
    net = Supernet(OwnSpace(), OwnAttention, layout=layout, sharing=LowRank(rank=2), dtype=torch.float64)
    state, x = net.state_dict(), torch.rand(3, 5, dtype=torch.float64)
    with torch.no_grad():
        state["@up.ask.weight"].normal_(generator=torch.Generator().manual_seed(0))
    dense = state["ask.weight"] + 8 * state["@up.ask.weight"] @ state["@down.ask.weight"]
    for arch in OwnSpace().enumerate():
        expected = dense.view(2, 3, 4, 5)[: arch.shared, : arch.group].reshape(-1, 5)
        assert torch.allclose(net.extract(arch).ask.weight, expected, rtol=0, atol=1e-12)
        assert torch.allclose(net.subnet(arch)(x), net.extract(arch)(x), rtol=0, atol=1e-12)
