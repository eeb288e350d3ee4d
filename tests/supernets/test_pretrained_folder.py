"""Folders for `from_pretrained`: written only where one config says what the network is, and equal to it then."""

import copy
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from search_spaces import Architecture, Space, choice
from supernets import Supernet
from supernets.errors import ExportError
from supernets.export import available_formats, export
from supernets.pretrained_folder import NotUniformError, standard, within

transformers = pytest.importorskip("transformers", reason="the extra is not installed: pip install nas[transformers]")


class Sizes(Space):
    hidden = choice(8, 16, per=3)
    heads = choice(1, 2)
    layers = choice((0, 2), (0, 1, 2))


def llama(arch: Architecture) -> nn.Module:
    config = transformers.LlamaConfig(
        vocab_size=11,
        hidden_size=16,
        head_dim=8,
        intermediate_size=16,
        num_hidden_layers=3,
        num_attention_heads=arch.heads,
        num_key_value_heads=1,
        max_position_embeddings=32,
    )
    model = transformers.LlamaForCausalLM(config)
    for layer, hidden in zip(model.model.layers, arch.hidden, strict=True):
        for name in ("gate_proj", "up_proj"):
            setattr(layer.mlp, name, nn.Linear(16, hidden, bias=False))
        layer.mlp.down_proj = nn.Linear(hidden, 16, bias=False)
    for gone in set(range(3)) - set(arch.layers):
        del model.model.layers._modules[str(gone)]
    return model


class Wrapped(nn.Module):
    """Logits of the last position (N, vocab)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.model(tokens, use_cache=False).logits
        return logits[:, -1]


def wrapped(arch: Architecture) -> nn.Module:
    return Wrapped(llama(arch))


def network(**values: object) -> nn.Module:
    torch.manual_seed(0)
    space = Sizes()
    arch = space.architecture({**space.largest().to_dict(), **values})
    return Supernet(space, wrapped).extract(arch).eval()


@pytest.mark.parametrize(
    "values",
    [{}, {"hidden": [8, 8, 8]}, {"heads": 1}, {"layers": [0, 2], "hidden": [8, 8, 8]}],
    ids=["parent", "narrow", "heads", "layers"],
)
def test_from_pretrained_opens_what_one_config_describes(values: dict[str, object], tmp_path: Path) -> None:
    found = network(**values)
    tokens = torch.randint(0, 11, (3, 5))
    folder = tmp_path / "net"
    assert "transformers" in available_formats(found)
    exported = export(found, arch={}, build=wrapped, example=tokens, directory=folder, formats=("transformers",))
    opened = transformers.LlamaForCausalLM.from_pretrained(folder / "transformers", local_files_only=True).eval()
    assert exported.differences["transformers"] < 1e-6
    torch.testing.assert_close(opened(tokens).logits[:, -1], found(tokens))
    config = json.loads((folder / "transformers" / "config.json").read_text())
    assert config["num_hidden_layers"] == len(values.get("layers", (0, 1, 2)))  # type: ignore[arg-type]
    assert config["intermediate_size"] == values.get("hidden", [16])[0]  # type: ignore[index]


def test_formats_are_told_on_shapes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No second copy of the model's weights is made to find out what can be written."""
    found, devices, build = network(hidden=[8, 8, 8]), set(), transformers.LlamaForCausalLM.__init__

    def watched(self: nn.Module, config: object) -> None:
        build(self, config)
        devices.add(next(self.parameters()).device.type)

    monkeypatch.setattr(transformers.LlamaForCausalLM, "__init__", watched)
    assert "transformers" in available_formats(found)
    assert devices == {"meta"}


def test_blocks_of_several_sizes_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    found = network(hidden=[8, 16, 16])
    assert "transformers" not in available_formats(found)
    with pytest.raises(NotUniformError, match=r"layers\.0\.mlp\.down_proj\.weight is \(16, 8\) .* blocks differ"):
        export(
            found,
            arch={},
            build=wrapped,
            example=torch.zeros(2, 5, dtype=torch.long),
            directory=tmp_path / "net",
            formats=("transformers",),
        )
    assert list(tmp_path.iterdir()) == []


def test_a_network_without_such_a_model_is_refused(tmp_path: Path) -> None:
    plain = nn.Linear(2, 2)
    assert within(plain) is None
    with pytest.raises(NotUniformError, match="Linear holds no model of transformers"):
        standard(plain)
    with pytest.raises((ExportError, NotUniformError), match="leave the format transformers out"):
        export(
            plain,
            arch={},
            build=wrapped,
            example=torch.zeros(1, 2),
            directory=tmp_path / "n",
            formats=("transformers",),
        )


def test_the_network_itself_is_left_alone() -> None:
    found = network(hidden=[8, 8, 8])
    before = copy.deepcopy(found.state_dict())
    model = standard(found)
    with torch.no_grad():
        next(model.parameters()).zero_()
    torch.testing.assert_close(found.state_dict(), before, rtol=0, atol=0)
