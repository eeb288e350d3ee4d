"""The cost of mixture-routed weights: a training step through them compared with one through entangled weights.

For each model, batch size and kind of routing, random architectures are drawn; for each one, a step of the entangled
supernet and a step of the routed one run one after the other, in alternating order; ratios are within a pair. A step is
forward, backward, clipping and AdamW. The networks are reused, as the training loop reuses recurring ones; the time to
build them is a separate column. On a CPU, time is process time, which other load disturbs less than wall time.

    python benchmarks/routed_step.py [--device cuda] [--batches 1 8 32] [--pairs 15] [--threads 1]
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

from benchmarks.report import machine, markdown
from benchmarks.subnet_step import MODELS, OPTIMIZER, spread
from search_spaces import Architecture
from supernets import Optimizer, Routed, Supernet

KINDS = {
    "2 experts, layer": Routed(experts=2, per="layer"),
    "2 experts, neuron": Routed(experts=2, per="neuron"),
    "4 experts, layer": Routed(experts=4, per="layer"),
}
CHOSEN = [model for model in MODELS if not model.name.startswith("MobileNet")]


@dataclass
class Cost:
    """Seconds of one architecture in one supernet."""

    build: float
    network: float  # forward and backward
    optimizer: float

    @property
    def step(self) -> float:
        return self.network + self.optimizer


@dataclass
class Trainee:
    """A supernet and its optimiser, whose state is kept between architectures."""

    supernet: Supernet
    optimizer: Optimizer

    def step(self, arch: Architecture, example: Tensor) -> Cost:
        """The second step of a fresh network, without the one-time costs of the first."""
        networks: list[nn.Module] = []
        build = self._timed(lambda: networks.append(self.supernet.subnet(arch).train()))

        def run() -> None:
            networks[0](example).square().mean().backward()

        run()
        self.optimizer.step(clip=1.0)
        return Cost(build, self._timed(run), self._timed(lambda: self.optimizer.step(clip=1.0)))

    def _timed(self, action: Callable[[], object]) -> float:
        device = self.supernet.device
        if device.type == "cpu":
            began = time.process_time()
            action()
            return time.process_time() - began
        torch.cuda.synchronize(device)
        began = time.perf_counter()
        action()
        torch.cuda.synchronize(device)
        return time.perf_counter() - began


@dataclass
class Pair:
    entangled: Cost
    routed: Cost


def trainee(supernet: Supernet) -> Trainee:
    return Trainee(supernet, supernet.optimizer(OPTIMIZER))


def measure(entangled: Trainee, routed: Trainee, arch: Architecture, example: Tensor, first: str) -> Pair:
    if first == "entangled":
        return Pair(entangled.step(arch, example), routed.step(arch, example))
    late = routed.step(arch, example)
    return Pair(entangled.step(arch, example), late)


def ratios(pairs: list[Pair]) -> dict[str, list[float]]:
    return {
        "forward + backward": [p.routed.network / p.entangled.network for p in pairs],
        "... and AdamW": [p.routed.step / p.entangled.step for p in pairs],
        "... and building": [(p.routed.build + p.routed.step) / (p.entangled.build + p.entangled.step) for p in pairs],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/routed_step.md"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    header = ["model", "batch", "routing", "entangled step, ms", *ratios([])]
    rows: list[list[str]] = []
    for model in CHOSEN:
        made = partial(Supernet, model.space, model.build, device=arguments.device)
        entangled = trainee(made())
        for kind, sharing in KINDS.items():
            routed = trainee(made(sharing=sharing))
            for batch in arguments.batches:
                rng = np.random.default_rng([0, batch])
                pairs = [
                    measure(
                        entangled,
                        routed,
                        model.space.sample(rng),
                        model.example(batch).to(arguments.device),
                        ("entangled", "routed")[i % 2],
                    )
                    for i in track(
                        range(arguments.pairs), f"{model.name}, {kind}, batch {batch}", console=Console(stderr=True)
                    )
                ]
                step = median(p.entangled.step for p in pairs) * 1e3
                rows.append([model.name, str(batch), kind, f"{step:.1f}", *map(spread, ratios(pairs).values())])
    table = Table(*header)
    for row in rows:
        table.add_row(*row)
    Console().print(table)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    clock = "Process time" if arguments.device == "cpu" else "Time"
    arguments.out.write_text(
        "# A training step through mixture-routed weights compared with one through entangled weights\n\n"
        f"{machine(arguments.device, arguments.threads)}. "
        f"{clock}; ratios within pairs of consecutive steps, median (quartiles) of {arguments.pairs}.\n\n"
        + markdown(header, rows)
    )


if __name__ == "__main__":
    main()
