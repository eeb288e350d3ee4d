"""Tasks: what a batch depends on, how evaluation counts, what is refused, and what a task of one's own takes."""

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from supernets.tasks import (
    Batch,
    Classification,
    LanguageModelling,
    Regression,
    SamplingTask,
    Task,
    TaskError,
    batch_indices,
    evaluating,
)

NUM_TRAIN, NUM_CLASSES = 50, 3


def pair(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 4)), np.arange(n) % NUM_CLASSES


def classification(**settings: object) -> Classification:
    defaults: dict[str, object] = {"batch_size": 16}
    return Classification(pair(NUM_TRAIN), pair(20, 1), pair(10, 2), **(defaults | settings))  # type: ignore[arg-type]


def language(length: int = 200, **settings: object) -> LanguageModelling:
    tokens = np.random.default_rng(0).integers(0, 7, length)
    defaults: dict[str, object] = {"context": 8, "batch_size": 4, "vocab": 7}
    return LanguageModelling(tokens, tokens[:45], tokens[:30], **(defaults | settings))  # type: ignore[arg-type]


def regression(**settings: object) -> Regression:
    pairs = ((x, np.c_[y, -2.0 * y]) for x, y in (pair(NUM_TRAIN), pair(20, 1), pair(10, 2)))
    defaults: dict[str, object] = {"batch_size": 16}
    return Regression(*pairs, **(defaults | settings))  # type: ignore[arg-type]


def same(a: Batch, b: Batch) -> bool:
    return torch.equal(a.inputs, b.inputs) and torch.equal(a.targets, b.targets)


TASKS = {"classification": classification, "language": language, "regression": regression}


@pytest.mark.parametrize("make", TASKS.values(), ids=list(TASKS))
def test_a_batch_depends_on_seed_and_step_alone(make: type[Classification]) -> None:
    task: Task = make()
    in_order = [task.batch(step, seed=3) for step in range(12)]
    backwards = [make().batch(step, seed=3) for step in reversed(range(12))]
    assert all(same(a, b) for a, b in zip(in_order, reversed(backwards), strict=True))
    assert not same(task.batch(0, seed=3), task.batch(0, seed=4))
    assert not same(task.batch(0, seed=3), task.batch(1, seed=3))


@pytest.mark.parametrize(("n", "size"), [(50, 16), (16, 16), (5, 16), (7, 1)])
def test_every_example_comes_once_an_epoch(n: int, size: int) -> None:
    stream = torch.cat([batch_indices(n, size, step, seed=1) for step in range(2 * n)])
    for epoch in stream[: len(stream) // n * n].view(-1, n):
        assert sorted(epoch.tolist()) == list(range(n))


def test_batches_are_full_and_of_the_right_types() -> None:
    batch = classification().batch(3, seed=0)
    assert batch.inputs.shape == (16, 4) and batch.inputs.dtype == torch.float32
    assert batch.targets.shape == (16,) and batch.targets.dtype == torch.int64


def test_windows_of_text_predict_the_token_that_follows() -> None:
    task = LanguageModelling(torch.arange(100), torch.arange(20), context=8, batch_size=64)
    inputs, targets = task.batch(0, seed=0)
    assert inputs.shape == targets.shape == (64, 8)
    assert torch.equal(targets, inputs + 1)
    assert task.vocab == 100


def test_every_token_of_a_text_is_trained_on() -> None:
    task = LanguageModelling(torch.arange(37), torch.arange(20), context=8, batch_size=3)
    seen = {int(token) for step in range(100) for token in task.batch(step, seed=0).targets.flatten()}
    assert seen == set(range(1, 37))


def test_augmentation_draws_from_its_generator_alone() -> None:
    def noise(x: Tensor, generator: torch.Generator) -> Tensor:
        return x + torch.randn(x.shape, generator=generator)

    task = classification(augment=noise)
    assert same(task.batch(5, seed=0), task.batch(5, seed=0))
    plain = classification().batch(5, seed=0)
    assert torch.equal(task.batch(5, seed=0).targets, plain.targets)
    assert not torch.equal(task.batch(5, seed=0).inputs, plain.inputs)
    assert torch.equal(next(task.calibration(1)), next(classification().calibration(1)))


class Constant(nn.Module):
    """Always the same class, whatever comes in; has a mode to be restored."""

    def __init__(self, logits: list[float]) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))
        self.dropout = nn.Dropout(0.5)
        self.frozen = nn.BatchNorm1d(1).eval()

    def forward(self, x: Tensor) -> Tensor:
        assert not self.training and not torch.is_grad_enabled()
        return self.logits.expand(*x.shape[:1], 3)


