"""The overhead of a search besides its evaluations: asking, telling and storing, and a fresh process reading the front.

A study with a given number of evaluations continues for some more, which cost nothing to evaluate; ours store in
SQLite, optuna's in its RDB storage, also SQLite. In every round each contender does one portion on a copy of its
database, in rotating order. Then a fresh process opens the largest database and reads the front.

    python -m benchmarks.search_overhead [--rounds 5] [--sizes 100 1000 10000]
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE")  # before numpy is imported

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles

import numpy as np
import optuna
from rich.console import Console
from rich.progress import track

from benchmarks.report import machine, markdown
from nas.records import Evaluation, SpaceRecord, StudyRecord
from nas.searchers import SEARCHERS, spelled
from nas.storage import Repository
from nas.study import Study
from search_spaces import Architecture
from search_spaces.mobilenet import MobileNetSpace

RESULTS = Path("benchmarks/results/search_overhead.md")
SPACE = MobileNetSpace()
OBJECTIVES = ("error", "cost")
PLAIN = "evolution(screening=0, around=0)"
PORTION = 20
"""Evaluations of one measurement."""
SLOW_PORTION, SLOW_SIZE = 5, 1000
"""The same of optuna's, and the most evaluations that its databases are filled with: 1,000 take minutes."""

FRONT = {
    "nas": "from nas import front; from nas.storage import Repository; front.front(Repository({url!r}), 'study')",
    "optuna": "import optuna; optuna.load_study(study_name='study', storage={url!r}).best_trials",
}


def evaluate(arch: Architecture) -> dict[str, float]:
    """Return two cheap, conflicting metrics."""
    codes = SPACE.codes([arch])[0]
    cost = float(np.maximum(codes, 0).sum())
    return {"error": 1 / (1 + cost) + int(arch.digest, 16) % 97 / 1000, "cost": cost}


@dataclass
class Contender:
    """One way to search, with a database for each size."""

    name: str
    peer: str
    fill: Callable[[Path, int], None]
    """A database with so many evaluations."""
    go_on: Callable[[Path, int], float]
    """Seconds an evaluation, of some more."""
    took: dict[int, list[float]] = field(default_factory=dict)

    def sizes(self, wanted: Sequence[int]) -> list[int]:
        return [size for size in wanted if self.peer == "nas" or size <= SLOW_SIZE]


def ours(searcher: str) -> Contender:
    made, own = spelled.read(searcher, SEARCHERS)

    def study(repository: Repository) -> Study:
        return Study(
            "study", SPACE, evaluate, OBJECTIVES, repository, searcher=made, settings=own, data="toy", batch=10
        )

    def fill(path: Path, size: int) -> None:
        archs = SPACE.sample_many(size, np.random.default_rng(0), uniform="choices", distinct=True)
        with Repository(url(path)) as repository:
            repository.add_space(SpaceRecord(SPACE.digest, SPACE.name, SPACE.declaration()))
            settings, named = {**own, "batch": 10, "data": "toy"}, searcher.partition("(")[0]
            repository.create_study(
                StudyRecord("study", SPACE.digest, None, OBJECTIVES, (), named, 0, settings=settings)
            )
            found = [Evaluation(arch, evaluate(arch)) for arch in archs]
            repository.append_evaluations("study", found, "", "toy")

    def go_on(path: Path, size: int) -> float:
        with Repository(url(path)) as repository:
            resumed = study(repository)
            resumed._tell(size)  # told what is known: once a resumed search
            began = time.perf_counter()
            resumed.run(size + PORTION)
            return (time.perf_counter() - began) / PORTION

    return Contender(f"{searcher}, ours", "nas", fill, go_on)


