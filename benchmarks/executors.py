"""The cost of evaluating on workers compared with evaluating in process, and the gain of a second worker.

    python -m benchmarks.executors [--rounds 3] [--ray]

Each executor runs the same three kinds of evaluation, in turns, so that other load slows all equally: `waiting` sleeps
0.2 s and shows the overhead of a batch of ten; `computing` multiplies matrices and shows the gain of two workers on two
cores; `nothing` returns immediately and shows the cost of a call. Workers are started before. With --ray, actors of a
local cluster are included.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from nas.execution.executors import Evaluate, Executor, InProcess
from nas.execution.processes import ProcessExecutor
from search_spaces import Architecture, Space, choice

RESULTS = Path(__file__).parent / "results" / "executors.md"
WAIT_S, BATCH = 0.2, 10


class Numbers(Space):
    a = choice(*range(40))
    b = choice(*range(40))


def waiting(arch: Architecture) -> dict[str, float]:
    time.sleep(WAIT_S)
    return {"error": 0.0}


def computing(arch: Architecture) -> dict[str, float]:
    matrix = np.random.default_rng(0).normal(size=(400, 400))
    for _ in range(40):
        matrix = np.tanh(matrix @ matrix / 400)
    return {"error": float(matrix.mean())}


def nothing(arch: Architecture) -> dict[str, float]:
    return {"error": 0.0}


KINDS: dict[str, tuple[Evaluate, int]] = {
    "waiting": (waiting, BATCH),
    "computing": (computing, 12),
    "nothing": (nothing, 200),
}


def executors(ray: bool) -> dict[str, Executor]:
    found: dict[str, Executor] = {
        "in process": InProcess(),
        "1 process": ProcessExecutor(1),
        "2 processes": ProcessExecutor(2),
    }
    if ray:
        from nas.execution.cluster import RayExecutor

        found |= {f"{n} Ray actor{'s' if n > 1 else ''}": RayExecutor("local", n) for n in (2, 1)}
    return found


def seconds(executor: Executor, evaluate: Evaluate, number: int) -> float:
    """Seconds per evaluation over `number` evaluations, with workers already started."""
    archs = Numbers().sample_many(number, np.random.default_rng(0), distinct=True)
    assert len(list(executor.run(evaluate, archs[:1]))) == 1
    begin = time.perf_counter()
    assert all(evaluation.error is None for evaluation in executor.run(evaluate, archs))
    return (time.perf_counter() - begin) / number


def measure(rounds: int, ray: bool) -> dict[str, dict[str, float]]:
    """Median seconds per evaluation, by executor and kind."""
    found: dict[str, dict[str, list[float]]] = {}
    for _ in range(rounds):
        for name, executor in executors(ray).items():
            with ExitStack() as stack:
                stack.enter_context(executor)
                for kind, (evaluate, number) in KINDS.items():
                    found.setdefault(name, {}).setdefault(kind, []).append(seconds(executor, evaluate, number))
    return {name: {kind: statistics.median(all_) for kind, all_ in kinds.items()} for name, kinds in found.items()}


def table(found: dict[str, dict[str, float]]) -> str:
    here = found["in process"]
    lines = [
        "| executor | ms a call | a batch, 0.2 s each, to in process | computing, evaluations/s | to in process |",
        "|---|--:|--:|--:|--:|",
    ]
    for name, kinds in found.items():
        beside = kinds["waiting"] / here["waiting"] - 1
        gain = here["computing"] / kinds["computing"]
        call_ms, rate = 1e3 * kinds["nothing"], 1 / kinds["computing"]
        lines.append(f"| {name} | {call_ms:.2f} | {100 * beside:+.1f} % | {rate:.2f} | {gain:.2f} x |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ray", action="store_true")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    found = measure(arguments.rounds, arguments.ray)
    assert __doc__ is not None
    machine = f"{len(os.sched_getaffinity(0))} cores, load {load:.1f} before; Python {platform.python_version()}"
    head = f"{machine}; medians of {arguments.rounds} rounds."
    parts = ["# What evaluating on workers costs", __doc__.split("\n\n")[2], head, table(found)]
    text = "\n\n".join(parts) + "\n"
    print(text)
    RESULTS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    from benchmarks.executors import main as run  # what workers are sent must be of a module they can import

    run()
