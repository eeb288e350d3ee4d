"""Subsets of blocks, their rankings, tied blocks, operators of a block as choices: on models of others and our own."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from search_spaces import Architecture, Space, choice
from supernets import Supernet, SupernetError, keep, one_of, stack, tie
from supernets.compression.blocks import SCORES, block_scores, rank_blocks
from supernets.compression.inheritance import renamed
from supernets.errors import CompressionError
from supernets.spelling import SpellingError
from supernets.structure import Kept, Stack
from supernets.tasks import Classification

transformers: Any = pytest.importorskip(
    "transformers", reason="the extra is not installed: pip install nas[transformers]"
)

RANKING = (2, 0, 3, 1)
SHAPE = {"vocab_size": 30, "max_position_embeddings": 32}
SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 4, "num_attention_heads": 2}


def llama() -> nn.Module:
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**SHAPE, **SIZES, num_key_value_heads=1))


def gpt2() -> nn.Module:
    sizes = {"n_embd": 16, "n_layer": 4, "n_head": 2, "n_positions": 32, "bos_token_id": 1, "eos_token_id": 2}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=30, **sizes))


def bert() -> nn.Module:
    return transformers.BertForMaskedLM(transformers.BertConfig(**SHAPE, **SIZES))


MODELS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "llama": (llama, "model.layers"),
    "gpt2": (gpt2, "transformer.h"),
    "bert": (bert, "bert.encoder.layer"),
}


class BySize(Space):
    depth = choice(2, 3, 4)


class Free(Space):
    keep = choice(False, True, per=4)


class Logits(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> Tensor:
        found: Tensor = self.model(input_ids=ids).logits
        return found


def kept(name: str, arch: Architecture) -> nn.Module:
    make, path = MODELS[name]
    model = make()
    parent, _, last = path.rpartition(".")
    chosen = arch.keep if "keep" in arch else sorted(RANKING[: arch.depth])
    setattr(model.get_submodule(parent), last, keep(model.get_submodule(path), chosen))
    return Logits(model)


def tokens() -> Tensor:
    return torch.randint(3, 30, (2, 10), generator=torch.Generator().manual_seed(0))


# -- subsets of blocks


@pytest.mark.parametrize("space", [pytest.param(BySize(), marks=pytest.mark.slow), Free()])
@pytest.mark.parametrize("name", MODELS)
def test_a_subset_runs_what_the_blocks_of_the_parent_compute_in_their_order(name: str, space: Space) -> None:
    parent = kept(name, space.largest()).double().eval()
    supernet = Supernet(space, lambda arch: kept(name, arch), init=parent.state_dict(), dtype=torch.float64)
    arch = space.architecture({"depth": 2} if "depth" in space.largest() else {"keep": [True, False, True, False]})
    path = f"model.{MODELS[name][1]}"
    subnet, extracted = supernet.subnet(arch).eval(), supernet.extract(arch).eval()
    numbers = {key.removeprefix(f"{path}.").split(".")[0] for key in extracted.state_dict() if key.startswith(path)}
    assert numbers == {"0", "2"}
    for block in (1, 3):  # by hand: the parent without what two blocks do
        parent.get_submodule(path)[block].register_forward_hook(_skip, with_kwargs=True)  # type: ignore[operator,index]
    with torch.no_grad():
        expected = parent(tokens())
        torch.testing.assert_close(subnet(tokens()), expected, rtol=0, atol=1e-12)
        torch.testing.assert_close(extracted(tokens()), expected, rtol=0, atol=1e-12)
    fresh = kept(name, arch).double().eval()
    fresh.load_state_dict(extracted.state_dict())
    with torch.no_grad():
        assert torch.equal(fresh(tokens()), extracted(tokens()))


def _skip(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
    return args[0] if isinstance(output, Tensor) else (args[0], *output[1:])


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_subset_generates_with_a_cache_what_it_does_without(name: str) -> None:
    torch.manual_seed(0)
    model = kept(name, Free().architecture({"keep": [False, True, False, True]})).eval().model
    with torch.no_grad():
        found, plain = (
            model.generate(tokens(), max_new_tokens=6, do_sample=False, use_cache=cached, pad_token_id=0)  # type: ignore[operator]
            for cached in (True, False)
        )
    assert torch.equal(found, plain)


def test_kept_blocks_are_counted_by_place_and_named_as_before() -> None:
    blocks = nn.ModuleList(nn.Linear(2, 2) for _ in range(5))
    some = keep(blocks, [0, 3, 4])
    assert isinstance(some, Kept)
    assert list(some._modules) == ["0", "3", "4"]
    assert len(some) == 3
    assert some[1] is blocks[3] and some[-1] is blocks[4]
    assert [*some[:2]] == [blocks[0], blocks[3]]
    assert [*some] == [blocks[0], blocks[3], blocks[4]]


def test_of_a_stack_is_left_a_sequential_with_the_names_of_those_kept() -> None:
    blocks = stack(nn.Linear(2, 2) for _ in range(3))
    some = keep(blocks, [False, True, True])
    assert isinstance(some, nn.Sequential) and not isinstance(some, Stack)
    assert list(some.state_dict()) == ["1.weight", "1.bias", "2.weight", "2.bias"]
    x = torch.randn(4, 2)
    assert torch.equal(some(x), blocks[2](blocks[1](x)))
    assert torch.equal(keep(blocks, [])(x), x)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ([0, 0], r"\[0, 0\] of 3 blocks: give ascending numbers from 0 to 2, each once"),
        ([2, 1], "ascending"),
        ([0, 3], "from 0 to 2"),
        ([True, False], "2 truth values for 3 blocks: give one for each"),
    ],
)
def test_what_names_no_subset_is_refused(wrong: list[int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        keep(nn.ModuleList(nn.Linear(1, 1) for _ in range(3)), wrong)


def test_only_lists_of_blocks_are_kept_from() -> None:
    with pytest.raises(ValueError, match="Linear is no list of blocks: give an nn"):
        keep(nn.Linear(1, 1), [0])


def test_a_relaxation_of_kept_blocks_is_refused() -> None:
    class Deep(nn.Module):
        def __init__(self, arch: Architecture) -> None:
            super().__init__()
            self.blocks = keep(stack(nn.Linear(3, 3) for _ in range(4)), arch.keep)

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.blocks(x)
            return found

    supernet = Supernet(Free(), Deep)
    with pytest.raises(SupernetError, match=r"blocks.0.weight is there in .* and not in"):
        supernet.check_relaxation(torch.randn(2, 3))


# -- rankings


class Residual(nn.Module):
    def __init__(self, size: float) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 6)
        nn.init.normal_(self.inner.weight, std=size)
        nn.init.zeros_(self.inner.bias)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = x + self.inner(x)
        return found


def trained() -> tuple[nn.Module, Classification]:
    """Blocks of which the first and the third hardly do anything; its own outputs are the labels."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Sequential(*map(Residual, (0.01, 1.0, 0.02, 0.6))), nn.Linear(6, 3))
    inputs = torch.randn(64, 6)
    labels = network(inputs).argmax(1)
    return network, Classification((inputs, labels), (inputs[:8], labels[:8]), batch_size=16, num_classes=3)


