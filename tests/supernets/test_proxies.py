"""Zero-cost proxies against what can be worked out by hand, and in a run that trains nothing."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typer.testing import CliRunner

from benchmarks.proxies import learnt
from nas.commands.app import app
from nas.run import Run, RunError
from nas.run_file import load
from nas.stages.evaluators import ProxyEvaluator, evaluator, load_evaluator, untrained
from nas.stages.studying import open_study
from nas.stages.verifying import verify
from nas.stages.workflow import Workflow
from nas.storage import Repository
from supernets.proxies import PROXIES, ProxyError, activation_kernel, grad_norm, naswot, proxies, synaptic_flow, synflow
from supernets.tasks import LanguageModelling
from tests.nas.command import TINY


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


# --- synflow


def test_the_flow_through_each_layer_is_the_same() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, bias=False),
        nn.ReLU(),
        nn.Conv2d(4, 3, 3, padding=1, bias=False),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(3 * 9, 5, bias=False),
        nn.ReLU(),
        nn.Linear(5, 2, bias=False),
    )
    flows = list(synaptic_flow(net, torch.randn(1, 2, 5, 5)).values())
    assert len(flows) == 4
    assert flows == pytest.approx([flows[0]] * 4, rel=1e-12)


def test_the_flow_of_linear_layers_is_the_sum_of_the_product_of_absolute_weights() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(*(nn.Linear(a, b, bias=False) for a, b in ((3, 5), (5, 4), (4, 2)))).double()
    first, second, third = (layer.weight.detach().abs() for layer in net)  # type: ignore[union-attr, operator]
    closed = float((third @ second @ first).sum())  # ones' prod |W| ones, once for each of three layers
    assert synflow(net, torch.randn(1, 3)) == pytest.approx(math.log(3 * closed), rel=1e-12)


@pytest.mark.parametrize("norm", [nn.BatchNorm1d, nn.LayerNorm, lambda width: nn.GroupNorm(2, width)])
def test_norms_hand_the_flow_on(norm: Any) -> None:
    torch.manual_seed(0)
    first, last = nn.Linear(3, 4), nn.Linear(4, 2)
    plain, normed = nn.Sequential(first, nn.ReLU(), last), nn.Sequential(first, norm(4), nn.ReLU(), last)
    assert synflow(normed, torch.randn(1, 3)) == synflow(plain, torch.randn(1, 3))


class Tied(nn.Module):
    """Reads tokens, and says the next with the same table."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(7, 3)
        self.mix = nn.Linear(3, 3, bias=False)
        self.gate = nn.GELU()

    def forward(self, tokens: Tensor) -> Tensor:
        return F.linear(self.gate(self.mix(self.tokens(tokens))), self.tokens.weight)


def test_embeddings_give_ones() -> None:
    torch.manual_seed(0)
    net = Tied().double()
    table = net.tokens.weight.detach().abs()
    before = net.mix.weight.detach().abs().sum(1).requires_grad_()
    (back,) = torch.autograd.grad((F.gelu(before) @ table.T).sum(), before)
    flows = synaptic_flow(net, torch.tensor([[1, 5]]))
    assert flows["tokens.weight"] == pytest.approx(2 * float((F.gelu(before.detach()) @ table.T).sum()), rel=1e-12)
    assert flows["mix.weight"] == pytest.approx(2 * float((back * before.detach()).sum()), rel=1e-12)


def test_no_flow_and_too_much() -> None:
    net = nn.Linear(3, 2)
    nn.init.zeros_(net.weight)
    nn.init.zeros_(net.bias)
    assert synflow(net, torch.randn(1, 3)) == -math.inf
    deep = nn.Sequential(*(nn.Linear(1, 1, bias=False) for _ in range(11)))
    with torch.no_grad():
        for parameter in deep.parameters():
            parameter.fill_(1e30)
    with pytest.raises(ProxyError, match=r"synaptic flow of inf, which cannot be compared: initialise its weights"):
        synflow(deep, torch.randn(1, 1))


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.layer(x), x


def test_what_is_no_tensor_has_no_flow() -> None:
    with pytest.raises(ProxyError, match=r"Pair returns tuple, and synflow sums a tensor: wrap it in a module that"):
        synflow(Pair(), torch.randn(1, 2))


# --- naswot


def identity(*after: nn.Module) -> nn.Module:
    net = nn.Linear(3, 3, bias=False)
    nn.init.eye_(net.weight)
    return nn.Sequential(net, *after)


INPUTS = torch.tensor([[1.0, -1.0, 2.0], [1.0, 1.0, 1.0], [-1.0, -1.0, 1.0]])
"""Patterns 101, 111 and 001: Hamming distances 1, 1 and 2."""
KERNEL = [[3.0, 2.0, 2.0], [2.0, 3.0, 1.0], [2.0, 1.0, 3.0]]
LOG_DETERMINANT = math.log(8)


