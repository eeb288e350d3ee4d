"""What ten short trainings cost as calls of our actors and as Ray Tune trials, on one local cluster.

    python -m benchmarks.trials [--rounds 3]

The same ten trainings of a perceptron in numpy, half a second each, two at once: by `RayExecutor`, whose two actors
stand ready; by Tune with `reuse_actors`, one CPU a trial, without loggers and callbacks; and by Tune as it comes, with
a new actor for each trial. They take turns in every round. The cluster has CPUs for the actors and the trials, for two
waiting actors that hold all CPUs would keep Tune waiting for ever. What a worker imports is small here; each new actor
that imports torch takes seconds more.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.report import markdown
from nas.execution.cluster import RayExecutor
from nas.execution.cluster.connection import LocalCluster, import_ray
from search_spaces import Architecture, Space, choice

RESULTS = Path(__file__).parent / "results" / "trials.md"
AT_ONCE, NUMBER = 2, 10


class Perceptrons(Space):
    hidden = choice(*range(48, 80))
    rate = choice(0.03, 0.1)


def training(arch: Architecture) -> dict[str, float]:
    """Trains a perceptron of one hidden layer on 512 points of 64 features."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(512, 64))
    targets = np.tanh(inputs @ rng.normal(size=(64, 4)) / 8)
    first, second = rng.normal(size=(64, arch.hidden)) / 8, rng.normal(size=(arch.hidden, 4)) / 8
    for _ in range(400):
        hidden = np.tanh(inputs @ first)
        wrong = (hidden @ second - targets) / len(inputs)
        inner = (wrong @ second.T) * (1 - hidden**2)
        second -= arch.rate * hidden.T @ wrong
        first -= arch.rate * inputs.T @ inner
    return {"error": float(np.mean((np.tanh(inputs @ first) @ second - targets) ** 2))}


def trial(config: dict[str, str]) -> None:
    """The same as a trial of Tune."""
    from ray import tune

    tune.report(training(Architecture.from_json(config["arch"])))


def by_tune(archs: Sequence[Architecture], *, reuse_actors: bool) -> list[float]:
    """The error of each, in the order asked."""
    from ray import tune

    with tempfile.TemporaryDirectory() as folder:
        tuner = tune.Tuner(
            tune.with_resources(trial, {"cpu": 1}),
            param_space={"arch": tune.grid_search([arch.json() for arch in archs])},
            tune_config=tune.TuneConfig(max_concurrent_trials=AT_ONCE, reuse_actors=reuse_actors),
            run_config=tune.RunConfig(verbose=0, storage_path=folder),
        )
        results = tuner.fit()
    assert not results.errors
    found = {result.config["arch"]: result.metrics["error"] for result in results}
    return [found[arch.json()] for arch in archs]


def measure(rounds: int) -> dict[str, list[float]]:
    """Seconds that all trainings took, in every round; what they find is the same."""
    archs = Perceptrons().sample_many(NUMBER, np.random.default_rng(0), distinct=True)
    cluster = LocalCluster(import_ray(), 2 * AT_ONCE)
    try:
        with RayExecutor("auto", AT_ONCE) as executor:

            def by_actors() -> list[float]:
                return [one.metrics["error"] for one in executor.run(training, archs)]

            expected = [training(arch)["error"] for arch in archs]
            ways: dict[str, Callable[[], list[float]]] = {
                "in process": lambda: [training(arch)["error"] for arch in archs],
                "calls of 2 actors": by_actors,
                "Tune, actors reused": lambda: by_tune(archs, reuse_actors=True),
                "Tune, as it comes": lambda: by_tune(archs, reuse_actors=False),
            }
            by_actors()  # which start once, as the workers of a search do
            taken: dict[str, list[float]] = {name: [] for name in ways}
            for _ in range(rounds):
                for name, way in ways.items():
                    began = time.perf_counter()
                    assert np.allclose(way(), expected)
                    taken[name].append(time.perf_counter() - began)
    finally:
        cluster.close()
    return taken


def table(taken: dict[str, list[float]]) -> str:
    actors = taken["calls of 2 actors"]

    def row(name: str, seconds: list[float]) -> list[Any]:
        ratios = [one / base for one, base in zip(seconds, actors, strict=True)]
        more = [(one - base) / NUMBER for one, base in zip(seconds, actors, strict=True)]
        spread = f"{median(seconds):.1f} ({min(seconds):.1f} to {max(seconds):.1f})"
        return [name, spread, f"{median(ratios):.1f}", f"{median(more):+.2f}", f"{NUMBER / median(seconds):.2f}"]

    header = ["way", "s for ten", "times the actors'", "s more a trial", "trainings/s"]
    return markdown(header, [row(name, seconds) for name, seconds in taken.items()])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    load = os.getloadavg()[0]
    taken = measure(rounds)
    import ray

    assert __doc__ is not None
    head = (
        f"{os.cpu_count()} cores, load {load:.1f} before; Python {platform.python_version()}, Ray {ray.__version__}; "
    )
    head += f"median and range of {rounds} rounds."
    text = "\n\n".join(
        ["# Trainings as calls of actors and as Tune trials", __doc__.split("\n\n")[2], head, table(taken)]
    )
    print(text)
    RESULTS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    from benchmarks.trials import main as run  # what workers are sent must be of a module they can import

    run()
