"""The cost of counting networks by tables, compared with profiling each.

For each ready-made space the tables are made once, by profiling as many networks as they need. Then every round counts
many newly drawn networks by the tables and profiles a few of them one by one, in alternating order; the two must agree
on every figure. Ratios are within a round, of networks per second of process time.

    python -m benchmarks.counting [--rounds 5] [--networks 10000] [--profiled 20]
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median, quantiles

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

from benchmarks.measuring import subjects
from benchmarks.report import machine, markdown
from nas.demos import image, text
from search_spaces import Architecture, Space
from search_spaces.nasbench201 import NASBench201Space
from supernets.counting import Counts
from supernets.models import nasbench201
from supernets.profile import profile_network
from supernets.skeleton import Build, build_skeleton

RESULTS = Path("benchmarks/results/counting.md")
HEADER = (
    "space",
    "networks in all",
    "tables made in, s",
    "of profiles",
    "networks/s by tables",
    "by profiles",
    "ratio",
)


@dataclass
class Subject:
    """A space whose networks are counted, and the times of both methods."""

    name: str
    space: Space
    build: Build
    example: Tensor | tuple[Tensor, ...]
    tables_s: float = 0.0
    profiled: int = 0
    """For the tables."""
    read: list[float] = field(default_factory=list)
    """Networks a second, of every round."""
    made: list[float] = field(default_factory=list)

    def prepare(self) -> None:
        """Make the tables."""
        self.counts = Counts(self.space, self._build, self.example)
        began = time.process_time()
        self.counts([self.space.largest()])
        self.tables_s = time.process_time() - began

    def _build(self, arch: Architecture) -> nn.Module:
        self.profiled += 1
        return self.build(arch)

    def round(self, number: int, networks: int, profiled: int) -> None:
        """Run both methods once."""
        archs = self.space.sample_many(networks, np.random.default_rng([number, 1]), uniform="choices")
        ways = [partial(self._read, archs), partial(self._profile, archs[:profiled])]
        for way in ways if number % 2 else ways[::-1]:
            way()
        rows = self.counts(archs[:profiled])
        ours = [dict(zip(self.counts.columns, row, strict=True)) for row in rows.tolist()]
        for arch, known in zip(archs[:profiled], ours, strict=True):
            profile = profile_network(build_skeleton(self.build, arch), self.example)
            if (known["", "params"], known["", "macs"]) != (profile.params, profile.macs):
                raise AssertionError(f"{self.name}: tables and profile disagree on {arch}")

    def _read(self, archs: Sequence[Architecture]) -> None:
        codes = self.space.codes(archs)
        began = time.process_time()
        self.counts(codes)
        self.read.append(len(archs) / (time.process_time() - began))

    def _profile(self, archs: Sequence[Architecture]) -> None:
        began = time.process_time()
        for arch in archs:
            profile_network(build_skeleton(self.build, arch), self.example)
        self.made.append(len(archs) / (time.process_time() - began))

    def row(self) -> list[str]:
        ratios = [fast / slow for fast, slow in zip(self.read, self.made, strict=True)]
        low, _, high = quantiles(ratios, n=4)
        return [
            self.name,
            f"{self.space.count():.2g}",
            f"{self.tables_s:.1f}",
            str(self.profiled),
            f"{median(self.read):,.0f}",
            f"{median(self.made):.1f}",
            f"{median(ratios):,.0f} ({low:,.0f}-{high:,.0f})",
        ]


def all_subjects() -> list[Subject]:
    found = [Subject(known.name, known.space, known.build, known.example[:1]) for known in subjects()]
    cells = partial(nasbench201.build, num_classes=10, width=16, num_cells=5)
    found.append(Subject("NAS-Bench-201", NASBench201Space(), cells, torch.zeros(1, 3, 32, 32)))
    for name, run in (("image demo", image.run), ("text demo", text.run)):
        found.append(Subject(name, run.space, run.build, run.task.example()))
    return found


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--networks", type=int, default=10_000, help="counted by tables in a round")
    parser.add_argument("--profiled", type=int, default=20, help="of them, one by one")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args(words)
    torch.set_num_threads(1)
    made = all_subjects()
    for subject in track(made, "tables", console=Console(stderr=True)):
        subject.prepare()
    for number in track(range(given.rounds), "rounds", console=Console(stderr=True)):
        for subject in made:
            subject.round(number, given.networks, given.profiled)
    rows = [subject.row() for subject in made]
    table = Table(*HEADER)
    for row in rows:
        table.add_row(*row)
    Console().print(table)
    given.out.write_text(
        "# Counting parameters, multiply-accumulates and layers of networks\n\n"
        f"{machine('cpu', 1)}. Process time; {given.rounds} rounds of {given.networks:,} networks by tables and "
        f"{given.profiled} profiles. Networks per second are medians; ratios are within a round, median (quartiles). "
        "Parameters and multiply-accumulates of all profiled networks equal those of the tables.\n\n"
        + markdown(HEADER, rows)
        + "\nMade by `python -m benchmarks.counting`.\n",
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
