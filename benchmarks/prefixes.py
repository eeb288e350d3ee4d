"""The savings of running common first blocks of subnets only once, on batches like those of an evolution.

Two batches of architectures are evaluated: 60 children of 20 parents, as evolution makes them, and the neighbours of
one architecture, which differ from it by one choice. Both methods evaluate all of them, batch-norm statistics and
metric, with an empty cache and in the same order, which groups common beginnings; the metrics must be bitwise equal.
Process time; ratios within a round. Weights are untrained, which does not change the time.

    python -m benchmarks.prefixes [--rounds 3]
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median, quantiles

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from benchmarks.report import machine, markdown
from nas.demos import text
from nas.stages.evaluators import SubnetEvaluator
from search_spaces import Architecture, Space
from search_spaces.mobilenet import MobileNetSpace
from search_spaces.vit import ViTSpace
from supernets import Supernet
from supernets.models import mobilenet, vit
from supernets.prefixes import MAX_BYTES, PrefixEvaluator
from supernets.skeleton import Build
from supernets.tasks import Classification, Task

RESULTS = Path("benchmarks/results/prefixes.md")
PARENTS, CHILDREN, MOST = 20, 60, 40


@dataclass(frozen=True)
class Subject:
    name: str
    space: Space
    build: Build
    task: Task


def noise(channels: int, side: int) -> Classification:
    """Images of noise: their content does not change the cost."""
    rng = np.random.default_rng(0)

    def split(n: int) -> tuple[np.ndarray, np.ndarray]:
        return rng.normal(size=(n, channels, side, side)).astype(np.float32), rng.integers(0, 10, n)

    return Classification(split(128), split(64), batch_size=16, name="noise")


def subjects() -> list[Subject]:
    images = partial(mobilenet.build, num_classes=10, in_channels=3)
    patches = partial(vit.build, num_classes=10, in_channels=1, image_size=28, patch_size=4, head_size=16)
    return [
        Subject("MobileNet, 32 px", MobileNetSpace(), images, noise(3, 32)),
        Subject("ViT, 28 px", ViTSpace(), patches, noise(1, 28)),
        Subject("text demo", text.run.space, text.run.build, text.run.task),
    ]


def children(space: Space) -> list[Architecture]:
    """Children as `nas.searchers.evolution` makes them, of parents that are themselves children of a few."""
    rng = np.random.default_rng(0)
    parents = space.sample_many(4, rng, uniform="choices")
    while len(parents) < PARENTS:
        parents.append(space.mutate(parents[int(rng.integers(len(parents)))], rng))

    def child() -> Architecture:
        one, other = (parents[int(rng.integers(PARENTS, size=2).min())] for _ in range(2))
        return space.mutate(space.crossover(one, other, rng) if rng.random() < 0.5 else one, rng)

    found: dict[Architecture, None] = {}
    tries = 0
    while len(found) < CHILDREN and tries < 100 * CHILDREN:
        found.setdefault(child())
        tries += 1
    return list(found)


def neighbours(space: Space) -> list[Architecture]:
    """At most `most` neighbours, evenly from those that differ in the first choice to those that differ in the last."""
    found = list(space.neighbours(space.sample(np.random.default_rng(1), uniform="choices")))
    places = np.unique(np.linspace(0, len(found) - 1, MOST).astype(int))
    return [found[place] for place in places]


def seconds(evaluate: Callable[[Architecture], object], archs: Sequence[Architecture]) -> tuple[float, list[object]]:
    began = time.process_time()
    found = [evaluate(arch) for arch in archs]
    return time.process_time() - began, found


def compare(subject: Subject, batch: str, archs: Sequence[Architecture], rounds: int) -> list[str]:
    supernet = Supernet(subject.space, subject.build)
    plain = SubnetEvaluator(supernet, subject.task)
    ratios, alone, spared = [], [], 0.0
    for number in track(range(rounds), f"{subject.name}, {batch}", console=Console(stderr=True)):
        shared = PrefixEvaluator(supernet, subject.task)
        ordered = [archs[position] for position in shared.order(archs)]
        ways = [partial(seconds, plain, ordered), partial(seconds, shared, ordered)]
        done = [way() for way in (ways if number % 2 else ways[::-1])]
        (slow, expected), (fast, found) = done if number % 2 else done[::-1]
        if found != expected:
            raise AssertionError(f"{subject.name}: metrics differ")
        ratios.append(slow / fast)
        alone.append(slow / len(archs))
        spared = shared.activations.spared / (shared.activations.spared + shared.activations.run)
    low, _, high = quantiles(ratios, n=4)
    cells = [str(len(archs)), f"{median(alone) * 1e3:.0f}", f"{spared:.0%}"]
    return [subject.name, batch, *cells, f"{median(ratios):.2f} ({low:.2f}-{high:.2f})"]


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.prefixes", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args(words)
    torch.set_num_threads(1)
    rows: list[list[str]] = []
    for subject in subjects():
        for name, make in (("children", children), ("neighbours", neighbours)):
            rows.append(compare(subject, name, make(subject.space), given.rounds))
            given.out.write_text(report(rows, given.rounds), encoding="utf-8")
    Console().print(given.out.read_text(encoding="utf-8"), markup=False, soft_wrap=True)


def report(rows: Sequence[Sequence[str]], rounds: int) -> str:
    header = ["space", "batch", "networks", "ms a network alone", "blocks spared", "times faster"]
    return (
        "# Evaluating subnets with common first blocks\n\n"
        f"{machine('cpu', 1)}; written by `python -m benchmarks.prefixes`. Process time, {rounds} rounds, at most "
        f"{MAX_BYTES >> 20} MiB of activations; metrics were bitwise equal. Median ratio (quartiles).\n\n"
        + markdown(header, rows)
    )


if __name__ == "__main__":
    main()
