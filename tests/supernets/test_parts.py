"""Parts of unequal sizes in one parameter: each is cut on its own, and nothing of one is ever read as another."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from search_spaces import Architecture, Space, choice
from supernets import Grid, OptimizerConfig, Parts, ShapeError, Supernet, SupernetError
from supernets.compression.reconstruction import kept_units, reconstruct
from supernets.compression.sorting import sort_units
from supernets.joined import Joined
from supernets.layout import Layouts
from supernets.relaxation.mixture import Mixture
from tests.supernets.test_sorting import Inputs, random_score
from tests.supernets.test_supernet import torch_optimizer

Rows = Callable[[Architecture], dict[str, list[int]]]


@given(
    st.integers(1, 3).flatmap(
        lambda groups: st.tuples(st.just(groups), st.lists(st.integers(1, 4).map(lambda n: n * groups), min_size=1))
    ),
    st.integers(0, 2),
)
def test_what_is_taken_apart_is_joined_again(sizes: tuple[int, list[int]], axis: int) -> None:
    groups, parts = sizes
    shape = [2, 3]
    shape.insert(axis, sum(parts))
    tensor = torch.arange(float(np.prod(shape))).view(shape)
    join = Joined(Parts(*parts, axis=axis, groups=groups))
    apart = join.right_inverse(tensor)
    assert [one.shape[axis] for one in apart] == parts and all(one.is_contiguous() for one in apart)
    assert torch.equal(join(*apart), tensor)


# --- by hand ------------------------------------------------------------------------------------------------------


class Mixer(nn.Module):
    """A state space layer's projection: gates and states of every head, two signals for all, a step for each head."""

    def __init__(self, width: int, heads: int, size: int) -> None:
        super().__init__()
        self.sizes = (heads * size, heads * size, 2, 3, heads)
        self.fused = nn.Linear(width, sum(self.sizes))
        self.out = nn.Linear(heads * size, width)

    def forward(self, x: Tensor) -> Tensor:
        gate, state, one, other, step = self.fused(x).split(self.sizes, -1)
        heads = step.shape[-1]
        signal = (one.sum(-1) * other.mean(-1))[..., None, None]
        mixed = state.unflatten(-1, (heads, -1)) * step[..., None] * signal
        return x + self.out(gate.sigmoid() * mixed.flatten(-2))


class MixerSpace(Space):
    width = choice(4, 6)
    heads = choice(1, 2, 3)
    size = choice(2, 4)


def mixer(arch: Architecture) -> nn.Module:
    return nn.Sequential(nn.Linear(5, arch.width), Mixer(arch.width, arch.heads, arch.size), nn.Linear(arch.width, 2))


def of_mixer(arch: Architecture) -> Parts:
    inner = arch.heads * arch.size
    return Parts(inner, inner, 2, 3, arch.heads, grids=((arch.heads,), (arch.heads,), (), (), ()))


MIXER: Layouts = {
    "1.fused.*": of_mixer,
    "1.out.weight": lambda arch: Grid(arch.heads, axis=1),
}


def mixed_rows(arch: Architecture) -> list[int]:
    """Which rows of the largest one's fused layer a network's has."""
    inner = [head * 4 + one for head in range(arch.heads) for one in range(arch.size)]
    return [*inner, *(12 + row for row in inner), *range(24, 29), *(29 + head for head in range(arch.heads))]


def made(space: Space, build: Callable[[Architecture], nn.Module], layout: Layouts | None = None) -> Supernet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        parent = build(space.largest()).double()
        for parameter in parent.parameters():
            nn.init.normal_(parameter, std=0.5)
    return Supernet(space, build, layout=layout, init=parent, dtype=torch.float64)


