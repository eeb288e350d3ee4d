"""Repeatability of latencies: the same networks measured again minutes later, in consecutive passes and in rounds.

    python -m benchmarks.measuring [--device cuda] [--seconds 10] [--times 3] [--pause 60]

For each space, networks with evenly spaced multiply-accumulates are measured several times, in the same time with both
methods: each network alone, in consecutive passes; and all in interleaved rounds, with the references that relate later
sets to the first. Between two measurements lie all other spaces and a pause. Everything runs once on an idle machine,
and once while another process loads one core in bursts.

Two measurements are compared by Spearman's rank correlation, by the median difference of latencies, and by the same
after dividing out the factor common to all networks, which does not affect rankings.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import track
from scipy.stats import spearmanr
from torch import Tensor, nn

from benchmarks.report import machine, markdown
from nas.targets import CPUTarget, CUDATarget, Target
from nas.targets.sets import NUM_REFERENCES, Sets
from search_spaces import Architecture, Space
from search_spaces.gpt import GPTSpace
from search_spaces.mobilenet import MobileNetSpace
from search_spaces.vit import ViTSpace
from supernets import Supernet
from supernets.models import gpt, mobilenet, vit
from supernets.skeleton import Build

NETWORKS = 30
DRAWN = 120
ROW, ROUNDS = "in a row", "in rounds"
ALONE, BURSTS = "alone", "another process in bursts"
BURST = """
import random, time
draw = random.Random(0)
while True:
    end = time.perf_counter() + draw.uniform(0.02, 0.4)
    while time.perf_counter() < end:
        sum(range(1000))
    time.sleep(draw.uniform(0.02, 0.4))
"""

Milliseconds = npt.NDArray[np.float64]


@dataclass
class Subject:
    """Networks of a space, their input, and the references' latencies in the first set."""

    name: str
    space: Space
    build: Build
    example: Tensor
    scale: dict[Architecture, float] = field(default_factory=dict)
    archs: list[Architecture] = field(default_factory=list)
    made: dict[Architecture, nn.Module] = field(default_factory=dict)

    def prepare(self) -> None:
        """Draw networks and keep those with evenly spaced multiply-accumulates."""
        supernet = Supernet(self.space, self.build)
        drawn = self.space.sample_many(DRAWN, np.random.default_rng(0), uniform="choices", distinct=True)
        drawn = list(dict.fromkeys((self.space.smallest(), *drawn, self.space.largest())))
        macs = np.log([supernet.profile(arch, self.example).macs for arch in drawn])
        wanted = np.linspace(macs.min(), macs.max(), NETWORKS)
        nearest = dict.fromkeys(int(np.abs(macs - value).argmin()) for value in wanted)
        rest = (i for i in np.random.default_rng(1).permutation(len(drawn)) if int(i) not in nearest)
        chosen = [*nearest, *(int(i) for i in itertools.islice(rest, NETWORKS - len(nearest)))]
        self.archs = [drawn[i] for i in sorted(chosen, key=lambda i: macs[i])]
        self.extract = supernet.extract

    def network(self, arch: Architecture) -> nn.Module:
        """The network of an architecture, made once so that both methods measure the same object."""
        if arch not in self.made:
            self.made[arch] = self.extract(arch)
        return self.made[arch]

    def in_a_row(self, target: Target) -> Milliseconds:
        """Return (networks,) latencies, each network alone."""
        return np.array([target.measure([self.network(arch)], self.example)[0].median_ms for arch in self.archs])

    def in_rounds(self, target: Target) -> Milliseconds:
        """Return (networks,) latencies, all networks together, on the scale of the first set."""
        sets = Sets(target, self.space, self.network, self.example, self.scale)
        found = {arch: result.median_ms for part in sets.measure(self.archs) for arch, result in part}
        anchors = self.scale or {arch: ms for arch, ms in found.items() if arch not in self.archs}
        self.scale = dict(anchors)
        return np.array([found[arch] for arch in self.archs])


def subjects() -> list[Subject]:
    small = partial(vit.build, num_classes=10, in_channels=1, image_size=28, patch_size=4, head_size=16)
    image = partial(mobilenet.build, num_classes=10, in_channels=3)
    text = partial(gpt.build, vocab=64, context=128, head_size=16)
    generator = torch.Generator().manual_seed(0)
    return [
        Subject("MobileNet", MobileNetSpace(), image, torch.randn(1, 3, 32, 32, generator=generator)),
        Subject("ViT", ViTSpace(), small, torch.randn(8, 1, 28, 28, generator=generator)),
        Subject("GPT", GPTSpace(), text, torch.randint(64, (4, 128), generator=generator)),
    ]


