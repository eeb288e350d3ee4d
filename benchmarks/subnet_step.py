"""The cost of a training step through shared weights compared with the same step of the same static module.

For each model and batch size, random architectures are drawn; for each one, a step of the extracted network and a step
of the subnet run one after the other, in alternating order; ratios are within a pair. A subnet is new in every training
step, so building it is part of the last three ratios. The static module uses torch's AdamW in two versions: the
default, and fused.

    python benchmarks/subnet_step.py [--device cuda] [--batches 1 8 32] [--pairs 15] [--threads 1]

Published code reaches, relative to its own largest static network at batches 1 / 8 / 32, 1.60 / 1.19 / 1.07 for forward
and backward of a transformer, and 1.48 with AdamW over the whole supernet.
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
from search_spaces.vit import AutoFormerTinySpace
from supernets import OptimizerConfig, Supernet
from supernets.models import gpt, mobilenet, vit
from supernets.skeleton import Build

OPTIMIZER = OptimizerConfig("adamw", lr=1e-4)


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
        AutoFormerTinySpace(),
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
    """Wall seconds of one call; on a GPU, until the work that it started has finished."""
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
    default_adamw: float  # the static module's optimiser as it comes
    fused_adamw: float
    our_adamw: float


def measure(supernet: Supernet, model: Model, batch: int, rng: np.random.Generator, first: str) -> Pair:
    arch = model.space.sample(rng)
    example = model.example(batch).to(supernet.device)
    static = supernet.extract(arch).train()
    settings = {"lr": OPTIMIZER.lr, "weight_decay": OPTIMIZER.weight_decay}
    default = torch.optim.AdamW(static.parameters(), **settings)
    fused = torch.optim.AdamW(static.parameters(), **settings, fused=True)
    ours = supernet.optimizer(OPTIMIZER)
    networks: list[nn.Module] = []

    def step(module: nn.Module) -> None:
        module(example).square().mean().backward()

    def clipped(optimizer: torch.optim.Optimizer) -> None:
        nn.utils.clip_grad_norm_(static.parameters(), 1.0)
        optimizer.step()

    # what a first call pays once, memory for gradients and state, is paid before the clock starts
    step(static)
    clipped(default)
    clipped(fused)
    step(supernet.subnet(arch).train())
    ours.step(clip=1.0)

    def time_static() -> tuple[float, float, float]:
        default.zero_grad()
        times = [
            timed(action, supernet.device)
            for action in (partial(step, static), partial(clipped, default), partial(clipped, fused))
        ]
        return times[0], times[1], times[2]

    def time_subnet() -> tuple[float, float, float]:
        ours.zero_grad()
        build = timed(lambda: networks.append(supernet.subnet(arch).train()), supernet.device)
        return (
            build,
            timed(lambda: step(networks[-1]), supernet.device),
            timed(partial(ours.step, clip=1.0), supernet.device),
        )

    if first == "static":
        (static_time, default_time, fused_time), (build, subnet_time, our_time) = time_static(), time_subnet()
    else:
        (build, subnet_time, our_time), (static_time, default_time, fused_time) = time_subnet(), time_static()
    return Pair(static_time, subnet_time, build, default_time, fused_time, our_time)


def ratios(pairs: list[Pair]) -> dict[str, list[float]]:
    whole = [p.build + p.subnet + p.our_adamw for p in pairs]
    return {
        "forward + backward": [p.subnet / p.static for p in pairs],
        "with building": [(p.build + p.subnet) / p.static for p in pairs],
        "... and AdamW": [ours / (p.static + p.default_adamw) for p, ours in zip(pairs, whole, strict=True)],
        "... and AdamW, static one fused": [
            ours / (p.static + p.fused_adamw) for p, ours in zip(pairs, whole, strict=True)
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
    header = ["model", "batch", "static forward + backward, ms", "AdamW, ms", "build, ms", *ratios([])]
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
            times = [median(getattr(p, name) for p in pairs) * 1e3 for name in ("static", "default_adamw", "build")]
            rows.append(
                [model.name, str(batch), *(f"{t:.1f}" for t in times), *(spread(v) for v in ratios(pairs).values())]
            )
    table = Table(*header)
    for row in rows:
        table.add_row(*row)
    Console().print(table)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(
        "# A subnet's training step compared with that of the same static module\n\n"
        f"{machine(arguments.device, arguments.threads)}. "
        f"Ratios within pairs of consecutive steps, median (quartiles) of {arguments.pairs}.\n\n"
        + markdown(header, rows)
    )


if __name__ == "__main__":
    main()
