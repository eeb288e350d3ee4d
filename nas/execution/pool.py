"""Evaluates on workers that hold the evaluator: assigns architectures, retries after crashes, enforces time limits.

`Workers` are processes of this machine (`nas.execution.processes`) or actors of Ray (`nas.execution.cluster`).
"""

from __future__ import annotations

import logging
import os
import sys
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

from nas.errors import NasError
from nas.execution.executors import Evaluate, Executor, evaluate_one, prepared
from nas.execution.interrupts import stopping
from nas.records import Evaluation
from search_spaces import Architecture

_logger = logging.getLogger(__name__)

START_TIMEOUT_S = 300.0
_OUT_OF_MEMORY = ("MemoryError", "OutOfMemoryError")  # Python's and PyTorch's


# -- within a worker's process


class Worker:
    """Runs in a worker process: builds the evaluator once, then evaluates one architecture at a time."""

    def __init__(self, name: str) -> None:
        self._name = name

    def hold(self, evaluate: Evaluate) -> str:
        """Build the evaluator and keep it; return the error message, empty if it succeeded."""
        try:
            self._evaluate = prepared(evaluate)
        except NasError as error:
            return str(error)
        return ""

    def evaluate(self, text: str) -> dict[str, Any]:
        """Evaluate the architecture of a JSON text; return the fields of its `Evaluation` except the architecture."""
        done = evaluate_one(self._evaluate, Architecture.from_json(text), self._name)
        return {"metrics": done.metrics, "error": done.error, "seconds": done.seconds, "worker": done.worker}


def environment() -> dict[str, str]:
    """Return the environment variables of a worker process: one thread, and the driver's module path.

    On two cores, two processes with two threads each are three times slower than with one thread each.
    """
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    folders = os.pathsep.join(os.path.abspath(folder) for folder in sys.path)
    return {**threads, "OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": folders}


# -- within the driver's process


@dataclass(frozen=True)
class Ready:
    """A worker has built the evaluator, or failed to: `failure` is the reason."""

    worker: int
    failure: str = ""


@dataclass(frozen=True)
class Done:
    """A worker has finished its evaluation."""

    worker: int
    row: dict[str, Any]


@dataclass(frozen=True)
class Died:
    """The process of a worker has ended."""

    worker: int
    reason: str


Answer = Ready | Done | Died


class Workers(ABC):
    """Worker processes by number; each does one task at a time."""

    kind: str
    """Prefix of the workers' names, as in "ray-0"."""

    @final
    def name(self, worker: int) -> str:
        return f"{self.kind}-{worker}"

    @abstractmethod
    def hold(self, evaluate: Evaluate) -> None:
        """Set the evaluator that `begin` sends to workers; raise NasError if it cannot be sent."""

    @abstractmethod
    def begin(self, worker: int) -> None:
        """Start the worker unless it runs, and send it the evaluator; it answers `Ready`."""

    @abstractmethod
    def evaluate(self, worker: int, arch: Architecture) -> None:
        """Send a ready worker an architecture; it answers `Done`."""

    @abstractmethod
    def answers(self, timeout_s: float | None) -> list[Answer]:
        """Wait for the next answers and return them; empty after `timeout_s` seconds; None waits without limit."""

    @abstractmethod
    def end(self, worker: int) -> None:
        """Kill the worker; do nothing if it has ended."""

    @abstractmethod
    def close(self) -> None:
        """Release all resources other than workers."""

    @abstractmethod
    def host(self) -> str:
        """Return an address of this machine that workers can reach."""

    @abstractmethod
    def room(self) -> str:
        """Return the resources that limit the number of workers, for an error message."""


# -- the pool


@dataclass(frozen=True)
class _Task:
    """An architecture and its place in `archs`; `again` after its first worker died or ran out of memory."""

    place: int
    arch: Architecture
    again: bool = False


