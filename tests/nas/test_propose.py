"""What `nas propose` writes runs: its largest network is the parent, its smallest works, of many families."""

import importlib.util
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from supernets import Plan, Supernet

transformers = pytest.importorskip("transformers", reason="the extra is not installed: pip install nas[transformers]")

import pretrained  # noqa: E402 - it needs transformers
from command import Nas, caller  # noqa: E402

from nas.commands.propose import proposal  # noqa: E402
from nas.run import RunError  # noqa: E402
from nas.run_file import load  # noqa: E402
from nas.stages.evaluators import untrained  # noqa: E402

FAMILIES = list(pretrained.EXAMPLES)


@pytest.fixture
def nas(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Nas:
    return caller(monkeypatch, capsys)


@cache
def text(family: str) -> str:
    return proposal(f"pretrained:{family}")


def imported(written: str, folder: Path, name: str) -> ModuleType:
    file = folder / f"{name}.py"
    file.write_text(written, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def output(module: nn.Module, inputs: tuple[Tensor, ...], dtype: torch.dtype) -> Tensor:
    for part in module.modules():
        if isinstance(part, transformers.PreTrainedModel):
            part.set_experts_implementation("eager")  # the grouped one has no float64
    cast = tuple(one.to(dtype) if one.is_floating_point() else one for one in inputs)
    with torch.no_grad():
        found: Tensor = module.eval()(*cast)
    return found


def parents_output(run: ModuleType, inputs: tuple[Tensor, ...], dtype: torch.dtype) -> Tensor:
    parent = run.INIT.to(dtype)
    return output(run.Network(parent) if hasattr(run, "Network") else parent, inputs, dtype)


@pytest.mark.parametrize("family", pretrained.one_of_a_kind(FAMILIES))
def test_the_largest_network_is_the_parent_and_smaller_ones_run(family: str, tmp_path: Path) -> None:
    run, inputs = imported(text(family), tmp_path, family), pretrained.EXAMPLES[family]()
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
        expected = parents_output(run, inputs, dtype)
        state = run.INIT.state_dict()
        net = Supernet(run.space, run.build, layout=run.LAYOUT, init=state, dtype=dtype)
        assert net.opened is not None and net.opened.initial == net.opened.unused == ()
        found = output(net.subnet(net.space.largest()), inputs, dtype)
        assert torch.allclose(found, expected, rtol=0, atol=tolerance)
    smallest = net.space.smallest()
    small = output(net.subnet(smallest), inputs, torch.float64)
    assert torch.isfinite(small).all()
    assert torch.allclose(small, output(net.extract(smallest), inputs, torch.float64), rtol=0, atol=1e-12)
    plain = run.build(smallest).to(torch.float64)
    plain.load_state_dict(net.extract(smallest).state_dict())
    assert torch.allclose(small, output(plain, inputs, torch.float64), rtol=0, atol=1e-12)
    assert net.count_parameters(smallest) < 0.75 * net.count_parameters(net.space.largest())
    assert net.coverage().idle == (("hidden.0",) if family == "deepseek" else ())  # its first block has no experts


# --- what is cut, and from where ------------------------------------------------------------------------------------


def opened(family: str, folder: Path) -> tuple[ModuleType, Supernet]:
    run = imported(text(family), folder, family)
    return run, Supernet(run.space, run.build, layout=run.LAYOUT, init=run.INIT)


def test_a_narrow_gpt2_reads_queries_from_queries(tmp_path: Path) -> None:
    run, net = opened("gpt2", tmp_path)
    assert net.opened is not None and net.opened.tied == {"lm_head.weight": "model.transformer.wte.weight"}
    theirs = run.INIT.transformer.h[0].attn.c_attn
    small = net.extract(net.space.smallest()).model.transformer.h[0].attn.c_attn
    assert torch.equal(small.weight.view(16, 3, 16), theirs.weight.view(32, 3, 32)[:16, :, :16])
    assert torch.equal(small.bias.view(3, 16), theirs.bias.view(3, 32)[:, :16])


@pytest.mark.parametrize("family", ["llama", "qwen3", "mixtral"])
def test_fewer_groups_keep_their_queries(family: str, tmp_path: Path) -> None:
    """A query head and the key head it meets are those that met in the parent."""
    run, net = opened(family, tmp_path)
    arch = net.space.at(groups=1).largest()
    theirs = run.INIT.model.layers[0].self_attn
    small = net.extract(arch).model.model.layers[0].self_attn
    assert torch.equal(small.q_proj.weight, theirs.q_proj.weight.view(2, 2, 8, 32)[:1].reshape(16, 32))
    assert torch.equal(small.k_proj.weight, theirs.k_proj.weight.view(2, 8, 32)[0])


@pytest.mark.parametrize(("family", "hidden"), [("mixtral", 48), ("qwen3_moe", 24)])
def test_fewer_and_narrower_experts_keep_router_rows_and_gates(family: str, hidden: int, tmp_path: Path) -> None:
    run, net = opened(family, tmp_path)
    theirs, small = run.INIT.model.layers[0].mlp, net.extract(net.space.smallest()).model.model.layers[0].mlp
    gates, narrow = theirs.experts.gate_up_proj.view(4, 2, hidden, 32), hidden // 2
    assert torch.equal(small.gate.weight, theirs.gate.weight[:2, :16])
    assert torch.equal(small.experts.gate_up_proj.view(2, 2, narrow, 16), gates[:2, :, :narrow, :16])
    assert torch.equal(small.experts.down_proj, theirs.experts.down_proj[:2, :16, :narrow])


@pytest.mark.parametrize(
    ("family", "smaller", "path", "kept"),
    [
        ("phi3", {"groups": 1}, "model.layers.0.self_attn.qkv_proj", [0, 1, 4, 6]),
        ("falcon", {"width": 16}, "transformer.h.0.self_attention.query_key_value", [0, 1, 4, 5]),
        ("grouped_falcon", {"width": 16}, "transformer.h.0.self_attention.query_key_value", [0, 1, 2, 3]),
        ("bigcode", {"width": 16}, "transformer.h.0.attn.c_attn", [0, 1, 4, 5]),
    ],
)
def test_fewer_fused_heads_are_read_from_their_own_part(
    family: str, smaller: dict[str, int], path: str, kept: list[int], tmp_path: Path
) -> None:
    """Half of the queries; half of the keys and values too, where there are two, else the only ones."""
    run, net = opened(family, tmp_path)
    theirs, small = (
        one.get_submodule(path) for one in (run.INIT, net.extract(net.space.at(**smaller).largest()).model)
    )
    heads = theirs.weight.view(-1, 8, 32)[kept].flatten(0, 1)
    assert torch.equal(small.weight, heads[:, : small.weight.shape[1]])


def test_a_grouped_convolution_keeps_whole_groups(tmp_path: Path) -> None:
    run, net = opened("hubert", tmp_path)
    small = net.extract(net.space.smallest()).model.encoder.pos_conv_embed.conv
    theirs = run.INIT.encoder.pos_conv_embed.conv.parametrizations.weight.original1
    assert small.groups == 2 and torch.equal(small.parametrizations.weight.original1, theirs[:16])


# --- the text -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_the_text_is_python_of_bounded_width(family: str) -> None:
    compile(text(family), family, "exec")
    assert max(map(len, text(family).splitlines())) <= 120


def test_every_family_has_the_choices_it_can_have() -> None:
    expected = {
        "gpt2": {"width", "depth", "hidden"},
        "llama": {"width", "groups", "depth", "hidden"},
        "t5": {"width", "heads", "encoder_depth", "decoder_depth", "encoder_hidden", "decoder_hidden"},
        "whisper": {"width", "encoder_depth", "decoder_depth", "encoder_hidden", "decoder_hidden"},
        "mixtral": {"width", "groups", "experts", "depth", "hidden"},
        "resnet": {f"{word}_{stage}" for word in ("width", "blocks") for stage in (1, 2, 3)},
        "phi3": {"width", "groups", "depth", "hidden"},
        "falcon": {"width", "depth", "hidden"},
        "bigcode": {"width", "depth", "hidden"},
        "swin": {"blocks_1", "blocks_2"},
        "plain": {"width", "depth", "classes"},
    }
    for family, names in expected.items():
        choices = {line.split("=")[0].strip() for line in text(family).splitlines() if "= choice(" in line}
        assert choices == names, family
    assert "# not varied: queries of each group: leading rows are whole groups" in text("llama")
    assert "experts = choice(4, 8)" in text("deepseek"), "groups of experts stay whole"
    assert "moe_intermediate_size of each block; block 0 has none" in text("deepseek")
    assert "width_1 = choice(8, 16)" in text("regnet") and "is no part of the parent's" in text("regnet")
    assert '"*.q_b_proj' not in text("deepseek"), "as long as queries, keys and values, but only by chance"


def test_with_a_task_the_text_is_a_run(nas: Nas, tmp_path: Path) -> None:
    file = tmp_path / "proposed.py"
    file.write_text(text("llama"), encoding="utf-8")
    with pytest.raises(RunError, match="has no variable `run`"):
        load(file)
    data = (
        "import torch\nfrom supernets.tasks import LanguageModelling\n"
        "tokens = torch.arange(400) % 30\n"
        "task = LanguageModelling(tokens, tokens, context=8, vocab=30)"
    )
    file.write_text(text("llama").replace("task: Task | None = None  # <- replace None", data), encoding="utf-8")
    run = load(file)
    net = untrained(run)
    assert net.opened is not None and net.opened.initial == ()
    assert run.task.evaluate(net.subnet(run.space.smallest()))["loss"] > 0
    file.write_text(file.read_text().replace("init=INIT,", "init=INIT, training=TrainingConfig(steps=0),"))
    file.write_text("from supernets.training import TrainingConfig\n" + file.read_text())
    answer = nas("train", file, "--storage", f"sqlite:///{tmp_path}/nas.db", "--runs", tmp_path / "runs")
    assert answer.status == 0 and "opened LlamaForCausalLM: 29 used, 0 initial, 0 unused, 1 tied" in answer.out


@pytest.mark.parametrize(
    ("family", "macs"),
    [
        # by hand: a token's matrix products in each of 3 blocks (attention over 12 positions), and the head
        ("gpt2", 12 * (3 * (32 * 96 + 32 * 32 + 2 * 12 * 32 + 2 * 32 * 128) + 32 * 30)),
        ("llama", 12 * (3 * (2 * 32 * 32 + 2 * 32 * 16 + 2 * 12 * 32 + 3 * 32 * 48) + 32 * 30)),
        ("mixtral", 12 * (3 * (2 * 32 * 32 + 2 * 32 * 16 + 2 * 12 * 32 + 2 * 3 * 32 * 48 + 32 * 4) + 32 * 30)),
    ],
)
def test_models_that_look_at_values_are_counted(family: str, macs: int, tmp_path: Path) -> None:
    """Masks of transformers ask whether sequences are packed, and grouped products want bfloat16 on meta tensors."""
    run = imported(text(family), tmp_path, family)
    plan = Plan(run.space, run.build, layout=run.LAYOUT)
    found = plan.profile(run.space.largest(), pretrained.EXAMPLES[family]())
    assert found.macs == macs
    assert found.params == plan.count_parameters(run.space.largest()) == run.INIT.num_parameters()


# --- folders and the command ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", ["1GB", "20KB"])
def test_a_folder_is_proposed_and_opened_from_its_files(size: str, nas: Nas, tmp_path: Path) -> None:
    parent = pretrained.gpt2()
    parent.save_pretrained(tmp_path / "small-gpt2", max_shard_size=size)
    assert (tmp_path / "small-gpt2" / "model.safetensors.index.json").exists() == (size == "20KB")
    answer = nas("propose", tmp_path / "small-gpt2", "--output", tmp_path / "proposed.py")
    assert answer.status == 0 and "proposed.py" in answer.out
    run = imported((tmp_path / "proposed.py").read_text(), tmp_path, "again")
    assert str(tmp_path / "small-gpt2") == run.INIT
    net, inputs = Supernet(run.space, run.build, layout=run.LAYOUT, init=run.INIT), pretrained.EXAMPLES["gpt2"]()
    expected = output(run.Network(parent), inputs, torch.float32)
    assert torch.allclose(output(net.extract(net.space.largest()), inputs, torch.float32), expected, rtol=0, atol=1e-5)


def test_files_with_older_names_are_opened_by_their_class(tmp_path: Path) -> None:
    """transformers renamed what it publishes: experts were one tensor each."""
    from safetensors.torch import load_file

    parent = pretrained.mixtral()
    parent.save_pretrained(tmp_path / "mixtral")
    state = load_file(tmp_path / "mixtral" / "model.safetensors")
    assert any("experts.0." in name for name in state), "save_pretrained writes the published names"
    written = proposal(str(tmp_path / "mixtral"))
    assert "INIT = MODEL.from_pretrained(FOLDER)" in written
    run = imported(written, tmp_path, "mixtral_run")
    net, inputs = Supernet(run.space, run.build, layout=run.LAYOUT, init=run.INIT), pretrained.EXAMPLES["mixtral"]()
    expected = output(run.Network(parent), inputs, torch.float32)
    assert torch.allclose(output(net.subnet(net.space.largest()), inputs, torch.float32), expected, rtol=0, atol=1e-5)


def test_what_cannot_be_proposed_is_said_in_one_line(nas: Nas, tmp_path: Path) -> None:
    (tmp_path / "there.py").write_text("mine")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "config.json").write_text('{"model_type": "none such"}')
    (tmp_path / "bare").mkdir()
    transformers.BertConfig().save_pretrained(tmp_path / "bare")
    cases = [
        ("does not exist: give a folder", [tmp_path / "nothing"]),
        ("has no config.json: give a folder that save_pretrained wrote", [tmp_path]),
        ("odd/config.json: ", [tmp_path / "odd"]),
        ('names no class of transformers in "architectures"', [tmp_path / "bare"]),
        ("No module named 'no_such_thing'", ["no_such_thing:model"]),
        ("pretrained has no function 'absent'", ["pretrained:absent"]),
        ("pretrained:nothing() returned NoneType", ["pretrained:nothing"]),
        ("fixed has no argument that is a whole number", ["pretrained:fixed"]),
        ("there.py exists: give another --output", ["pretrained:plain", "--output", tmp_path / "there.py"]),
        ("give a name that ends in .py", ["pretrained:plain", "--output", tmp_path / "there.txt"]),
    ]
    for message, words in cases:
        answer = nas("propose", *words)
        assert answer.status == 1 and message in answer.err and answer.err.count("\n") == 1, (message, answer)
    assert (tmp_path / "there.py").read_text() == "mine"
    assert not (tmp_path / "there.txt").exists()


def test_without_output_the_text_is_printed(nas: Nas) -> None:
    assert nas("propose", "pretrained:plain").out == text("plain")
