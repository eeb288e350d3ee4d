"""What a training step through shared weights costs against the same step of the same static module.

For each model and batch size, random architectures are drawn; for each one a step of the extracted network and a step of the
subnet run one after the other, in alternating order, and the ratio is taken pair by pair. A subnet's time includes building it.

    python benchmarks/subnet_step.py [--device cuda] [--batches 1 8 32] [--pairs 15] [--threads 1]

Published code manages, against its own largest static network at batches 1 / 8 / 32, 1.60 / 1.19 / 1.07 for forward and backward
of a transformer, and 1.48 with AdamW over the whole supernet.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median, quantiles

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

from benchmarks.report import machine, markdown
from search_spaces import Space, choice
from supernets import OptimizerConfig, Supernet
from supernets.models import gpt, mobilenet, vit
from supernets.skeleton import Build

OPTIMIZER = OptimizerConfig("adamw", lr=1e-4)


class AutoFormerTiny(Space):
    """The supernet-T of AutoFormer (arXiv:2107.00651, table 1), the head size fixed at 64."""

    width = choice(192, 216, 240)
    depth = choice(12, 13, 14)
    heads = choice(3, 4, per="depth")
    ratio = choice(3.5, 4.0, per="depth")


class MobileStage(Space):
    width = choice(16, 24, 32)
    depth = choice(2, 3, 4)
    kernel = choice(3, 5, 7, per="depth")
    expansion = choice(3, 4, 6, per="depth")


class SmallGPT(Space):
    width = choice(128, 192, 256)
    depth = choice(4, 5, 6)
    heads = choice(2, 3, 4, per="depth")
    ratio = choice(2, 3, 4, per="depth")


class MobileNet(Space):
    stem = choice(16, 24)
    stages = choice(MobileStage(), per=4)
    head = choice(128, 192)


@dataclass(frozen=True)
class Model:
    name: str
    space: Space
    build: Build
    example: Callable[[int], Tensor]


MODELS = (
    Model(
        "Vision Transformer (AutoFormer-T, 64 px)",
        AutoFormerTiny(),
        partial(vit.build, num_classes=100, in_channels=3, image_size=64, patch_size=8, head_size=64),
        lambda batch: torch.randn(batch, 3, 64, 64),
    ),
    Model(
        "MobileNet-like (32 px)",
        MobileNet(),
        partial(mobilenet.build, num_classes=100, in_channels=3, strides=(1, 2, 2, 2)),
        lambda batch: torch.randn(batch, 3, 32, 32),
    ),
    Model(
        "GPT-like (128 tokens)",
        SmallGPT(),
        partial(gpt.build, vocab=128, context=128, head_size=64),
        lambda batch: torch.randint(128, (batch, 128)),
    ),
)


def timed(action: Callable[[], None], device: torch.device) -> float:
    """Wall seconds of one call; on a GPU, to the end of what it started."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    action()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


@dataclass
class Pair:
    """Seconds of one architecture's steps."""

    static: float
    subnet: float
    build: float
    static_step: float  # the optimiser's part
    subnet_step: float


def measure(supernet: Supernet, model: Model, batch: int, rng: np.random.Generator, first: str) -> Pair:
    arch = model.space.sample(rng)
    example = model.example(batch).to(supernet.device)
    static = supernet.extract(arch).train()
    theirs = torch.optim.AdamW(static.parameters(), lr=OPTIMIZER.lr, weight_decay=OPTIMIZER.weight_decay, fused=True)
    ours = supernet.optimizer(OPTIMIZER)
    networks: list[nn.Module] = []

    def step(module: nn.Module) -> None:
        module(example).square().mean().backward()

    # what a first call pays once, memory for gradients and state, is paid before the clock starts
    step(static)
    theirs.step()
    step(supernet.subnet(arch).train())
    ours.step()

    def their_step() -> None:
        nn.utils.clip_grad_norm_(static.parameters(), 1.0)
        theirs.step()

    def run_static() -> tuple[float, float]:
        theirs.zero_grad()
        return timed(lambda: step(static), supernet.device), timed(their_step, supernet.device)

    def run_subnet() -> tuple[float, float, float]:
        build = timed(lambda: networks.append(supernet.subnet(arch).train()), supernet.device)
        ours.zero_grad()
        return timed(lambda: step(networks[-1]), supernet.device), timed(lambda: ours.step(clip=1.0), supernet.device), build

    if first == "static":
        (static_time, static_step), (subnet_time, subnet_step, build) = run_static(), run_subnet()
    else:
        (subnet_time, subnet_step, build), (static_time, static_step) = run_subnet(), run_static()
    return Pair(static_time, subnet_time, build, static_step, subnet_step)


def ratios(pairs: list[Pair]) -> dict[str, list[float]]:
    return {
        "forward + backward": [p.subnet / p.static for p in pairs],
        "with building": [(p.build + p.subnet) / p.static for p in pairs],
        "with building and AdamW": [
            (p.build + p.subnet + p.subnet_step) / (p.static + p.static_step) for p in pairs
        ],
    }


def spread(values: list[float]) -> str:
    low, _, high = quantiles(values, n=4)
    return f"{median(values):.2f} ({low:.2f}-{high:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/subnet_step.md"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    header = ["model", "batch", "static step, ms", "build, ms", "forward + backward", "with building", "with building and AdamW"]
    rows: list[list[str]] = []
    for model in MODELS:
        supernet = Supernet(model.space, model.build, device=arguments.device)
        for batch in arguments.batches:
            rng = np.random.default_rng([0, batch])
            measure(supernet, model, batch, rng, "static")
            pairs = [
                measure(supernet, model, batch, rng, ("static", "subnet")[i % 2])
                for i in track(range(arguments.pairs), f"{model.name}, batch {batch}", console=Console(stderr=True))
            ]
            static = median(p.static + p.static_step for p in pairs) * 1e3
            build = median(p.build for p in pairs) * 1e3
            rows.append([model.name, str(batch), f"{static:.1f}", f"{build:.1f}", *(spread(v) for v in ratios(pairs).values())])
    table = Table(*header)
    for row in rows:
        table.add_row(*row)
    Console().print(table)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(
        "# A subnet's training step against the same static module's\n\n"
        f"{machine(arguments.device, arguments.threads)}. Ratios of pairs run one after the other, median (quartiles) of {arguments.pairs}.\n\n"
        + markdown(header, rows)
    )


if __name__ == "__main__":
    main()
