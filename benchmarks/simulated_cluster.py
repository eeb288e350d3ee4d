"""Evaluations per second of a search with 1 to 1,000 workers, and the point at which its driver is saturated.

    python -m benchmarks.simulated_cluster

The pool that distributes the work is the real one, timed by its processor time; workers are simulated, on a clock that
this time advances. Other work of the driver per evaluation is added as measured elsewhere: a call of a Ray actor and
its answer 0.4 ms, a durable write 1.24 ms (storage.md), asking evolution 0.5 ms (search_overhead.md). The duration of
an evaluation is drawn from a lognormal distribution with spread 0.3 around its mean. A batch is requested when the
previous one is complete.
"""

from __future__ import annotations

import heapq
import platform
import time
from pathlib import Path

import numpy as np

from nas.execution.executors import Evaluate
from nas.execution.pool import Answer, Done, Pool, Ready, Workers
from search_spaces import Architecture, Space, choice

RESULTS = Path(__file__).parent / "results" / "simulated_cluster.md"
CALL_S, WRITE_S, ASK_S = 0.4e-3, 1.24e-3, 0.5e-3
WORKERS = (1, 3, 10, 30, 100, 300, 1000)
MEANS_S = (0.2, 2.0, 60.0)


class Numbers(Space):
    a = choice(*range(200))
    b = choice(*range(200))


def nothing(arch: Architecture) -> dict[str, float]:
    return {}


class Simulated(Workers):
    """Workers whose answers arrive on a simulated clock, `now`, which the driver's work also advances."""

    kind = "simulated"

    def __init__(self, mean_s: float, rng: np.random.Generator) -> None:
        self.now = 0.0
        self.busy_s = 0.0
        self._mean_s, self._rng = mean_s, rng
        self._seen = time.process_time()
        self._due: list[tuple[float, int, bool]] = []

    def work(self, extra_s: float = 0.0) -> None:
        """Add the driver's actual work since the last call, and its simulated other work."""
        used = time.process_time() - self._seen + extra_s
        self.now += used
        self.busy_s += used
        self._seen = time.process_time()

    def hold(self, evaluate: Evaluate) -> None:
        pass

    def begin(self, worker: int) -> None:
        heapq.heappush(self._due, (self.now, worker, False))

    def evaluate(self, worker: int, arch: Architecture) -> None:
        self.work(CALL_S)
        takes_s = self._mean_s * self._rng.lognormal(-0.045, 0.3)
        heapq.heappush(self._due, (self.now + takes_s, worker, True))

    def answers(self, timeout_s: float | None) -> list[Answer]:
        self.work()
        self.now = max(self.now, self._due[0][0])
        found: list[Answer] = []
        while self._due and self._due[0][0] <= self.now:
            _, worker, done = heapq.heappop(self._due)
            row = {"metrics": {"error": 0.0}, "error": None, "seconds": self._mean_s, "worker": self.name(worker)}
            found.append(Done(worker, row) if done else Ready(worker))
        self._seen = time.process_time()
        return found

    def end(self, worker: int) -> None:
        pass

    def close(self) -> None:
        pass

    def host(self) -> str:
        return ""

    def room(self) -> str:
        return ""


def rate(num_workers: int, mean_s: float, batch: int, evaluations: int) -> tuple[float, float]:
    """Evaluations per second, and the share of time in which the driver is busy."""
    workers = Simulated(mean_s, np.random.default_rng(0))
    pool = Pool(workers, num_workers, timeout_s=None)
    archs = Numbers().sample_many(evaluations, np.random.default_rng(1), distinct=True)
    assert not list(pool.completed(nothing, []))
    workers.now = workers.busy_s = 0.0
    workers._seen = time.process_time()
    for begin in range(0, evaluations, batch):
        workers.work(ASK_S * batch)
        for _ in pool.completed(nothing, archs[begin : begin + batch]):
            workers.work(WRITE_S)
    return evaluations / workers.now, workers.busy_s / workers.now


def main() -> None:
    lines = [
        "| an evaluation | batch | " + " | ".join(f"{n:,}" for n in WORKERS) + " |",
        "|--:|--:|" + "--:|" * len(WORKERS),
    ]
    for mean_s in MEANS_S:
        for name, per_worker in (("10", 0), ("2 a worker", 2), ("10 a worker", 10)):
            cells = []
            for workers in WORKERS:
                batch = per_worker * workers or 10
                found, busy = rate(workers, mean_s, batch, min(10_000, max(200, batch * (3 if per_worker else 30))))
                cells.append(f"{found:.3g} ({100 * busy:.0f} %)")
            lines.append(f"| {mean_s:g} s | {name} | {' | '.join(cells)} |")
    assert __doc__ is not None
    head = f"Python {platform.python_version()}; evaluations a second, and in brackets how busy the driver is."
    text = "\n\n".join(
        ["# Searches on many workers, simulated", __doc__.split("\n\n")[2].strip(), head, "\n".join(lines)]
    )
    print(text)
    RESULTS.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