def test_errors_are_counted_exactly() -> None:
    task = classification()
    x, y = pair(1000, 1)
    many = Classification(pair(9), (x, y))
    module = Constant([0.0, 0.0, 1.0])
    assert task.evaluate(module)["error"] == 14 / 20  # 6 of 20 labels are the third class
    assert many.evaluate(module)["error"] == 667 / 1000
    expected = -math.log(math.e / (2 + math.e)) * 333 / 1000 - math.log(1 / (2 + math.e)) * 667 / 1000
    assert many.evaluate(module)["loss"] == pytest.approx(expected, rel=1e-6)


def test_evaluation_restores_the_mode_of_every_submodule() -> None:
    module = Constant([1.0, 0.0, 0.0]).train()
    module.frozen.eval()
    classification().evaluate(module, "test")
    assert module.training and module.dropout.training and not module.frozen.training
    with pytest.raises(ZeroDivisionError), evaluating(module):
        _ = 1 / 0
    assert module.training and torch.is_grad_enabled()


def test_language_evaluation_reads_every_token_once() -> None:
    class Successor(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.one_hot((x + 1) % 7, 7).float() * 50

    tokens = torch.arange(46) % 7
    tokens[20] = (tokens[20] + 3) % 7  # wrong once as what follows, once as what goes before
    task = LanguageModelling(torch.arange(100) % 7, tokens, context=8)
    assert task.evaluate(Successor())["error"] == 2 / 45


class Says(nn.Module):
    """The same numbers for every example."""

    def __init__(self, *numbers: float) -> None:
        super().__init__()
        self.numbers = nn.Parameter(torch.tensor(numbers))

    def forward(self, x: Tensor) -> Tensor:
        return self.numbers.expand(len(x), -1)


def test_errors_of_a_regression_are_those_of_numpy() -> None:
    task, said = regression(), np.array([0.5, 1.0])
    targets = np.c_[pair(20, 1)[1], -2.0 * pair(20, 1)[1]]
    found = task.evaluate(Says(*said.tolist()))
    assert found["rmse"] == pytest.approx(np.sqrt(np.mean((targets - said) ** 2)), rel=1e-6)
    assert found["mae"] == pytest.approx(np.mean(np.abs(targets - said)), rel=1e-6)
    assert found["loss"] == pytest.approx(found["rmse"] ** 2)
    assert math.isnan(task.evaluate(Says(math.nan, 0.0))["rmse"])


def test_the_losses_of_a_regression_are_those_of_its_examples() -> None:
    task: SamplingTask = regression()
    batch = task.batch(0, seed=0)
    outputs = task.outputs(Says(0.5, 1.0), batch)
    losses = task.losses(outputs, batch)
    assert losses.shape == (16,)
    assert float(losses.mean().detach()) == pytest.approx(float(task.loss(outputs, batch).detach()))


def test_a_regression_scores_who_knows_above_who_says_the_mean() -> None:
    targets = np.arange(64) % 3.0
    pairs = np.c_[pair(64)[0], targets], targets
    task = Regression(pairs, pairs)

    class Knows(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return inputs[:, -1]  # of one number an example

    assert task.score(Knows(), 0, 0) == 1
    assert task.score(Says(float(targets.mean())), 0, 0) == pytest.approx(0.5)
    assert 0 < task.score(Says(10.0), 0, 0) < 0.5


def test_a_model_with_another_number_of_outputs_is_refused() -> None:
    with pytest.raises(TaskError, match=r"returns \(20, 1\) for targets \(20, 2\): let it end in as many outputs"):
        regression().evaluate(Says(0.5))


def test_a_diverged_network_has_no_rank() -> None:
    assert math.isnan(classification().evaluate(Constant([math.nan, 0.0, 0.0]))["error"])


def test_examples_are_inputs_of_any_batch() -> None:
    assert classification().example(64).shape == (64, 4)
    assert language().example(5).shape == (5, 8)


def test_the_digest_knows_data_and_settings() -> None:
    assert classification().digest == classification().digest
    other = Classification(pair(NUM_TRAIN), pair(20, 1), pair(10, 3), batch_size=16)
    flipped = pair(NUM_TRAIN)
    flipped[1][0] = 1
    digests = {
        classification().digest,
        classification(batch_size=8).digest,
        classification(augment=lambda x, generator: x).digest,
        other.digest,
        Classification(flipped, pair(20, 1), pair(10, 2), batch_size=16).digest,
        language().digest,
        language(context=9).digest,
        regression().digest,
        regression(batch_size=8).digest,
    }
    assert len(digests) == 9


x, y = pair(6)
bad = np.array(x)
bad[4, 1] = np.nan
REFUSED = {
    "lengths differ": (lambda: Classification((x, y[:5]), (x, y)), "6 inputs and 5 labels"),
    "labels not integer": (lambda: Classification((x, y), (x, y / 2)), "valid labels are torch.float64"),
    "labels in columns": (lambda: Classification((x, y[:, None]), (x, y)), "give one integer an example"),
    "empty split": (lambda: Classification((x, y), (x[:0], y[:0])), "valid is empty"),
    "class out of range": (lambda: Classification((x, y), (x, y + 1)), "have 3: with num_classes = 3"),
    "negative class": (lambda: Classification((x, y - 1), (x, y)), "have -1"),
    "not finite": (lambda: Classification((x, y), (bad, y)), "first in example 4"),
    "shapes differ": (lambda: Classification((x, y), (x[:, :2], y)), r"\(2,\) each, those of train \(4,\)"),
    "no pair": (lambda: Classification(x, (x, y)), "give a pair"),  # type: ignore[arg-type]
    "no numbers": (lambda: Classification((np.array([["a"]]), y[:1]), (x, y)), "are no tensor"),
    "no rows": (lambda: Classification((y, y), (x, y)), "give one row an example"),
    "no batch": (lambda: classification(batch_size=0), "batch_size = 0"),
    "no such split": (
        lambda: Classification((x, y), (x, y)).evaluate(nn.Linear(4, 3), "test"),
        "choose one of train, valid",
    ),
    "targets in a cube": (lambda: Regression((x, x[..., None]), (x, y)), r"of shape \(6, 4, 1\): give numbers, \(n,\)"),
    "targets not finite": (lambda: Regression((x, bad), (x, x)), "train targets are not finite"),
    "targets of two widths": (lambda: Regression((x, x), (x, y)), r"valid targets have shape \(1,\) each"),
    "one target too few": (lambda: Regression((x, y[:5]), (x, y)), "6 inputs and 5 targets"),
    "text too short": (lambda: language(8), "give at least 9"),
    "tokens not integer": (lambda: LanguageModelling(x[:, 0], y), "train tokens are torch.float64"),
    "token out of range": (lambda: language(vocab=5), "vocab = 5"),
}


@pytest.mark.parametrize(("refused", "words"), REFUSED.values(), ids=list(REFUSED))
def test_bad_data_is_refused_in_one_line(refused: object, words: str) -> None:
    with pytest.raises(TaskError, match=words) as error:
        refused()  # type: ignore[operator]
    assert "\n" not in str(error.value)


def test_read_only_arrays_are_welcome() -> None:
    inputs, labels = pair(6)
    inputs.flags.writeable = labels.flags.writeable = False
    assert Classification((inputs, labels), (inputs, labels)).num_train == 6


class Denoising:
    """A task of one's own: restore a signal; its loss and metric are the mean squared difference."""

    name = metric = "mse"
    digest, batch_size, num_train = "denoising-1", 8, 40

    def __init__(self) -> None:
        self.clean = torch.randn(60, 4, generator=torch.Generator().manual_seed(0)).cumsum(1)

    def example(self, batch: int = 1) -> Tensor:
        return self.clean[:batch]

    def batch(self, step: int, seed: int) -> tuple[Tensor, Tensor]:
        clean = self.clean[batch_indices(self.num_train, self.batch_size, step, seed)]
        return clean + 0.1, clean

    def outputs(self, module: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        outputs: Tensor = module(batch[0])
        return outputs

    def loss(self, outputs: Tensor, batch: tuple[Tensor, Tensor]) -> Tensor:
        return (outputs - batch[1]).square().mean()

    def evaluate(self, module: nn.Module, split: str = "valid") -> dict[str, float]:
        clean = {"valid": self.clean[40:50], "test": self.clean[50:]}[split]
        with evaluating(module) as device:
            return {"mse": float((module(clean.to(device) + 0.1) - clean.to(device)).square().mean())}

    def calibration(self, n: int) -> Iterator[Tensor]:
        return (self.batch(step, 0)[0] for step in range(n))


def test_a_task_of_ones_own_learns() -> None:
    task: Task = Denoising()
    torch.manual_seed(0)
    module = nn.Linear(4, 4)
    optimizer = torch.optim.Adam(module.parameters(), 0.03)
    before = task.evaluate(module)[task.metric]
    for step in range(100):
        batch = task.batch(step, seed=0)
        optimizer.zero_grad()
        task.loss(task.outputs(module, batch), batch).backward()
        optimizer.step()
    assert task.evaluate(module, "test")[task.metric] < 0.1 * before
