"""Steps per second of one supernet with one, two and more training workers, on the same batches.

    python -m benchmarks.training_together [--rounds 3] [--steps 30] [--workers 1 2]

Each worker is a process with one thread. All numbers of workers train the same convolutional supernet, with and without
batch norm, and a language model, in turns, so that other load slows all equally. Only steps are timed, after two that
do not count. Figures are medians over the rounds, with the fastest and the slowest.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.report import machine, markdown
from search_spaces import Architecture, Space, choice
from supernets import Supernet, stack
from supernets.tasks import Classification, LanguageModelling
from supernets.teams import ALONE, Team
from supernets.training import TrainingConfig, train

RESULTS = Path(__file__).parent / "results" / "training_together.md"
WARM = 2


class Widths(Space):
    width = choice(32, 64)
    depth = choice(2, 3, 4)


def convolutions(norm: Callable[[int], nn.Module]) -> Callable[[Architecture], nn.Module]:
    def build(arch: Architecture) -> nn.Module:
        w = arch.width
        body = stack([nn.Sequential(nn.Conv2d(w, w, 3, padding=1), norm(w), nn.ReLU()) for _ in range(arch.depth)])
        return nn.Sequential(
            nn.Conv2d(1, w, 4, stride=2), body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(w, 10)
        )

    return build


def words(arch: Architecture) -> nn.Module:
    w = 4 * arch.width
    body = stack([nn.TransformerEncoderLayer(w, 4, 4 * w, dropout=0.0, batch_first=True) for _ in range(arch.depth)])
    return nn.Sequential(nn.Embedding(64, w), body, nn.Linear(w, 64))


def images() -> Classification:
    generator = torch.Generator().manual_seed(0)
    inputs, labels = torch.randn(1024, 1, 28, 28, generator=generator), torch.arange(1024) % 10
    return Classification((inputs, labels), (inputs[:64], labels[:64]), batch_size=128)


def text() -> LanguageModelling:
    tokens = torch.randint(64, (40_000,), generator=torch.Generator().manual_seed(0))
    return LanguageModelling(tokens[:-2000], tokens[-2000:], context=64, batch_size=32, vocab=64)


MODELS: dict[str, tuple[Callable[[Architecture], nn.Module], Callable[[], Any]]] = {
    "convolutions": (convolutions(lambda width: nn.Identity()), images),
    "convolutions, batch norm": (convolutions(nn.BatchNorm2d), images),
    "transformer": (words, text),
}


class Timed(Exception):
    """A training that is timed and not evaluated."""


def seconds(model: str, steps: int, team: Team) -> float:
    """Seconds per step."""
    build, make = MODELS[model]
    task, began = make(), 0.0
    batch = task.batch

    def timing(step: int, seed: int) -> Any:
        nonlocal began
        if step == WARM:
            began = time.perf_counter()
        if step == WARM + steps:
            raise Timed
        return batch(step, seed)

    task.batch = timing
    config = TrainingConfig(steps=WARM + steps + 1, evaluate_every=0, checkpoint_every=0, precision="fp32")
    try:
        train(Supernet(Widths(), build), task, config, progress=False, team=team)
    except Timed:
        return (time.perf_counter() - began) / steps
    raise AssertionError


def work(model: str, steps: int, place: str, rank: int, size: int) -> None:
    torch.set_num_threads(1)
    team = ALONE if size == 1 else Team.meet(place, rank, size, within_s=300)
    found = seconds(model, steps, team)
    if rank == 0:
        print(found)


def measured(model: str, steps: int, size: int) -> float:
    """Milliseconds per step, by number of workers."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.training_together", "--work", model, "--steps", str(steps)]
        command += ["--place", str(Path(folder) / "meeting"), "--size", str(size), "--rank"]
        workers = [subprocess.Popen([*command, str(rank)], stdout=subprocess.PIPE, text=True) for rank in range(size)]
        told = [worker.communicate()[0] for worker in workers]
    return float(told[0]) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--work", default="", help=argparse.SUPPRESS)
    parser.add_argument("--place", default="", help=argparse.SUPPRESS)
    for name in ("rank", "size"):
        parser.add_argument(f"--{name}", type=int, default=0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        work(given.work, given.steps, given.place, given.rank, given.size)
        return
    load = os.getloadavg()[0]
    times: dict[tuple[str, int], list[float]] = {}
    for _ in range(given.rounds):
        for model in MODELS:
            for size in given.workers:
                times.setdefault((model, size), []).append(measured(model, given.steps, size))
    rows = []
    for (model, size), found in times.items():
        middle, base = statistics.median(found), statistics.median(times[model, given.workers[0]])
        spread = f"{min(found):.0f} to {max(found):.0f}"
        rows.append([model, str(size), f"{middle:.0f}", spread, f"{base / middle:.2f} x"])
    head = ["supernet", "workers", "ms a step", "fastest to slowest", f"to {given.workers[0]} worker"]
    about = f"{machine(threads=1)}; {os.cpu_count()} cores, load {load:.1f} before and {os.getloadavg()[0]:.1f} after"
    parts = ["# Training on several workers", (__doc__ or "").split("\n\n")[2], f"{about}; {given.rounds} rounds."]
    text = "\n\n".join([*parts, markdown(head, rows)])
    print(text)
    RESULTS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
