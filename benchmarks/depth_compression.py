"""Speed and accuracy of a convolutional network after depth compression, and whether the choice of activations matters.

A network of inverted bottlenecks (arXiv:1801.04381) learns Fashion-MNIST. Merged segments are measured on this
processor; the value of activations is the accuracy without them on part of the training data, with recalibrated batch
norm. For each budget, a share of the sum of single layers, the plan of the dynamic programmes is trained further,
merged, measured and tested, and compared with random plans that use nearly as much of the same budget.

    python -m benchmarks.depth_compression [--steps 1500] [--finetune 400]
"""

import argparse
import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn

from benchmarks.report import machine, markdown
from nas.data import fashion_mnist
from nas.targets import CPUTarget
from supernets.calibrate import NUM_BATCHES, recalibrate
from supernets.compression.chain import Chain
from supernets.compression.depth import Plan, Tables, solve, times, values
from supernets.tasks import Classification, evaluating
from supernets.training import TrainingConfig, train_network

RESULTS = Path("benchmarks/results/depth_compression.md")
SHARES, RANDOM, SCORED = (0.8, 0.6, 0.45), 3, 1000
SHORTCUTS = [(1, 4), (7, 10), (13, 16)]
"""Of the blocks that keep width and size."""


def bottleneck(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    hidden = 6 * inputs
    return [
        *(nn.Conv2d(inputs, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU6()),
        *(nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False), nn.BatchNorm2d(hidden), nn.ReLU6()),
        *(nn.Conv2d(hidden, outputs, 1, bias=False), nn.BatchNorm2d(outputs)),
    ]


class Net(nn.Module):
    """Images (N, 1, 28, 28) -> body, 3 x 3 places -> mean over them -> classes (N, 10)."""

    def __init__(self) -> None:
        super().__init__()
        blocks = [(12, 12, 1), (12, 16, 2), (16, 16, 1), (16, 24, 2), (24, 24, 1)]
        stem = [nn.Conv2d(1, 12, 3, 2, 1, bias=False), nn.BatchNorm2d(12), nn.ReLU6()]
        self.body: nn.Module = Chain.read([*stem, *(m for sizes in blocks for m in bottleneck(*sizes))], SHORTCUTS)
        self.head = nn.Linear(24, 10)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(images).mean((2, 3)))
        return logits

    def having(self, body: nn.Module) -> "Net":
        """A copy with another body."""
        found = copy.copy(self)
        found._modules = {"body": body, "head": copy.deepcopy(self.head)}
        return found


@dataclass(frozen=True)
class Subject:
    """The trained network, its data, and what is known of its stretches."""

    net: Net
    task: Classification
    training: TrainingConfig
    tables: Tables

    def outcome(self, plan: Plan) -> tuple[float, float]:
        """Error at once, and trained on and merged; in float64 the two give the same."""
        thin = self.net.having(self.body.thinned(plan.ends, plan.kept))
        recalibrate(thin, self.task.calibration(NUM_BATCHES))
        before = self.task.evaluate(thin, "test")["error"]
        train_network(thin, self.task, self.training, progress=False)
        recalibrate(thin, self.task.calibration(NUM_BATCHES))
        after = self.task.evaluate(self.short(thin.body), "test")["error"]
        exact, x = thin.body.double(), self.task.example(16).double()
        assert isinstance(exact, Chain)
        torch.testing.assert_close(exact.merged()(x), exact(x), rtol=1e-9, atol=1e-9)
        return before, after

    def short(self, body: nn.Module) -> Net:
        assert isinstance(body, Chain)
        return self.net.having(body.merged()).eval()

    @property
    def body(self) -> Chain:
        assert isinstance(self.net.body, Chain)
        return self.net.body


def measure(modules: Sequence[nn.Module], example: Tensor) -> list[float]:
    return [found.median_ms for found in CPUTarget(budget_s=0.2 * len(modules)).measure(modules, example)]


