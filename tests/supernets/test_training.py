"""The loop: what it computes, what it leaves alone, and that a training cut anywhere ends with the same bits."""

import logging
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
import toy
from torch import Tensor, nn
from toy import Digits, ToySpace

from supernets import checkpoints, progress
from supernets.checkpoints import CheckpointError
from supernets.errors import SupernetError
from supernets.losses import soft_cross_entropy
from supernets.optim import OptimizerConfig
from supernets.strategies import Course, Distil, Feedback, Pass, Plan, Step, Strategy
from supernets.supernet import Supernet
from supernets.training import (
    CurvePoint,
    TrainingConfig,
    TrainingError,
    TrainingResult,
    learning_rate,
    resolve_precision,
    train,
    train_network,
)

BUILDERS = [toy.build, toy.build_normed]


class Cut(Exception):
    """Stands for whatever ends a training."""


def cutting(step: int) -> Callable[[int], None]:
    def before(now: int) -> None:
        if now == step:
            raise Cut

    return before


def quietly(supernet: Supernet, task: Digits | None = None, **settings: Any) -> TrainingResult:
    apart = {name: settings.pop(name, None) for name in ("directory", "on_curve", "method", "teacher")}
    return train(supernet, task or Digits(), toy.config(**settings), progress=False, **apart)


@dataclass(frozen=True)
class Fixed(Strategy):
    """Steps by a function of their number."""

    name: ClassVar[str] = "fixed"

    steps: Callable[[int], Step]
    hear: Callable[[Feedback], None] = lambda feedback: None

    def plan(self, course: Course) -> Plan:
        plan = Plan()
        plan.step, plan.observe = self.steps, self.hear  # type: ignore[method-assign]
        return plan