@pytest.mark.parametrize("score", ["influence", "loss", "gate(steps=40, lr=0.05, penalty=1)"])
def test_blocks_that_do_nothing_come_last(score: str) -> None:
    network, task = trained()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.train()
    assert set(rank_blocks(network, "0", task, score, batches=4)[:2]) == {1, 3}
    assert network.training and all(parameter.requires_grad for parameter in network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_scores_are_what_they_say() -> None:
    network, task = trained()
    batches = [task.batch(step, 0) for step in range(3)]
    blocks: Any = network[0]  # type: ignore[index]

    def loss(without: int | None) -> float:
        with torch.no_grad():
            total = 0.0
            for x, y in batches:
                for number, block in enumerate(blocks):
                    x = x if number == without else block(x)
                total += float(nn.functional.cross_entropy(network[1](x), y))  # type: ignore[index]
        return total / 3

    alone = block_scores(network, "0", task, "loss", batches=3)
    torch.testing.assert_close(alone, torch.tensor([loss(i) - loss(None) for i in range(4)]), rtol=1e-3, atol=1e-6)
    with torch.no_grad():
        x = torch.cat([x for x, _ in batches])
        cosine = nn.functional.cosine_similarity(x, blocks[0](x), dim=-1).mean()
    assert float(block_scores(network, "0", task, batches=3)[0]) == pytest.approx(1 - float(cosine), abs=1e-6)


def test_blocks_of_transformers_are_ranked() -> None:
    model = Logits(llama())
    ids = torch.randint(3, 30, (32, 8), generator=torch.Generator().manual_seed(1))

    class Last(Classification):
        def outputs(self, module: nn.Module, batch: Any) -> Tensor:
            found: Tensor = module(batch[0])[:, -1]
            return found

    task = Last((ids, ids[:, 0]), (ids[:4], ids[:4, 0]), batch_size=8, num_classes=30)
    for score in SCORES:
        assert sorted(rank_blocks(model, "model.model.layers", task, score, batches=2)) == [0, 1, 2, 3]


def test_what_cannot_be_ranked_is_said() -> None:
    network, task = trained()
    with pytest.raises(CompressionError, match="'body' is no list of blocks in the network: there are 0"):
        block_scores(network, "body", task)
    with pytest.raises(CompressionError, match="batches = 0: scores need at least 1"):
        block_scores(network, "0", task, batches=0)
    with pytest.raises(SpellingError, match="no score of blocks is called 'size': choose one of influence"):
        block_scores(network, "0", task, "size")
    with pytest.raises(CompressionError, match="steps are 1 or more"):
        block_scores(network, "0", task, "gate(steps=0)")
    narrowing = nn.Sequential(nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 6)), nn.Linear(6, 3))
    with pytest.raises(CompressionError, match=r"block 0 takes \(16, 6\) and returns \(16, 5\): only blocks that keep"):
        block_scores(narrowing, "0", task)
    with torch.no_grad():
        network[1].bias.fill_(torch.nan)  # type: ignore[index,union-attr,operator]
    with pytest.raises(CompressionError, match="the loss of a calibration batch is nan"):
        block_scores(network, "0", task, "loss")


