"""Models whose authors never heard of us: transformers' Llama and BERT, built from their configs, not annotated."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from search_spaces import Architecture, Space, choice
from supernets import Supernet
from supernets.distillation import Affinity, Distilled, Embeddings, Hidden, Relations, every
from supernets.training import TrainingConfig, train

transformers = pytest.importorskip("transformers", reason="the extra is not installed: pip install nas[transformers]")

HEAD_SIZE = 8


class LlamaSpace(Space):
    width = choice(16, 24, 32)
    depth = choice(1, 2, 3)
    heads = choice(2, 4)
    groups = choice(1, 2)  # query heads a key-value head
    hidden = choice(24, 40)


class BertSpace(Space):
    width = choice(16, 24, 32)
    depth = choice(1, 2, 3)
    hidden = choice(24, 40)


def llama(arch: Architecture) -> nn.Module:
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=50,
            hidden_size=arch.width,
            intermediate_size=arch.hidden,
            num_hidden_layers=arch.depth,
            num_attention_heads=arch.heads,
            num_key_value_heads=arch.heads // arch.groups,
            head_dim=HEAD_SIZE,
            max_position_embeddings=32,
            tie_word_embeddings=True,
        )
    )


def bert(arch: Architecture) -> nn.Module:
    return transformers.BertModel(
        transformers.BertConfig(
            vocab_size=50,
            hidden_size=arch.width,
            intermediate_size=arch.hidden,
            num_hidden_layers=arch.depth,
            num_attention_heads=arch.width // HEAD_SIZE,
            max_position_embeddings=32,
        )
    )


MODELS = {"llama": (LlamaSpace(), llama), "bert": (BertSpace(), bert)}
SUPERNETS: dict[str, Supernet] = {}


def supernet(name: str) -> Supernet:
    if name not in SUPERNETS:
        space, build = MODELS[name]
        SUPERNETS[name] = Supernet(space, build)
    return SUPERNETS[name]


def tokens() -> torch.Tensor:
    return torch.randint(50, (2, 12), generator=torch.Generator().manual_seed(0))


def output(module: nn.Module) -> torch.Tensor:
    return module(tokens())[0]


@pytest.mark.parametrize("name", list(MODELS))
@given(seed=st.integers(0, 1000))
@settings(max_examples=8)
def test_subnet_equals_extracted_network_bit_for_bit(name: str, seed: int) -> None:
    arch = MODELS[name][0].sample(np.random.default_rng(seed))
    subnet, extracted = supernet(name).subnet(arch).eval(), supernet(name).extract(arch).eval()
    assert type(extracted).__module__.startswith("transformers.")
    with torch.no_grad():
        assert torch.equal(output(subnet), output(extracted))


@pytest.mark.parametrize("name", list(MODELS))
def test_gradients_of_a_subnet_are_the_extracted_networks(name: str) -> None:
    space, _ = MODELS[name]
    arch = space.sample(np.random.default_rng(4))
    net = supernet(name)
    subnet, extracted = net.subnet(arch).eval(), net.extract(arch).eval()
    output(subnet).square().mean().backward()
    output(extracted).square().mean().backward()
    gradients = net.gradients()
    for parameter_name, parameter in extracted.named_parameters():
        if parameter.grad is not None:
            box = tuple(slice(size) for size in parameter.shape)
            assert torch.allclose(gradients[parameter_name][box], parameter.grad, rtol=1e-4, atol=1e-6)
    net._store.zero_grad()


def test_coverage_needs_no_annotation() -> None:
    rows = {row.name: row for row in supernet("llama").coverage().rows}
    assert rows["model.layers.0.self_attn.k_proj.weight"].axes == {0: ("heads", "groups"), 1: ("width",)} or rows[
        "model.layers.0.self_attn.k_proj.weight"
    ].axes == {0: ("heads",), 1: ("width",)}
    assert rows["model.layers.2.mlp.down_proj.weight"].present == ("depth",)


class Larger(Space):
    width = choice(48)
    depth = choice(4)
    hidden = choice(64)


class Sentences:
    """Embeddings of token sequences, the mean over positions; no labels, so there is nothing but a parent to learn."""

    name, digest, metric, batch_size, num_train = "sentences", "sentences-1", "loss", 8, 64

    def example(self, batch: int = 1) -> Tensor:
        return self.batch(0, 0)[:batch]

    def batch(self, step: int, seed: int) -> Tensor:
        return torch.from_numpy(np.random.default_rng([seed, step]).integers(0, 50, (self.batch_size, 10)))

    def outputs(self, module: nn.Module, batch: Tensor) -> Tensor:
        found: Tensor = module(batch).last_hidden_state.mean(1)
        return found

    def loss(self, outputs: Tensor, batch: Tensor) -> Tensor:
        return outputs.new_zeros(())

    def evaluate(self, module: nn.Module, split: str = "valid") -> dict[str, float]:
        return {"loss": 0.0}

    def batches(self, split: str) -> Iterator[Tensor]:
        return (self.batch(step, 1) for step in range(2))

    def calibration(self, n: int) -> Iterator[Tensor]:
        return (self.batch(step, 0) for step in range(n))


def test_bert_learns_from_a_larger_bert() -> None:
    """Blocks that may give tuples, relations of queries, keys and values, affinities, and widths that differ."""
    parent = bert(Larger().largest())
    qkv = tuple(every(f"encoder.layer.*.attention.self.{name}") for name in ("query", "key", "value"))
    losses = [Hidden(every("encoder.layer.*")), Relations(qkv, heads=2), Affinity(scale=10)]
    task = Distilled(Sentences(), parent, losses, labels=0)
    supernet = Supernet(BertSpace(), bert)
    config = TrainingConfig(steps=20, lr=5e-3, evaluate_every=0, strategy="sandwich(num_random=0, distil=none)")
    result = train(supernet, task, config, progress=False)
    assert result.losses[-1] < 0.8 * result.losses[0]
    near = Distilled(Sentences(), supernet.extract(BertSpace().largest()), [Embeddings()], fidelity="cosine")
    assert near.evaluate(supernet.subnet(BertSpace().largest()).eval())["cosine"] == pytest.approx(0, abs=1e-6)
    assert near.evaluate(supernet.subnet(BertSpace().at(width=32).smallest()).eval())["cosine"] > 1e-3