class Spelled(nn.Module):
    """An activation that is a function or changes its input in place."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.function(x * 1.0)
        return y


@pytest.mark.parametrize(
    "activation",
    [
        *(nn.ReLU(), nn.ReLU(inplace=True), nn.ReLU6(), nn.LeakyReLU(), nn.PReLU(), nn.ELU(), nn.CELU(), nn.SELU()),
        *(nn.GELU(), nn.GELU(approximate="tanh"), nn.SiLU(), nn.Hardswish(), nn.Mish(), nn.Softplus(), nn.RReLU()),
        *(Spelled(torch.relu), Spelled(F.gelu), Spelled(Tensor.relu_), Spelled(F.silu), Spelled(F.relu6)),
    ],
    ids=str,
)
def test_the_kernel_is_units_less_hamming_distances(activation: nn.Module) -> None:
    net = identity(activation)
    assert activation_kernel(net, INPUTS).tolist() == KERNEL
    assert naswot(net, INPUTS) == pytest.approx(LOG_DETERMINANT, rel=1e-12)


def test_layers_add_up_and_gates_do_not_count() -> None:
    twice = identity(nn.ReLU(), nn.Sigmoid(), nn.Tanh(), nn.Linear(3, 3), nn.ReLU())
    with torch.no_grad():
        twice[-2].weight.zero_()  # type: ignore[index]
    assert (activation_kernel(twice, INPUTS) - torch.tensor(KERNEL)).unique().tolist() == [3.0]


def test_tokens_of_an_example_are_units_of_it() -> None:
    """(N, T, width) and (N * T, width) are read alike."""
    torch.manual_seed(0)
    rows = nn.Sequential(nn.Linear(4, 6), nn.ReLU())
    flat = nn.Sequential(nn.Flatten(0, 1), nn.Linear(4, 6), nn.ReLU())
    flat[1].load_state_dict(rows[0].state_dict())
    inputs = torch.randn(3, 5, 4)
    kernel = activation_kernel(rows, inputs)
    assert torch.equal(kernel, activation_kernel(flat, inputs))
    assert kernel.diagonal().tolist() == [30.0] * 3


@pytest.mark.parametrize(
    ("net", "inputs"),
    [
        (identity(nn.ReLU()), INPUTS[[0, 1, 0]]),  # two alike
        (identity(nn.ReLU()), torch.eye(3).repeat(2, 1) + torch.randn(6, 3) * 1e-3),  # fewer units than examples
        (identity(), INPUTS),  # no activation at all
    ],
)
def test_a_singular_kernel_is_the_worst_there_is(net: nn.Module, inputs: Tensor) -> None:
    assert naswot(net, inputs) == -math.inf


def test_layers_that_torch_would_fuse_are_seen() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).requires_grad_(False)
    assert activation_kernel(layer, torch.randn(3, 4, 8)).diagonal().tolist() == [64.0] * 3


# --- the gradient's norm


def squares(module: nn.Module, batch: Any) -> Tensor:
    return module(batch).square().mean()  # type: ignore[no-any-return]


def test_the_norm_is_that_of_all_gradients() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4, 2)).double()
    batch = torch.randn(6, 3).double()
    own = nn.Sequential(*(layer for layer in net if not isinstance(layer, nn.Dropout)))
    gradients = torch.autograd.grad(squares(own, batch), list(own.parameters()))
    by_hand = torch.cat([gradient.flatten() for gradient in gradients]).norm()
    net.requires_grad_(False)  # frozen parameters count
    assert grad_norm(net, batch, squares) == pytest.approx(float(by_hand), rel=1e-12)


def test_the_norm_of_a_line() -> None:
    """The loss (w x)^2 at w = 2, x = 3 falls by 2 w x^2 = 36."""
    net = nn.Linear(1, 1, bias=False)
    nn.init.constant_(net.weight, 2.0)
    assert grad_norm(net, torch.tensor([[3.0]]), squares) == 36.0


# --- what all of them keep to


@pytest.fixture(scope="module")
def run() -> Run:
    return load(TINY)


def test_a_network_is_left_as_it_was(run: Run) -> None:
    net = run.build(run.space.largest())
    before, batch = state(net), run.task.batch(0, 0)
    net.requires_grad_(False)
    for proxy in PROXIES.values():
        proxy(net, run.task, 0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert all(child.training and not child._forward_hooks for child in net.modules())
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in net.parameters())
    assert torch.equal(run.task.batch(0, 0).inputs, batch.inputs)


def test_seeds_alone_decide(run: Run) -> None:
    arch = run.space.largest()
    torch.manual_seed(5)
    drawn = torch.get_rng_state()
    first, again, other = (proxies(run.build, arch, run.task, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), drawn)
    assert first == again and set(first) == set(PROXIES)
    assert all(first[name] != other[name] for name in first)


def test_tokens_have_proxies() -> None:
    rng = np.random.default_rng(0)
    task = LanguageModelling(rng.integers(0, 7, 200), rng.integers(0, 7, 40), context=4, batch_size=3, vocab=7)
    torch.manual_seed(0)
    values = {name: proxy(Tied(), task, 0) for name, proxy in PROXIES.items()}
    assert all(map(math.isfinite, values.values()))


def test_an_unknown_name_is_refused(run: Run) -> None:
    with pytest.raises(ProxyError, match=r"'snip' is no zero-cost proxy: choose of synflow, naswot, grad_norm"):
        proxies(run.build, run.space.smallest(), run.task, ["snip"])


# --- in a run


@pytest.fixture
def untaught(run: Run) -> Run:
    """Searches over proxies and a size alone."""
    return replace(run, objectives=("minus_synflow", "params"), limits=("grad_norm >= 0.5",), evaluations=12)


def opened(run: Run, folder: Path) -> Workflow:
    return Workflow(run, Repository(f"sqlite:///{folder / 'nas.db'}"), folder / "runs" / run.name, TINY, progress=False)


def test_a_search_over_proxies_trains_nothing(untaught: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("supernets.training.train", lambda *_, **__: pytest.fail("it trained"))
    with opened(untaught, tmp_path) as workflow:
        study = open_study(workflow, {})
        front = study.run(untaught.evaluations)
        verify(workflow, study.name)
        assert workflow.repository.study("tiny").supernet_digest is None and workflow.repository.supernets() == []
        assert not workflow.checkpoints.exists()
        assert front and len(study.evaluations) == 12
        for found in study.evaluations:
            own = proxies(untaught.build, found.arch, untaught.task, ["synflow", "grad_norm"])
            assert (found.metrics["minus_synflow"], found.metrics["grad_norm"]) == (-own["synflow"], own["grad_norm"])
        assert all(found.metrics["grad_norm"] >= 0.5 for found in front)


def test_what_is_known_is_not_told_again(untaught: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another study of the same networks and seed takes it over, one of another seed does not."""
    asked: list[object] = []
    tell = ProxyEvaluator.__call__
    monkeypatch.setattr(ProxyEvaluator, "__call__", lambda self, arch: asked.append(arch) or tell(self, arch))
    counts = []
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        changed = replace(untaught, name=name, seed=seed, searcher="random")
        with opened(changed, tmp_path) as workflow:
            open_study(workflow, {}).run(12)
        counts.append(len(asked))
    assert counts == [12, 12, 24]