# -- blocks that share weights


class Hidden(Space):
    hidden = choice(16, 24)


def tied(arch: Architecture) -> nn.Module:
    model: Any = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(**SHAPE, **{**SIZES, "intermediate_size": arch.hidden}, num_key_value_heads=1)
    )
    tie(model.model.layers, 2, but=("*norm*",))
    return Logits(model)


def test_groups_of_blocks_share_weights_in_supernet_and_extraction_and_count_once() -> None:
    supernet = Supernet(Hidden(), tied)
    arch = Hidden().architecture({"hidden": 16})
    network: Any = supernet.extract(arch)
    layers = network.model.model.layers
    assert layers[0].mlp.up_proj.weight is layers[1].mlp.up_proj.weight
    assert layers[1].mlp.up_proj.weight is not layers[2].mlp.up_proj.weight
    assert layers[0].input_layernorm.weight is not layers[1].input_layernorm.weight
    untied = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(**SHAPE, **{**SIZES, "intermediate_size": 16}, num_key_value_heads=1)
    )
    shared = sum(p.numel() for name, p in untied.model.layers[0].named_parameters() if "norm" not in name)
    whole = sum(p.numel() for p in untied.parameters())
    assert sum(p.numel() for p in network.parameters()) == supernet.count_parameters(arch) == whole - 2 * shared
    with torch.no_grad():
        torch.testing.assert_close(network.eval()(tokens()), supernet.subnet(arch).eval()(tokens()))


def test_blocks_that_differ_are_not_tied() -> None:
    with pytest.raises(ValueError, match=r"tie: weight of block 1 is \(3, 2\), in the first of its group \(2, 2\)"):
        tie([nn.Linear(2, 2), nn.Linear(2, 3)], 2)
    with pytest.raises(ValueError, match="groups of 0: a group has at least 1 block"):
        tie([], 0)
    with pytest.raises(ValueError, match=r"^tie: 3 truth values for 3 blocks: give one for each but the first$"):
        tie([nn.Linear(2, 2) for _ in range(3)], [True, False, True])


