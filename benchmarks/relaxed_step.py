"""The cost of a step of gradient search: the expectation over all sizes compared with a step of the largest network.

For single layers with two choices of sizes, the layer at full size ("dense") is compared with three ways to compute the
same expectation: `Supernet.relax`; summing all slices of the weight, each padded with zeros and multiplied by its
probability, as research code with entangled weights does; and running all options' layers and mixing their outputs. A
step is forward and backward, to the input, to the weights and to the logits whose softmax gives the probabilities. Then
a whole Vision Transformer with every size a choice: a step with AdamW on its weights, compared with that of the largest
network in plain PyTorch.

Every round makes one step of each way, in rotating order, so that other load slows all equally; ratios are within a
round. On a CPU, time is process time. "Kept" is what autograd saves for backward: bytes of distinct storages, without
those of the stored weights, which exist in any case.

    python -m benchmarks.relaxed_step [--device cuda] [--rounds 9] [--threads 1] [--quick]
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from benchmarks.relaxed_ways import OPTIMIZER, Layer, Way, convolution, linear, relaxed, ways
from benchmarks.report import machine, markdown
from benchmarks.subnet_step import spread
from search_spaces import Space
from search_spaces.vit import AutoFormerTinySpace, ViTSpace
from supernets import Supernet
from supernets.models import vit
from supernets.skeleton import Build

RESULTS = Path("benchmarks/results/relaxed_step.md")
HEADER = ("network", "options", "way", "step, ms", "times dense", "kept, MiB", "kept weights, MiB")


@dataclass(frozen=True)
class Plan:
    """A measurement plan."""

    layers: Sequence[Layer]
    options: Sequence[int]
    mixed: Sequence[int]
    """Of the options those of which all layers are run too."""
    name: str
    space: Space
    build: Build
    images: tuple[int, ...]
    """Shape of a batch."""


FULL = Plan(
    layers=(linear(2560, 640, 197), linear(2560, 640, 1576), convolution(128, 64, 14, 8)),
    options=(3, 8, 16),
    mixed=(3, 8),
    name="Vision Transformer (AutoFormer-T, 224 px), batch 8, with AdamW",
    space=AutoFormerTinySpace(),
    build=partial(vit.build, num_classes=100, in_channels=3, image_size=224, patch_size=16, head_size=64),
    images=(8, 3, 224, 224),
)
QUICK = Plan(
    layers=(linear(24, 16, 5), convolution(6, 4, 8, 2)),
    options=(2, 3),
    mixed=(2,),
    name="Vision Transformer (8 px), batch 2, with AdamW",
    space=ViTSpace(),
    build=vit.build,
    images=(2, 1, 8, 8),
)


# --- measuring ----------------------------------------------------------------------------------------------------


def seconds(action: Callable[[], None], device: str) -> float:
    """Process time in seconds; on a GPU wall time until all started work has finished."""
    if device == "cpu":
        began = time.process_time()
        action()
        return time.process_time() - began
    torch.cuda.synchronize(device)
    began = time.perf_counter()
    action()
    torch.cuda.synchronize(device)
    return time.perf_counter() - began


def kept(way: Way, x: Tensor) -> tuple[int, int]:
    """Bytes that autograd saves in a forward pass, each storage once: without weights, and of weights."""
    own = {weight.untyped_storage().data_ptr() for weight in way.weights}
    found: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        output = way.forward(x)
    del output  # freed before, storages could have taken each other's places
    weights = sum(size for place, size in found.items() if place in own)
    return sum(found.values()) - weights, weights


def compare(made: Sequence[Way], x: Tensor, device: str, rounds: int, title: str) -> list[list[str]]:
    """Return one row per way; ratios are to the first."""
    times: dict[str, list[float]] = {way.name: [] for way in made}
    for number in track(range(-1, rounds), title, console=Console(stderr=True)):
        first = number % len(made)
        for way in (*made[first:], *made[:first]):
            took = seconds(partial(way.step, x), device)
            way.reset()
            x.grad = None
            if number >= 0:  # what a first step pays once is not counted
                times[way.name].append(took)
    dense = times[made[0].name]
    return [
        [
            way.name,
            f"{median(times[way.name]) * 1e3:.1f}",
            spread([took / alone for took, alone in zip(times[way.name], dense, strict=True)]),
            *(f"{size / 2**20:.2f}" for size in kept(way, x)),
        ]
        for way in made
    ]


def whole(plan: Plan, device: str) -> list[Way]:
    """The largest network in plain PyTorch, and the relaxation over its whole space, each with its optimiser."""
    supernet = Supernet(plan.space, plan.build, device=device)
    plain = supernet.extract(plan.space.largest()).train()
    fused = torch.optim.AdamW(plain.parameters(), lr=OPTIMIZER.lr, weight_decay=OPTIMIZER.weight_decay, fused=True)
    ours = supernet.optimizer(OPTIMIZER)
    way = relaxed(supernet, plan.space)
    return [
        Way("dense", plain, list(plain.parameters()), plain.zero_grad, update=fused.step),
        Way("relax", way.forward, way.weights, way.clear, way.logits, update=ours.step),
    ]


def measure(plan: Plan, device: str, rounds: int) -> list[list[str]]:
    rows: list[list[str]] = []
    for layer in plan.layers:
        x = layer.example().to(device).requires_grad_()
        for number in plan.options:
            made = ways(layer, number, device, outputs_too=number in plan.mixed)
            title = f"{number} x {number}"
            lines = compare(made, x, device, rounds, f"{layer.name}, {title}")
            rows += [[layer.name, title, *line] for line in lines]
    choices = f"{plan.space.count():.1e} networks"
    lines = compare(whole(plan, device), torch.randn(plan.images).to(device), device, rounds, plan.name)
    return [*rows, *([plan.name, choices, *line] for line in lines)]


# --- the command --------------------------------------------------------------------------------------------------


def report(plan: Plan, rows: Sequence[Sequence[str]], device: str, threads: int, rounds: int) -> str:
    clock = "Process time" if device == "cpu" else "Time"
    left_out = " and ".join(f"{number} x {number}" for number in plan.options if number not in plan.mixed)
    return (
        "# A step through an expectation over all sizes compared with one of the largest network\n\n"
        f"{machine(device, threads)}. {clock}, median of {rounds} rounds; ratios within a round, median (quartiles). "
        "Options are outputs x inputs, evenly spaced up to the full size. Kept is what autograd saves for backward, "
        "each storage once, without stored weights. "
        f"Outputs were not mixed for {left_out} options, which would take too long.\n\n" + markdown(HEADER, rows)
    )


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.relaxed_step",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to try it out; written only where --out says")
    parser.add_argument("--out", type=Path, help=f"{RESULTS} if absent")
    arguments = parser.parse_args(words)
    if arguments.rounds < 2:
        parser.error(f"--rounds {arguments.rounds}: quartiles take 2 rounds or more")
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    plan = QUICK if arguments.quick else FULL
    rows = measure(plan, arguments.device, arguments.rounds)
    table = Table(*HEADER)
    for row in rows:
        table.add_row(*row)
    Console().print(table)
    out = arguments.out or (None if arguments.quick else RESULTS)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(report(plan, rows, arguments.device, arguments.threads, arguments.rounds), encoding="utf-8")


if __name__ == "__main__":
    main()