def x() -> Tensor:
    return torch.randn(8, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_every_part_is_cut_on_its_own() -> None:
    net = made(MixerSpace(), mixer, MIXER)
    largest = net.extract(net.space.largest())
    whole = largest.state_dict()
    assert net.opened is not None and not net.opened.initial and "1.fused.weight" in whole
    for arch in net.space.enumerate():
        own = mixer(arch).double()
        rows, columns = mixed_rows(arch), mixed_rows(arch)[: arch.heads * arch.size]
        w = arch.width
        expected = {
            "0.weight": whole["0.weight"][:w],
            "0.bias": whole["0.bias"][:w],
            "1.fused.weight": whole["1.fused.weight"][rows, :w],
            "1.fused.bias": whole["1.fused.bias"][rows],
            "1.out.weight": whole["1.out.weight"][:w][:, columns],
            "1.out.bias": whole["1.out.bias"][:w],
            "2.weight": whole["2.weight"][:, :w],
            "2.bias": whole["2.bias"],
        }
        own.load_state_dict(expected)
        found = net.extract(arch)
        assert type(found[1].fused) is nn.Linear
        assert all(torch.equal(value, expected[name]) for name, value in found.state_dict().items())
        assert torch.allclose(net.subnet(arch)(x()), own(x()), rtol=1e-12, atol=1e-12)
        assert net.count_parameters(arch) == sum(parameter.numel() for parameter in own.parameters())
        assert net.profile(arch, x()).params == net.count_parameters(arch)


def test_a_step_trains_the_parts_and_nothing_else() -> None:
    net, arch = made(MixerSpace(), mixer, MIXER), MixerSpace().smallest()
    before = net.extract(net.space.largest()).state_dict()
    alone, config = net.extract(arch), OptimizerConfig("sgd", lr=0.1)
    optimizer = torch_optimizer(alone, config)
    net.subnet(arch)(x()).square().mean().backward()
    net.optimizer(config).step()
    alone(x()).square().mean().backward()
    optimizer.step()
    assert all(
        torch.allclose(value, alone.state_dict()[name], rtol=1e-10, atol=1e-12)
        for name, value in net.extract(arch).state_dict().items()
    )
    after, rows = net.extract(net.space.largest()).state_dict()["1.fused.weight"], mixed_rows(arch)
    others = [row for row in range(len(after)) if row not in rows]
    assert torch.equal(after[others], before["1.fused.weight"][others])


def test_states_of_supernets_fit_each_other() -> None:
    net = made(MixerSpace(), mixer, MIXER)
    again = Supernet(MixerSpace(), mixer, layout=MIXER, init=net.state_dict(), dtype=torch.float64)
    assert again.digest() == net.digest()


def test_units_within_parts_are_sorted_and_known_to_reconstruction() -> None:
    net = made(MixerSpace(), mixer, MIXER)
    before = net.extract(net.space.largest())(x())
    found = sort_units(net, Inputs(x()), random_score)  # type: ignore[arg-type]
    assert any("heads" in group.choices for group in found.groups), found.table()
    assert torch.allclose(net.extract(net.space.largest())(x()), before, rtol=1e-12, atol=1e-12)
    arch = net.space.smallest()
    network, parent = net.extract(arch), net.extract(net.space.largest())
    kept = kept_units(net, arch, network)
    assert kept["1.fused"].tolist() == mixed_rows(arch)
    batches = [torch.randn(64, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(n)) for n in range(4)]
    report = reconstruct(network, parent, batches, Inputs(x()), kept)  # type: ignore[arg-type]
    assert "1.fused" in {layer.name for layer in report.layers}


# --- sizes and layouts that do not fit -------------------------------------------------------------------------------


def test_layouts_that_do_not_fit_are_refused_in_one_line() -> None:
    for parts, line in (
        (lambda: Parts(), "give parts of 1 or more"),
        (lambda: Parts(3, 0), "give parts of 1 or more"),
        (lambda: Parts(3, 4, grids=((2,), (2,))), "do not divide into 1 groups and the grids"),
        (lambda: Parts(3, 4, groups=2), "do not divide into 2 groups"),
    ):
        with pytest.raises(SupernetError, match=line):
            parts()
    fixed: Layouts = {"1.fused.*": of_mixer(MixerSpace().largest())}
    with pytest.raises(ShapeError, match=r"1\.fused\.weight has .* parts of 12, 12, 2, 3, 3: .* as a function of the"):
        Supernet(MixerSpace(), mixer, layout=fixed)
    with pytest.raises(SupernetError, match=r"'1\.fuse\.\*' matches no parameter"):
        Supernet(MixerSpace(), mixer, layout={**MIXER, "1.fuse.*": of_mixer})
    parent = mixer(MixerSpace().largest())
    with pytest.raises(ShapeError, match=r"1\.fused\.weight is \(7, 4\) in the given weights and \(32, 6\)"):
        Supernet(MixerSpace(), mixer, layout=MIXER, init={**parent.state_dict(), "1.fused.weight": torch.zeros(7, 4)})


# --- attention with fewer keys than queries --------------------------------------------------------------------------


class Grouped(Space):
    width = choice(16, 32)
    groups = choice(1, 2)
    queries = choice(1, 2, 3)


class OneKey(Space):
    heads = choice(1, 2, 4)


def phi3(arch: Architecture) -> nn.Module:
    return library().Phi3ForCausalLM(
        library().Phi3Config(
            vocab_size=30, hidden_size=arch.width, intermediate_size=24, num_hidden_layers=1, head_dim=8,
            num_attention_heads=arch.groups * arch.queries, num_key_value_heads=arch.groups,
            max_position_embeddings=16, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        )
    )  # fmt: skip


def falcon(arch: Architecture) -> nn.Module:
    return library().FalconForCausalLM(
        library().FalconConfig(vocab_size=30, hidden_size=8 * arch.heads, num_hidden_layers=1,
                               num_attention_heads=arch.heads, ffn_hidden_size=24, bias=True)
    )  # fmt: skip


def grouped_falcon(arch: Architecture) -> nn.Module:
    return library().FalconForCausalLM(
        library().FalconConfig(
            vocab_size=30, hidden_size=8 * arch.groups * arch.queries, num_hidden_layers=1, ffn_hidden_size=24,
            num_attention_heads=arch.groups * arch.queries, num_kv_heads=arch.groups, new_decoder_architecture=True,
        )
    )  # fmt: skip


def bigcode(arch: Architecture) -> nn.Module:
    return library().GPTBigCodeForCausalLM(
        library().GPTBigCodeConfig(vocab_size=30, n_positions=16, n_embd=8 * arch.heads, n_layer=1, n_inner=24,
                                   n_head=arch.heads, bos_token_id=1, eos_token_id=2)
    )  # fmt: skip


def library() -> object:
    return pytest.importorskip("transformers", reason="pip install nas[transformers] brings the models")


def heads(first: int, kept: list[int]) -> list[int]:
    return [first + 8 * head + one for head in kept for one in range(8)]


def of_phi3(arch: Architecture) -> tuple[list[int], list[int]]:
    """Rows of queries, keys and values, and columns of the output, in the largest one's."""
    queries = [3 * group + query for group in range(arch.groups) for query in range(arch.queries)]
    keys = list(range(arch.groups))
    return [*heads(0, queries), *heads(48, keys), *heads(64, keys)], heads(0, queries)


def of_grouped_falcon(arch: Architecture) -> tuple[list[int], list[int]]:
    rows = [
        row
        for group in range(arch.groups)
        for row in heads(40 * group, [*range(arch.queries), 3, 4])  # three queries, a key and a value
    ]
    return rows, heads(0, [3 * group + query for group in range(arch.groups) for query in range(arch.queries)])


def of_one_key(arch: Architecture) -> tuple[list[int], list[int]]:
    return heads(0, [*range(arch.heads), 4, 5]), heads(0, list(range(arch.heads)))


FAMILIES = {
    "phi3": (phi3, Grouped(), "model.layers.0.self_attn", ("qkv_proj", "o_proj"), of_phi3),
    "falcon": (falcon, OneKey(), "transformer.h.0.self_attention", ("query_key_value", "dense"), of_one_key),
    "grouped_falcon": (
        grouped_falcon, Grouped().at(width=32), "transformer.h.0.self_attention", ("query_key_value", "dense"),
        of_grouped_falcon,
    ),
    "bigcode": (bigcode, OneKey(), "transformer.h.0.attn", ("c_attn", "c_proj"), of_one_key),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", list(FAMILIES))
def test_queries_are_read_from_queries_and_keys_from_keys(family: str) -> None:
    build, space, path, (fused, out), rows = FAMILIES[family]
    net = made(space, build)
    assert net.opened is not None and not net.opened.unused
    whole = dict(net.extract(space.largest()).state_dict())
    tokens = torch.randint(30, (2, 7), generator=torch.Generator().manual_seed(0))
    for arch in space.enumerate():
        kept, columns = rows(arch)
        network = net.extract(arch).eval()
        state, width = network.state_dict(), network.get_submodule(f"{path}.{fused}").in_features
        assert torch.equal(state[f"{path}.{fused}.weight"], whole[f"{path}.{fused}.weight"][kept, :width])
        assert torch.equal(state[f"{path}.{out}.weight"], whole[f"{path}.{out}.weight"][:width][:, columns])
        if f"{path}.{fused}.bias" in whole:
            assert torch.equal(state[f"{path}.{fused}.bias"], whole[f"{path}.{fused}.bias"][kept])
        plain = build(arch).double().eval()
        plain.load_state_dict(state)
        with torch.no_grad():
            expected = plain(tokens)[0]
            assert torch.equal(network(tokens)[0], expected)
            assert torch.allclose(net.subnet(arch).eval()(tokens)[0], expected, rtol=0, atol=1e-12)


@pytest.mark.filterwarnings("ignore")
def test_whole_groups_of_fused_queries_are_relaxed_and_sorted() -> None:
    def build(arch: Architecture) -> nn.Module:
        return nn.Sequential(phi3(arch), First())

    net = made(Grouped().at(width=32, queries=3), build)
    tokens = torch.randint(30, (3, 7), generator=torch.Generator().manual_seed(0))
    net.check_relaxation(tokens)
    net.relax(Mixture(net.space))(tokens).square().mean().backward()
    assert {name.rpartition(".")[2] for name in net.gradients() if "qkv_proj" in name} == {
        "original0",
        "original1",
        "original2",
    }
    before = net.extract(net.space.largest()).eval()(tokens)
    found = sort_units(net, Inputs(tokens), random_score)  # type: ignore[arg-type]
    (queries,) = (group for group in found.groups if any("original1" in part.name for part in group.parts))
    assert queries.units == 2 and {part.name.split(".")[-1] for part in queries.parts} >= {"original0", "weight"}
    assert torch.allclose(net.extract(net.space.largest()).eval()(tokens), before, rtol=1e-10, atol=1e-12)


class First(nn.Module):
    def forward(self, output: object) -> Tensor:
        logits: Tensor = output[0]  # type: ignore[index]
        return logits