@dataclass(frozen=True)
class Row:
    """Two measurements of the same networks."""

    around: str
    subject: str
    way: str
    span: float
    spearman: float
    apart: float
    beside: float


def compare(around: str, subject: str, way: str, first: Milliseconds, second: Milliseconds) -> Row:
    ratios = second / first
    common = float(np.median(ratios))
    return Row(
        around,
        subject,
        way,
        float(first.max() / first.min()),
        float(spearmanr(first, second).statistic),
        float(np.median(np.abs(ratios - 1))),
        float(np.median(np.abs(ratios / common - 1))),
    )


def measured(device: str, seconds: float, times: int, pause: float) -> Iterator[Row]:
    """All rows: one for each two consecutive measurements."""
    ways: dict[str, Callable[[Subject, Target], Milliseconds]] = {ROW: Subject.in_a_row, ROUNDS: Subject.in_rounds}
    targets = {ROW: _target(device, seconds / NETWORKS), ROUNDS: _target(device, seconds / (NETWORKS + NUM_REFERENCES))}
    named = subjects()
    for subject in named:
        subject.prepare()
    for around in (ALONE, BURSTS):
        before: dict[tuple[str, str], Milliseconds] = {}
        with _around(around):
            for number in track(range(times), around, console=Console(stderr=True)):
                time.sleep(pause if number else 0)
                for subject in named:
                    for way in (ROW, ROUNDS) if number % 2 else (ROUNDS, ROW):
                        found = ways[way](subject, targets[way])
                        if (subject.name, way) in before:
                            yield compare(around, subject.name, way, before[subject.name, way], found)
                        before[subject.name, way] = found


def _target(device: str, budget_s: float) -> Target:
    """A target that uses the whole time budget."""
    if device == "cuda":
        return CUDATarget(uncertainty=0.0, budget_s=budget_s, max_repeats=10**6, energy=lambda uuid: None)
    return CPUTarget(uncertainty=0.0, budget_s=budget_s, max_repeats=10**6, energy=None)


@contextmanager
def _around(what: str) -> Iterator[None]:
    """Run with or without the other process."""
    if what == ALONE:
        yield
        return
    other = subprocess.Popen([sys.executable, "-c", BURST])
    try:
        yield
    finally:
        other.kill()
        other.wait()


def report(rows: Sequence[Row], device: str, seconds: float, pause: float) -> str:
    header = ["machine", "space", "slowest / fastest", "way", "Spearman", "apart", "apart beside the others"]
    body = []
    for key in dict.fromkeys((row.around, row.subject, row.way) for row in rows):
        own = [row for row in rows if (row.around, row.subject, row.way) == key]
        figures = [[getattr(row, name) for row in own] for name in ("spearman", "apart", "beside")]
        ranks, *apart = ([median(values), min(values), max(values)] for values in figures)
        cells = [f"{ranks[0]:.3f} ({ranks[1]:.3f} to {ranks[2]:.3f})"]
        cells += [f"{middle:.1%} ({low:.1%} to {high:.1%})" for middle, low, high in apart]
        body.append([key[0], key[1], f"{median(row.span for row in own):.1f}", key[2], *cells])
    return "\n".join(
        [
            "# Do measured latencies repeat?",
            "",
            f"{machine(device, 1)}. {NETWORKS} networks of each space, {seconds:g} s for all of them with each method, "
            f"measurements of a space at least {pause + 5 * seconds:.0f} s apart. Medians over pairs of measurements, "
            "with ranges.",
            "",
            markdown(header, body),
            "*Apart*: median over networks of the relative difference between later and earlier latency; *beside the",
            "others*: the same after dividing out the factor common to all networks. Made by",
            "`python -m benchmarks.measuring`.",
            "",
        ]
    )


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--seconds", type=float, default=10.0, help="for all networks of a space, by either way")
    parser.add_argument("--times", type=int, default=4, help="that each space is measured")
    parser.add_argument("--pause", type=float, default=60.0, help="seconds between two times, beside the other spaces")
    parser.add_argument("--out", type=Path, help="where the report goes")
    given = parser.parse_args(words)
    name = "measuring.md" if given.device == "cpu" else f"measuring_{given.device}.md"
    path = given.out or Path(__file__).parent / "results" / name
    rows = []
    for row in measured(given.device, given.seconds, given.times, given.pause):
        rows.append(row)
        path.write_text(report(rows, given.device, given.seconds, given.pause), encoding="utf-8")
    Console().print(path.read_text(encoding="utf-8"), soft_wrap=True, markup=False)


if __name__ == "__main__":
    main()