def subject(steps: int, finetune: int, seed: int) -> Subject:
    data = fashion_mnist()
    task = Classification(data.train, data.valid, data.test, batch_size=64, name="fashion-mnist")
    torch.manual_seed(seed)
    net = Net()
    training = TrainingConfig(steps=steps, lr=5e-3, weight_decay=0.01, precision="fp32", evaluate_every=0, seed=seed)
    train_network(net, task, training, progress=False)
    recalibrate(net, task.calibration(NUM_BATCHES))
    assert isinstance(net.body, Chain)
    known = times(net.body, task.example(16), measure)
    judged = task.select(range(SCORED), 0, 0)

    def accuracy(body: Chain) -> float:
        network = recalibrate(net.having(body), task.calibration(2))
        with evaluating(network):
            return float((task.outputs(network, judged).argmax(-1) == judged.targets).float().mean())

    worth = values(net.body, list(known), accuracy)
    further = TrainingConfig(steps=finetune, lr=2e-3, weight_decay=0.01, precision="fp32", evaluate_every=0, seed=seed)
    return Subject(net, task, further, Tables(len(net.body.layers), known, worth))


def random_plans(tables: Tables, plan: Plan, budget: float, rng: np.random.Generator) -> list[Plan]:
    """Plans that take between 85 % of what the plan takes and the budget, drawn by values that mean nothing."""
    found: dict[Plan, None] = {}
    for _ in range(2000):
        drawn = Tables(tables.length, tables.times, {case: float(rng.normal()) for case in tables.values})
        (other,) = solve(drawn, [budget])
        if 0.85 * plan.time <= other.time and other.ends != plan.ends:
            found.setdefault(other)
        if len(found) == RANDOM:
            break
    return list(found)


def rows(subject: Subject, seed: int) -> list[list[str]]:
    """A row for the network as it was, and one a budget."""
    whole = sum(subject.tables.times[begin, begin + 1] for begin in range(subject.tables.length))
    plans = solve(subject.tables, [share * whole for share in SHARES])
    shorts = [subject.short(subject.body), *(subject.short(subject.body.thinned(p.ends, p.kept)) for p in plans)]
    latencies = [r.median_ms for r in CPUTarget(budget_s=20.0).measure(shorts, subject.task.example(16))]
    every = tuple(subject.body.boundaries)
    first, trained = subject.outcome(Plan(every, every, 0.0, whole))
    before_any = [str(subject.tables.length), f"{whole:.2f}", f"{latencies[0]:.2f}", "", f"{first:.3f}"]
    found = [["as it was", *before_any, f"{trained:.3f}", ""]]
    for share, plan, latency in zip(SHARES, plans, latencies[1:], strict=True):
        before, after = subject.outcome(plan)
        drawn = random_plans(subject.tables, plan, share * whole, np.random.default_rng(seed))
        others = sorted(subject.outcome(other)[1] for other in drawn)
        spread = f"{median(others):.3f} ({others[0]:.3f} to {others[-1]:.3f})" if others else ""
        cells = [
            f"{plan.time:.2f}",
            f"{latency:.2f}",
            f"{latencies[0] / latency:.2f}",
            f"{before:.3f}",
            f"{after:.3f}",
        ]
        found.append([f"{share:.0%}", str(len(plan.ends)), *cells, spread])
    return found


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.depth_compression",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--finetune", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args(words)
    torch.set_num_threads(1)
    found = rows(subject(given.steps, given.finetune, given.seed), given.seed)
    given.out.write_text(report(found, given), encoding="utf-8")
    Console().print(given.out.read_text(encoding="utf-8"), markup=False, soft_wrap=True)


def report(found: Sequence[Sequence[str]], given: argparse.Namespace) -> str:
    header = [
        "budget",
        "convolutions",
        "ms, summed",
        "ms, whole",
        "times faster",
        "error at once",
        "error",
        "at random",
    ]
    return (
        "# Shallower networks by dropping activations\n\n"
        f"{machine('cpu', 1)}; written by `python -m benchmarks.depth_compression`, seed {given.seed}. Five inverted "
        f"bottlenecks, {given.steps} steps on Fashion-MNIST, {given.finetune} more after activations are dropped. "
        "Times of 16 images, all in the same rounds: the sum of segments measured one by one, to which the budget "
        "refers, and the merged network as a whole, compared with the original with folded batch norms. Test errors "
        "without the activations: immediately, and after further training and merging, also for the original network; "
        f"at random: the median (least to most) of {RANDOM} random plans that take nearly as long.\n\n"
        + markdown(header, found)
    )


if __name__ == "__main__":
    main()