class Pool(Executor):
    """Evaluates on workers that each hold the evaluator, one architecture at a time.

    Each worker receives the evaluator once; wrap a large one in `nas.execution.executors.Deferred`. The pool replaces a
    worker that dies. It retries an evaluation whose worker died, or that ran out of memory beside others, when nothing
    else runs; the second time, the evaluation fails. An evaluation that exceeds `timeout_s` fails at once: the pool
    kills and replaces its worker.

    Use it as a context manager or call `close`, which ends the workers.

    Args:
        num_workers: number of workers.
        timeout_s: time limit of an evaluation in seconds; None for no limit.
        start_timeout_s: time in seconds for workers to start and build the evaluator.
    """

    def __init__(
        self, workers: Workers, num_workers: int, timeout_s: float | None, start_timeout_s: float = START_TIMEOUT_S
    ) -> None:
        if num_workers < 1:
            raise NasError(f"num_workers is {num_workers}; evaluations need at least 1 worker")
        if timeout_s is not None and not timeout_s > 0:
            raise NasError(f"timeout_s is {timeout_s}; an evaluation may take more than 0 s, or None for no limit")
        self.num_workers = num_workers
        self.timeout_s = timeout_s
        self.start_timeout_s = start_timeout_s
        self._workers = workers
        self._evaluate: Evaluate | None = None
        self._starting: dict[int, float] = {}  # deadline of each to have built the evaluator
        self._idle: set[int] = set()
        self._busy: dict[int, tuple[_Task, float | None]] = {}  # task and deadline of each

    def completed(self, evaluate: Evaluate, archs: Sequence[Architecture]) -> Generator[tuple[int, Evaluation]]:
        """Yield places in `archs` and evaluations, as they finish.

        Raises:
            NasError: workers cannot start or cannot build the evaluator.
        """
        self._hold(evaluate)
        waiting = deque(_Task(place, arch) for place, arch in enumerate(archs))
        again: deque[_Task] = deque()
        left = len(waiting)
        try:
            while left:
                if not stopping():
                    self._assign(waiting, again)
                elif not self._busy:
                    raise KeyboardInterrupt
                for place, evaluation in self._finished(again):
                    left -= 1
                    sys.audit("nas.evaluated", evaluation.arch.digest)
                    yield place, evaluation
        finally:
            for worker in list(self._busy):  # the caller closed the generator early
                self._end(worker)

    def close(self) -> None:
        """End the workers; the next call starts new ones."""
        for worker in [*self._starting, *self._idle, *self._busy]:
            self._end(worker)
        self._evaluate = None
        self._workers.close()

    # -- the workers

    def _hold(self, evaluate: Evaluate) -> None:
        """Make all workers hold `evaluate`.

        Wait for all of them the first time, so that errors show at once; workers that replace others join when ready.
        """
        if evaluate is not self._evaluate:
            self._evaluate = None
            for worker in list(self._starting):
                self._end(worker)
            self._workers.hold(evaluate)
            for worker in range(self.num_workers):
                self._begin(worker)
            self._wait_for_all()
            self._evaluate = evaluate
        for worker in set(range(self.num_workers)) - self._idle - self._starting.keys():
            self._begin(worker)

    def _begin(self, worker: int) -> None:
        self._idle.discard(worker)
        self._starting[worker] = time.monotonic() + self.start_timeout_s
        self._workers.begin(worker)

    def _end(self, worker: int) -> None:
        self._idle.discard(worker)
        self._starting.pop(worker, None)
        self._busy.pop(worker, None)
        self._workers.end(worker)

    def _wait_for_all(self) -> None:
        until = time.monotonic() + self.start_timeout_s
        failure = ""
        while self._starting and not failure:
            answers = self._workers.answers(max(0.0, until - time.monotonic()))
            if not answers:
                failure = self._not_ready()
            for answer in answers:
                failure = self._started(answer) or failure
        if failure:
            for worker in list(self._starting):
                self._end(worker)
            raise NasError(failure)

    def _started(self, answer: Answer) -> str:
        """Process the first answer of a worker; return the error message, empty if it is ready."""
        if isinstance(answer, Ready):
            del self._starting[answer.worker]
            self._idle.add(answer.worker)
            return answer.failure
        self._end(answer.worker)
        reason = answer.reason if isinstance(answer, Died) else "it answers what it was not asked"
        return (
            f"a worker could not take the evaluator: {reason};"
            " the modules it needs must be there to import, and it must fit into memory"
        )

    def _not_ready(self) -> str:
        return (
            f"{self.num_workers} workers were not ready within {self.start_timeout_s:g} s{self._workers.room()};"
            " ask for fewer workers or wait longer"
        )

    # -- the work

    def _assign(self, waiting: deque[_Task], again: deque[_Task]) -> None:
        for worker in sorted(self._idle):
            if waiting:
                task = waiting.popleft()
            elif again and not self._busy:
                task = again.popleft()
            else:
                return
            self._idle.remove(worker)
            self._busy[worker] = task, time.monotonic() + self.timeout_s if self.timeout_s else None
            sys.audit("nas.evaluating", task.arch.digest)
            self._workers.evaluate(worker, task.arch)

    def _finished(self, again: deque[_Task]) -> Iterator[tuple[int, Evaluation]]:
        """Wait for answers and expired time limits; return finished evaluations and append retries to `again`.

        This processes all answers before it returns, so that idle workers get new tasks first.
        """
        found = [self._taken(answer, again) for answer in self._workers.answers(self._patience())]
        found += [self._expired(worker) for worker in self._overdue()]
        if not (self._starting or self._idle or self._busy):
            raise NasError("all workers died while they started: see what they wrote, free memory, and start again")
        return (one for one in found if one is not None)

    def _patience(self) -> float | None:
        """Return the seconds until the next deadline; None if there is none."""
        limits = [*self._starting.values(), *(until for _, until in self._busy.values() if until is not None)]
        return max(0.0, min(limits) - time.monotonic()) if limits else None

    def _overdue(self) -> list[int]:
        now = time.monotonic()
        late = [worker for worker, (_, until) in self._busy.items() if until is not None and until <= now]
        return late + [worker for worker, until in self._starting.items() if until <= now]

    def _taken(self, answer: Answer, again: deque[_Task]) -> tuple[int, Evaluation] | None:
        worker = answer.worker
        if worker in self._starting:
            self._joined(answer)
            return None
        if worker not in self._busy:  # it died while idle
            self._replace(worker)
            return None
        task, _ = self._busy.pop(worker)
        if isinstance(answer, Done):
            self._idle.add(worker)
            evaluation = Evaluation(task.arch, **answer.row)
            crowded = self.num_workers > 1 and not task.again and _out_of_memory(evaluation)
        else:
            _logger.info("worker %s died and is replaced", self._workers.name(worker))
            self._replace(worker)
            reason = answer.reason if isinstance(answer, Died) else "unknown"
            message = f"WorkerDied: its process died twice, the second time with nothing beside it ({reason})"
            evaluation = Evaluation(task.arch, {}, error=message, worker=self._workers.name(worker))
            crowded = not task.again
        if crowded:
            again.append(_Task(task.place, task.arch, again=True))
            return None
        return task.place, evaluation

    def _joined(self, answer: Answer) -> None:
        """Process the first answer of a replaced worker; one that dies while starting is not replaced in this run."""
        if failure := self._started(answer):
            if isinstance(answer, Ready):
                raise NasError(failure)
            _logger.warning("worker %s died while it started", self._workers.name(answer.worker))

    def _expired(self, worker: int) -> tuple[int, Evaluation] | None:
        if worker in self._starting:
            self._end(worker)
            if not (self._starting or self._idle or self._busy):
                raise NasError(self._not_ready())
            _logger.warning("worker %s did not start within %g s", self._workers.name(worker), self.start_timeout_s)
            return None
        task, _ = self._busy[worker]
        self._replace(worker)
        message = f"TimedOut: no result within {self.timeout_s:g} s; its process was killed"
        return task.place, Evaluation(
            task.arch, {}, error=message, seconds=self.timeout_s or 0, worker=self._workers.name(worker)
        )

    def _replace(self, worker: int) -> None:
        self._end(worker)
        self._begin(worker)


def _out_of_memory(evaluation: Evaluation) -> bool:
    return evaluation.error is not None and evaluation.error.startswith(_OUT_OF_MEMORY)