def state(supernet: Supernet | nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in supernet.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def equal_results(one: TrainingResult, other: TrainingResult) -> bool:
    return (one.losses, one.curve, one.skipped) == (other.losses, other.curve, other.skipped)


# --- resuming -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("builder", BUILDERS)
@pytest.mark.parametrize("settings", [{}, {"strategy": "uniform", "optimizer": "sgd", "schedule": "linear"}])
@pytest.mark.parametrize("cut", [pytest.param(2, marks=pytest.mark.slow), 7, 11])
def test_cut_and_resumed_is_as_never_cut(tmp_path: Path, builder: Any, settings: dict[str, Any], cut: int) -> None:
    whole = toy.supernet(builder)
    expected = quietly(whole, **settings)
    with pytest.raises(Cut):
        quietly(toy.supernet(builder), Digits(before=cutting(cut)), directory=tmp_path, **settings)
    resumed = toy.supernet(builder)
    result = quietly(resumed, directory=tmp_path, **settings)
    assert result.resumed_from == cut - cut % 3
    assert equal_results(result, expected) and same(state(resumed), state(whole))


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_single_networks_resume_too(tmp_path: Path, optimizer: str) -> None:
    def network() -> nn.Module:
        return toy.supernet(toy.build_normed).extract(ToySpace().largest())

    config = toy.config(optimizer=optimizer)
    whole, resumed = network(), network()
    expected = train_network(whole, Digits(), config, progress=False)
    with pytest.raises(Cut):
        train_network(network(), Digits(before=cutting(8)), config, directory=tmp_path, progress=False)
    result = train_network(resumed, Digits(), config, directory=tmp_path, progress=False)
    assert result.resumed_from == 6 and equal_results(result, expected) and same(state(resumed), state(whole))


def test_a_damaged_checkpoint_costs_time_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = toy.supernet()
    expected = quietly(whole)
    with pytest.raises(Cut):
        quietly(toy.supernet(), Digits(before=cutting(8)), directory=tmp_path)
    newest = tmp_path / "step-000000006.safetensors"
    newest.write_bytes(newest.read_bytes()[:-3])
    resumed = toy.supernet()
    result = quietly(resumed, directory=tmp_path)
    assert result.resumed_from == 3 and "SHA-256" in result.rejected[0] and "SHA-256" in caplog.text
    assert equal_results(result, expected) and same(state(resumed), state(whole))


def test_a_finished_training_is_not_done_again(tmp_path: Path) -> None:
    first = quietly(toy.supernet(), directory=tmp_path)
    again = toy.supernet()
    result = quietly(again, Digits(before=cutting(0)), directory=tmp_path)
    assert result.resumed_from == 12 and equal_results(result, first)


def test_a_folder_is_for_one_training_at_a_time(tmp_path: Path) -> None:
    held = f"from supernets.occupied import occupied; o = occupied({str(tmp_path)!r}); o.__enter__()"
    code = f"{held}; print(flush=True); input()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as process:  # type: ignore[call-overload]
        process.stdout.readline()
        with pytest.raises(CheckpointError, match=f"another process is training in {tmp_path}: stop it or wait for it"):
            quietly(toy.supernet(), directory=tmp_path)
        assert checkpoints.newest(tmp_path).step == 0
        process.kill()
        process.wait()
        assert quietly(toy.supernet(), directory=tmp_path).resumed_from == 0, "a lock ends with its process"


def test_other_settings_do_not_resume(tmp_path: Path) -> None:
    quietly(toy.supernet(), directory=tmp_path)
    quietly(toy.supernet(), directory=tmp_path, evaluate_every=1, checkpoint_every=1)  # only how often one looks
    with pytest.raises(CheckpointError, match=r"config\.lr is 0\.01 there and 0\.02 here"):
        quietly(toy.supernet(), directory=tmp_path, lr=0.02)
    with pytest.raises(CheckpointError, match="space is"):
        train(toy.supernet(), Digits(), toy.config(), space=ToySpace().where(depth=(1,)), directory=tmp_path)
    other = Digits()
    other.digest = "other"
    with pytest.raises(CheckpointError, match='task is "digits-1" there and "other" here'):
        quietly(toy.supernet(), other, directory=tmp_path)


def test_an_interrupt_leaves_a_checkpoint(tmp_path: Path) -> None:
    def interrupt(step: int) -> None:
        if step == 4:
            signal.raise_signal(signal.SIGINT)

    usual = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        quietly(toy.supernet(), Digits(before=interrupt), directory=tmp_path)
    assert signal.getsignal(signal.SIGINT) is usual
    assert checkpoints.newest(tmp_path).step == 5
    resumed, whole = toy.supernet(), toy.supernet()
    assert equal_results(quietly(resumed, directory=tmp_path), quietly(whole)) and same(state(resumed), state(whole))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_process_goes_on(tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, toy.__file__, str(tmp_path), "40"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == "20":
                process.send_signal(number)
        assert process.wait() == -number
    assert checkpoints.newest(tmp_path).step >= 18
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    whole = toy.supernet()
    expected = quietly(whole, steps=40)
    resumed = toy.supernet()
    result = quietly(resumed, steps=40, directory=tmp_path)
    assert result.resumed_from == 40 and equal_results(result, expected) and same(state(resumed), state(whole))


# --- what a step computes -----------------------------------------------------------------------------------------


def test_distillation_is_soft_cross_entropy() -> None:
    torch.manual_seed(0)
    teacher = torch.randn(5, 3, 4, requires_grad=True)
    outputs = torch.randn(5, 3, 4, requires_grad=True)
    loss = soft_cross_entropy(outputs, teacher)
    p, log_q = teacher.softmax(-1), outputs.log_softmax(-1)
    assert torch.allclose(loss, -(p * log_q).sum() / 15)
    reference = F.kl_div(log_q.flatten(0, 1), p.flatten(0, 1), reduction="batchmean") - (p * p.log()).sum() / 15
    assert torch.allclose(loss, reference)
    loss.backward()
    assert teacher.grad is None and outputs.grad is not None
    assert torch.allclose(outputs.grad, (outputs.softmax(-1) - p) / 15, atol=1e-7)


def test_a_step_sums_weighted_gradients_and_distils_from_its_first_pass() -> None:
    space = ToySpace()
    passes = (Pass(space.largest(), 0.5), Pass(space.smallest(), 2.0, task=0.0, distil=Distil(weight=1.5)))
    trained, reference = toy.supernet(toy.build_normed), toy.supernet(toy.build_normed)
    quietly(trained, method=Fixed(lambda index: Step(passes)), steps=1)
    images, labels = Digits().batch(0, 0)
    first, second = (reference.subnet(one.arch).train() for one in passes)
    outputs = first(images)
    (0.5 * F.cross_entropy(outputs, labels)).backward()
    (-2.0 * 1.5 * (outputs.detach().softmax(-1) * second(images).log_softmax(-1)).sum(-1).mean()).backward()
    reference.optimizer(OptimizerConfig("adamw", 1e-2, 0.05)).step(lr=learning_rate(toy.config(steps=1), 0), clip=1.0)
    for name, tensor in state(reference).items():
        assert torch.allclose(state(trained)[name], tensor, atol=1e-6), name


def test_the_first_pass_must_learn_the_task() -> None:
    alone = Step((Pass(ToySpace().largest(), distil=Distil()),))
    with pytest.raises(TrainingError, match="first pass"):
        quietly(toy.supernet(), method=Fixed(lambda index: alone))
    frozen = Step((Pass(ToySpace().largest(), distil=Distil(teacher="frozen")),))
    with pytest.raises(TrainingError, match="frozen teacher before there is one"):
        quietly(toy.supernet(), method=Fixed(lambda index: frozen))
    with pytest.raises(TrainingError, match="has no loss"):
        quietly(toy.supernet(), method=Fixed(lambda index: Step((Pass(ToySpace().largest(), task=0.0),))))


# --- what a step may ask for ----------------------------------------------------------------------------------------


def test_passes_share_a_batch_or_have_their_own() -> None:
    arch = ToySpace().largest()
    seen: list[int] = []
    for batches, expected in (("shared", [0, 1]), ("own", [0, 1, 2, 3])):
        seen.clear()
        step = Step((Pass(arch), Pass(arch)), batches=batches)
        quietly(toy.supernet(), Digits(before=seen.append), method=Fixed(lambda index, step=step: step), steps=2)
        assert seen == expected


def test_chosen_and_weighted_examples() -> None:
    arch, examples, weights = ToySpace().largest(), (3, 3, 700), (0.5, 2.0, 0.25)
    step = Step((Pass(arch),), examples=examples, example_weights=weights)
    result = quietly(toy.supernet(toy.build_normed), method=Fixed(lambda index: step), steps=1)
    images, labels = toy.digits()[0][list(examples)], toy.digits()[1][list(examples)]
    network = toy.supernet(toy.build_normed).subnet(arch).train()
    losses = F.cross_entropy(network(images), labels, reduction="none").detach()
    assert result.losses[0] == pytest.approx(float((losses * torch.tensor(weights)).mean()))


def test_a_step_may_set_its_own_learning_rate() -> None:
    supernet = toy.supernet()
    before = state(supernet)
    step = Step((Pass(ToySpace().largest()),), lr=0.0)
    quietly(supernet, method=Fixed(lambda index: step), steps=3)
    assert same(before, state(supernet))


def test_feedback_holds_what_was_watched() -> None:
    watched = Step((Pass(ToySpace().smallest()),), watch=frozenset({"gradients", "outputs", "valid"}))
    heard: list[Feedback] = []
    quietly(toy.supernet(), method=Fixed(lambda index: watched, heard.append), steps=2)
    assert [feedback.index for feedback in heard] == [0, 1] and all(feedback.finite for feedback in heard)
    assert heard[0].gradients.keys() == {
        name for name, _ in toy.supernet().extract(ToySpace().smallest()).named_parameters()
    }
    assert all(norm > 0 for norm in heard[0].gradients.values())
    assert heard[0].outputs[0].shape == (32,) and 0 < heard[0].valid[0] <= 1
    heard.clear()
    quietly(toy.supernet(), method=Fixed(lambda index: Step(watched.passes), heard.append), steps=1)
    assert heard[0].gradients == {} and heard[0].outputs == heard[0].valid == ()


def test_norms_of_output_gradients_are_those_of_softmax_less_label() -> None:
    watched = Step((Pass(ToySpace().smallest()),), watch=frozenset({"outputs"}))
    heard: list[Feedback] = []
    supernet = Supernet(ToySpace(), lambda arch: nn.Sequential(nn.Linear(64, arch.width), nn.Linear(arch.width, 10)))
    logits = supernet.subnet(ToySpace().smallest())(Digits().batch(0, 0)[0])
    quietly(supernet, method=Fixed(lambda index: watched, heard.append), steps=1)
    expected = (logits.softmax(-1) - F.one_hot(Digits().batch(0, 0)[1], 10)).norm(dim=1)
    assert heard[0].outputs[0] == pytest.approx(expected.detach().double().numpy(), abs=1e-6)


def frozen_then_distilled(index: int) -> Step:
    space = ToySpace()
    if index < 4:
        return Step((Pass(space.largest()),))
    imitate = Pass(space.smallest(), task=0.0, distil=Distil(teacher="frozen"))
    return Step((imitate,), freeze=space.largest() if index == 4 else None)


@pytest.mark.parametrize("cut", [3, 5, 8])
def test_a_frozen_teacher_survives_a_cut(tmp_path: Path, cut: int) -> None:
    method = Fixed(frozen_then_distilled)
    whole, reference = toy.supernet(toy.build_normed), toy.supernet(toy.build_normed)
    quietly(reference, method=method)
    with pytest.raises(Cut):
        quietly(whole, Digits(before=cutting(cut)), method=method, directory=tmp_path)
    resumed = toy.supernet(toy.build_normed)
    quietly(resumed, method=method, directory=tmp_path)
    assert same(state(resumed), state(reference))


def test_a_teacher_from_outside_is_never_replaced() -> None:
    teacher = toy.supernet().extract(ToySpace().largest())
    before = state(teacher)
    one, other = toy.supernet(), toy.supernet()
    results = [quietly(net, method=Fixed(frozen_then_distilled), teacher=teacher) for net in (one, other)]
    assert equal_results(*results) and same(before, state(teacher))
    assert results[0].losses[4:] != quietly(toy.supernet(), method=Fixed(frozen_then_distilled)).losses[4:]


def test_a_task_without_samples_says_what_is_missing() -> None:
    class Plain(Digits):
        select = property()  # type: ignore[assignment]

    step = Step((Pass(ToySpace().largest()),), examples=(1, 2))
    with pytest.raises(TrainingError, match=r"task 'digits' has no select\(\).*SamplingTask"):
        quietly(toy.supernet(), Plain(), method=Fixed(lambda index: step))


def by_adamw(p: Tensor, grad: Tensor, memory: list[Tensor], step: int, lr: float, decay: float) -> Tensor:
    """arXiv:1711.05101, algorithm 2."""
    memory[:] = [0.9 * memory[0] + 0.1 * grad, 0.999 * memory[1] + 0.001 * grad**2]
    mean, square = memory[0] / (1 - 0.9**step), memory[1] / (1 - 0.999**step)
    return p - lr * mean / (square.sqrt() + 1e-8) - lr * decay * p


def by_sgd(p: Tensor, grad: Tensor, memory: list[Tensor], step: int, lr: float, decay: float) -> Tensor:
    """Nesterov's momentum as torch writes it."""
    grad = grad + decay * p
    memory[0] = 0.9 * memory[0] + grad
    return p - lr * (grad + 0.9 * memory[0])


@pytest.mark.parametrize(("optimizer", "rule"), [("adamw", by_adamw), ("sgd", by_sgd)])
def test_a_single_network_is_trained_as_a_loop_written_out(optimizer: str, rule: Callable[..., Tensor]) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(64, 16), nn.GELU(), nn.Linear(16, 10))
    reference = deepcopy(network)
    config = toy.config(optimizer=optimizer, clip=0.5)
    result = train_network(network, Digits(), config, progress=False)
    parameters = list(reference.parameters())
    memories = [[torch.zeros_like(p), torch.zeros_like(p)] for p in parameters]
    losses = []
    for step in range(config.steps):
        images, labels = Digits().batch(step, config.seed)
        loss = F.cross_entropy(reference.train()(images), labels)
        gradients = torch.autograd.grad(loss, parameters)
        scale = min(1.0, config.clip / math.sqrt(sum(float((grad**2).sum()) for grad in gradients)))
        for p, grad, memory in zip(parameters, gradients, memories, strict=True):
            decay = config.weight_decay if p.dim() > 1 else 0.0
            p.data = rule(p.data, scale * grad, memory, step + 1, learning_rate(config, step), decay)
        losses.append(loss.item())
    assert result.losses == pytest.approx(losses, rel=1e-4)
    for (name, p), q in zip(network.named_parameters(), reference.parameters(), strict=True):
        assert torch.allclose(p, q, atol=1e-5), name


def test_a_supernet_of_one_architecture_is_that_network() -> None:
    arch = ToySpace().largest()
    supernet = toy.supernet()
    network = supernet.extract(arch)
    config = toy.config(strategy="uniform")
    shared = train(
        supernet, Digits(), config, space=ToySpace().where(width=(16,), depth=(2,)), progress=False
    )  # fmt: skip
    alone = train_network(network, Digits(), config, progress=False)
    assert shared.losses == pytest.approx(alone.losses, rel=1e-4)
    assert shared.final("largest") == pytest.approx(alone.final("network"), abs=0.01)


@pytest.mark.parametrize("builder", BUILDERS)
@pytest.mark.parametrize("strategy", ["uniform", "sandwich"])
def test_inherited_networks_do_better_than_chance(builder: Any, strategy: str) -> None:
    supernet = toy.supernet(builder)
    result = quietly(supernet, steps=80, strategy=strategy, evaluate_every=0, lr=2e-2)
    for which in ("smallest", "random", "largest"):
        errors = [point.value for point in result.curve if point.which == which]
        assert len(errors) == 1 and errors[0] < 0.75  # chance is 0.9
    assert sum(result.losses[-20:]) < 0.8 * sum(result.losses[:20])


def test_bf16_trains_and_weights_stay_as_they_are() -> None:
    supernet = toy.supernet()
    result = quietly(supernet, precision="bf16", steps=30, strategy="uniform", lr=3e-2)
    assert result.precision == "bf16" and sum(result.losses[-5:]) < sum(result.losses[:5])
    assert all(tensor.dtype == torch.float32 for tensor in supernet.state_dict().values())
    assert result.losses[0] == pytest.approx(quietly(toy.supernet(), steps=1, strategy="uniform").losses[0], rel=0.02)


def test_auto_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, dense, convolution = torch.device("cpu"), nn.Linear(2, 2), nn.Conv2d(1, 1, 3)
    for native in (False, True):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda native=native: native)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
        assert resolve_precision("auto", cpu, convolution) == ("bf16" if native else "fp32")
        assert resolve_precision("auto", cpu, nn.Conv2d(2, 2, 3, groups=2)) == "fp32"
        assert resolve_precision("auto", cpu, dense) == "fp32"
        assert resolve_precision("auto", cpu, nn.Conv2d(1, 1, 3, dtype=torch.float64)) == "fp32"
        assert resolve_precision("bf16", cpu, dense) == "bf16"