def test_each_block_may_copy_the_one_before_it() -> None:
    """A space of ties: copies of copies are the first's, and the gradient of what is copied is the sum."""

    class Copied(Space):
        copied = choice(True, False, per=3)

    def build(arch: Architecture) -> nn.Module:
        blocks = [nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 4), nn.Tanh()) for _ in range(4)]
        tie(blocks, arch.copied, but=("0.*",))
        return stack(blocks)

    supernet = Supernet(Copied(), build, dtype=torch.float64)
    x = torch.linspace(-1, 1, 20, dtype=torch.float64).view(5, 4)
    for arch in Copied().enumerate():
        network, (one, two, three) = supernet.extract(arch), arch.copied
        starts = [0, 0 if one else 1, (0 if one else 1) if two else 2]
        starts.append(starts[2] if three else 3)
        assert [network[at][1].weight is network[start][1].weight for at, start in enumerate(starts)] == [True] * 4
        assert len({id(block[1].weight) for block in network}) == 4 - sum(arch.copied)
        assert supernet.count_parameters(arch) == 4 * 8 + (4 - sum(arch.copied)) * 20
        assert torch.equal(network(x), supernet.subnet(arch)(x))
    all_copied = Copied().smallest()
    supernet.subnet(all_copied)(x).square().sum().backward()
    found = supernet.gradients()["0.1.weight"]
    alone = build(Copied().largest()).double()
    alone.load_state_dict(supernet.extract(all_copied).state_dict())
    alone(x).square().sum().backward()
    torch.testing.assert_close(found, torch.stack([block[1].weight.grad for block in alone]).sum(0))


# -- operators of a block


class Attention(nn.Module):
    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.out = (nn.Linear(8, size) for size in (4 * heads, 4 * heads, 4 * heads, 8))
        self.out = nn.Linear(4 * heads, 8)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part(x).unflatten(-1, (self.heads, 4)).transpose(1, 2) for part in (self.q, self.k, self.v))
        mixed = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        found: Tensor = self.out(mixed)
        return found


class Averaging(nn.Module):
    """The cheaper one: the mean over tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.v = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.v(x).mean(1, keepdim=True).expand_as(x)
        return found


class Nothing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


class Layer(nn.Module):
    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.attn = attention
        self.mlp = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(x)
        found: Tensor = x + self.mlp(x)
        return found


class Operators(Space):
    op = choice("none", "mean", "one_head", "full", per=2)


OPTIONS: dict[str, Callable[[], nn.Module]] = {
    "none": Nothing,
    "mean": Averaging,
    "one_head": lambda: Attention(1),
    "full": lambda: Attention(2),
}


def test_pretrained_attention_is_one_of_the_operators_of_each_block() -> None:
    torch.manual_seed(0)
    parent = nn.Sequential(*(Layer(Attention(2)) for _ in range(2))).double()

    def build(arch: Architecture) -> nn.Module:
        return nn.Sequential(*(Layer(one_of(op, OPTIONS)) for op in arch.op))

    init = renamed(parent.state_dict(), {"*.attn.": "*.attn.full."})
    assert "1.attn.full.q.weight" in init and "1.mlp.weight" in init
    supernet = Supernet(Operators(), build, init=init, dtype=torch.float64)
    x = torch.randn(3, 5, 8, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(supernet.subnet(Operators().largest())(x), parent(x), rtol=0, atol=1e-12)
        mixed = supernet.subnet(Operators().architecture({"op": ["none", "full"]}))(x)
        first: Any = parent[0]
        torch.testing.assert_close(mixed, parent[1](x + first.mlp(x)), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ({"attn.": "attn.full."}, "no name begins like 'attn.': they are like '0.attn.q.weight'"),
        ({"*.attn.": "attn."}, "differ in the number of"),
        ({"*.": "0."}, "differ in the number of"),
        ({"0.": "1."}, "two names become"),
    ],
)
def test_renaming_that_fits_nothing_is_refused(names: dict[str, str], said: str) -> None:
    state = {f"{i}.attn.q.weight": torch.zeros(1) for i in range(2)}
    with pytest.raises(SupernetError, match=said):
        renamed(state, names)