def optunas(name: str, sampler: Callable[[], optuna.samplers.BaseSampler]) -> Contender:
    options = {slot.path: len(slot.options) for slot in SPACE.slots}
    distributions = {path: optuna.distributions.IntDistribution(0, n - 1) for path, n in options.items()}

    def values(params: dict[str, int]) -> list[float]:
        cost = float(sum(params.values()))
        return [1 / (1 + cost) + sum(params.values()) % 97 / 1000, cost]

    def opened(path: Path) -> optuna.Study:
        return optuna.create_study(
            storage=url(path),
            study_name="study",
            sampler=sampler(),
            directions=["minimize"] * 2,
            load_if_exists=True,
        )

    def fill(path: Path, size: int) -> None:
        rng = np.random.default_rng(0)
        params = [{p: int(rng.integers(n)) for p, n in options.items()} for _ in range(size)]
        opened(path).add_trials(
            [optuna.trial.create_trial(params=one, distributions=distributions, values=values(one)) for one in params]
        )

    def go_on(path: Path, size: int) -> float:
        study = opened(path)
        study.get_trials(deepcopy=False)
        began = time.perf_counter()
        for _ in range(SLOW_PORTION):
            trial = study.ask()
            study.tell(trial, values({path: trial.suggest_int(path, 0, n - 1) for path, n in options.items()}))
        return (time.perf_counter() - began) / SLOW_PORTION

    return Contender(f"optuna's {name}", "optuna", fill, go_on)


def url(path: Path) -> str:
    return f"sqlite:///{path}"


def contenders() -> list[Contender]:
    return [
        *(ours(name) for name in ("random", PLAIN, "evolution", "surrogate")),
        optunas("NSGA-II", lambda: optuna.samplers.NSGAIISampler(seed=0)),
        optunas("TPE", lambda: optuna.samplers.TPESampler(seed=0, multivariate=True)),
    ]


def measure(made: Sequence[Contender], sizes: Sequence[int], rounds: int, folder: Path) -> None:
    """Fill in `took`."""
    filled = {(one.name, size): folder / f"{number}-{size}.db" for number, one in enumerate(made) for size in sizes}
    for one in track(made, "filling databases", console=Console(stderr=True)):
        for size in one.sizes(sizes):
            one.fill(filled[one.name, size], size)
    for number in track(range(rounds), "rounds", console=Console(stderr=True)):
        turned = [*made[number % len(made) :], *made[: number % len(made)]]
        for size in sizes:
            for one in (one for one in turned if size in one.sizes(sizes)):
                copy = shutil.copy(filled[one.name, size], folder / "copy.db")
                one.took.setdefault(size, []).append(one.go_on(Path(copy), size))
                Path(copy).unlink()


def fronts(made: Sequence[Contender], sizes: Sequence[int], rounds: int, folder: Path) -> dict[str, list[float]]:
    """Seconds in which a fresh process reads the front, without its imports."""
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        for peer, code in FRONT.items():
            number, one = next((i, one) for i, one in enumerate(made) if one.peer == peer)
            size = max(one.sizes(sizes))
            imports, _, rest = code.rpartition("; ")
            timed = f"{imports}\nimport time\nbegan = time.perf_counter()\n{rest}\nprint(time.perf_counter() - began)"
            command = [sys.executable, "-W", "ignore", "-c", timed.format(url=url(folder / f"{number}-{size}.db"))]
            printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found.setdefault(f"{peer}, {size:,} evaluations", []).append(float(printed.split()[-1]))
    return found


def cell(seconds: Sequence[float]) -> str:
    low, _, high = quantiles([1e3 * value for value in seconds], n=4)
    return f"{1e3 * median(seconds):.3g} ({low:.3g}-{high:.3g})"


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.search_overhead",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args(words)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    made = contenders()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        measure(made, given.sizes, given.rounds, folder)
        read = fronts(made, given.sizes, given.rounds, folder)
    rows = [[one.name, *(cell(one.took[size]) if size in one.took else "" for size in given.sizes)] for one in made]
    read_rows = [[peer, cell(seconds)] for peer, seconds in read.items()]
    given.out.write_text(
        "# The overhead of a search besides its evaluations\n\n"
        f"{machine('cpu', 1)}, optuna {optuna.__version__}; written by `python -m benchmarks.search_overhead`. "
        f"MobileNet-like space, two objectives, SQLite on this machine's disk. Milliseconds per evaluation for asking, "
        f"telling and storing, after so many evaluations: median (quartiles) of {given.rounds} rounds.\n\n"
        + markdown(["search", *(f"after {size:,}" for size in given.sizes)], rows)
        + "\nMilliseconds for a fresh process to read a front, without imports:\n\n"
        + markdown(["database of", "front"], read_rows),
        encoding="utf-8",
    )
    Console().print(given.out.read_text(encoding="utf-8"), markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