def test_proxies_stand_beside_inherited_quality(run: Run) -> None:
    both = replace(run, objectives=("error", "minus_naswot"))
    assert both.trains and both.proxies == ("minus_naswot",)
    arch = run.space.largest()
    found = evaluator(both, untrained(both))(arch)
    assert set(found) == {"error", "loss", "minus_naswot"}
    assert found["minus_naswot"] == -proxies(run.build, arch, run.task, ["naswot"])["naswot"]


def test_more_is_better_and_objectives_are_minimised(run: Run) -> None:
    with pytest.raises(RunError, match=r"objective 'synflow': the more of it the better, and objectives are minimised"):
        replace(run, objectives=("synflow", "params"))


@pytest.fixture
def untaught_file(tmp_path: Path) -> Path:
    file = tmp_path / "untaught.py"
    file.write_text(
        "from dataclasses import replace\nfrom tests.nas.tiny_run import run as tiny\n"
        "run = replace(tiny, name='untaught', objectives=('minus_synflow', 'params'), evaluations=6)\n"
    )
    return file


def test_a_worker_needs_no_checkpoint_and_has_the_drivers_seed(run: Run, untaught_file: Path) -> None:
    evaluate = load_evaluator(str(untaught_file), "nowhere", "entangled", run.training, 1)
    arch = run.space.largest()
    assert evaluate(arch) == {"minus_synflow": -proxies(run.build, arch, run.task, ["synflow"], seed=1)["synflow"]}


def test_the_command_goes_on_and_has_nothing_to_export(untaught_file: Path, tmp_path: Path) -> None:
    places = ["--storage", f"sqlite:///{tmp_path / 'nas.db'}", "--runs", str(tmp_path / "runs")]
    searched = CliRunner().invoke(app, ["search", str(untaught_file), *places])
    assert searched.exit_code == 0, searched.output
    assert "supernet: not trained, for no objective or limit needs trained weights" in searched.output
    resumed = CliRunner().invoke(app, ["resume", "untaught", *places])
    assert resumed.exit_code == 0, resumed.output
    exported = CliRunner().invoke(app, ["export", "untaught", "--to", str(tmp_path / "net"), *places])
    said = " ".join(str(exported.exception or exported.output).split())
    assert exported.exit_code != 0
    assert "study 'untaught' was searched without trained weights, so its networks have none" in said


# --- the benchmark


def test_a_number_that_tells_all_is_learnt_from(run: Run) -> None:
    """And noise beside the choices adds nothing to speak of."""
    codes = np.stack(np.meshgrid(*[np.arange(3)] * 4), -1).reshape(-1, 4).astype(np.int16)
    rng = np.random.default_rng(0)
    goal = rng.normal(size=len(codes))  # choices tell nothing
    assert learnt(goal, codes, goal).mean() > 0.9
    assert abs(learnt(goal, codes, rng.normal(size=len(goal))).mean()) < 0.2