# --- what it leaves alone -----------------------------------------------------------------------------------------


def test_the_callers_random_numbers_are_left_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    quietly(toy.supernet())
    assert torch.equal(torch.rand(3), expected)


def test_dropout_does_not_depend_on_the_callers_random_numbers() -> None:
    torch.manual_seed(1)
    first = quietly(toy.supernet())
    torch.manual_seed(2)
    assert equal_results(quietly(toy.supernet()), first)
    assert quietly(toy.supernet(), seed=3).losses != first.losses


def test_looking_at_the_curves_changes_nothing() -> None:
    often, never = toy.supernet(toy.build_normed), toy.supernet(toy.build_normed)
    quietly(often, evaluate_every=1)
    quietly(never, evaluate_every=0)
    assert same(state(often), state(never))


@pytest.mark.parametrize("builder", BUILDERS)
def test_a_step_that_is_not_finite_leaves_everything_as_it_was(
    builder: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    supernet = toy.supernet(builder)
    optimizers = []
    make = supernet.optimizer
    monkeypatch.setattr(supernet, "optimizer", lambda config: optimizers.append(make(config)) or optimizers[0])
    seen: dict[int, dict[str, Tensor]] = {}

    def remember(step: int) -> None:
        tensors = {**supernet.state_dict(), **optimizers[0].state_dict()} if optimizers else {}
        seen[step] = {name: tensor.clone() for name, tensor in tensors.items()}

    result = quietly(supernet, Digits(broken=(5,), before=remember))
    assert result.skipped == 1 and math.isnan(result.losses[5]) and "step 5 is left out" in caplog.text
    assert same(seen[5], seen[6]) and not same(seen[6], seen[7])
    assert all(torch.isfinite(tensor).all() for tensor in supernet.state_dict().values())
    assert math.isfinite(result.losses[6]) and all(math.isfinite(point.value) for point in result.curve)


def test_a_gradient_that_is_not_finite_is_left_out_too() -> None:
    class Steep(Digits):
        def loss(self, outputs: Tensor, batch: toy.Batch) -> Tensor:
            loss = super().loss(outputs, batch)
            return loss + (outputs.sum() * 0).sqrt()  # the slope of a root at 0 has no bound

    network = toy.supernet().extract(ToySpace().smallest())
    before = state(network)
    result = train_network(network, Steep(), toy.config(), progress=False)
    assert result.skipped == 12 and math.isfinite(result.losses[0]) and same(state(network), before)


def test_too_many_in_a_row_are_an_error() -> None:
    with pytest.raises(TrainingError, match=r"20 steps in a row, up to step 24, .*lower the learning rate"):
        quietly(toy.supernet(), Digits(broken=tuple(range(5, 60))), steps=60)


def test_those_before_a_cut_count(tmp_path: Path) -> None:
    broken = tuple(range(5, 60))
    with pytest.raises(Cut):
        quietly(toy.supernet(), Digits(broken=broken, before=cutting(13)), steps=60, directory=tmp_path)
    with pytest.raises(TrainingError, match="20 steps in a row, up to step 24"):
        quietly(toy.supernet(), Digits(broken=broken), steps=60, directory=tmp_path)


# --- curves and progress ------------------------------------------------------------------------------------------


def test_curves_have_their_points() -> None:
    told: list[CurvePoint] = []
    result = quietly(toy.supernet(), on_curve=told.append, steps=10)
    assert tuple(told) == result.curve
    assert [(point.step, point.which) for point in told] == [
        (step, which) for step in (4, 8, 10) for which in ("train", "smallest", "random", "largest")
    ]
    assert told[4].value == pytest.approx(sum(result.losses[4:8]) / 4)
    assert result.final("largest") == told[-1].value and told[-1].metric == "error" and len(result.losses) == 10


def test_a_log_line_now_and_then(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(progress, "LOG_EVERY_S", 0.0)
    train(toy.supernet(), Digits(), toy.config())
    lines = [record.message for record in caplog.records if "training supernet: step" in record.message]
    assert len(lines) == 12 and "step 12 of 12" in lines[-1] and "steps/s" in lines[-1]


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    train(toy.supernet(), Digits(), toy.config())
    captured = capsys.readouterr()
    assert "12/12" in captured.err and "steps/s" in captured.err and captured.out == ""


# --- settings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"steps": -1}, "steps = -1: it must be 0 or more"),
        ({"lr": 0.0}, r"lr = 0\.0: it must be above 0"),
        ({"lr": math.nan}, "lr = nan"),
        ({"clip": 0.0}, r"clip = 0\.0: it must be above 0"),
        ({"warmup": 1.0}, r"warmup = 1\.0"),
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"seed": -1}, "seed"),
        ({"checkpoint_every": -1}, "checkpoint_every"),
        ({"evaluate_every": -1}, "evaluate_every"),
        ({"optimizer": "adam"}, "optimizer = 'adam' is unknown: choose one of adamw, sgd"),
        ({"strategy": "fairest"}, "no strategy is called 'fairest': choose one of uniform"),
        ({"schedule": "step"}, "choose one of cosine, linear, constant"),
        ({"precision": "fp16"}, "choose one of auto, fp32, bf16"),
    ],
)
def test_settings_are_checked_when_made(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(SupernetError, match=message):
        TrainingConfig(**setting)


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_the_learning_rate_warms_up_and_falls(schedule: str) -> None:
    config = TrainingConfig(steps=100, lr=2.0, warmup=0.1, schedule=schedule)
    rates = [learning_rate(config, step) for step in range(100)]
    assert rates[:10] == pytest.approx([0.2 * (step + 1) for step in range(10)])
    assert rates[10] == 2.0 and all(rate > 0 for rate in rates)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    halfway = {"cosine": 1.0, "linear": 1.0, "constant": 2.0}[schedule]
    assert rates[55] == pytest.approx(halfway)
    assert learning_rate(replace(config, warmup=0.0), 0) == 2.0
