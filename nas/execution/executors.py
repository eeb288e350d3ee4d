"""Where evaluations run: here, one after the other; or, with the same interface, on workers.

Those are processes of this machine (`nas.execution.processes`) or of a Ray cluster (`nas.execution.cluster`).
"""

import logging
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import Self, final

from nas.errors import NasError
from nas.execution.interrupts import stopping
from nas.records import Evaluation
from search_spaces import Architecture

_logger = logging.getLogger(__name__)

Evaluate = Callable[[Architecture], Mapping[str, float]]
"""What a user writes: metrics of one architecture by name, in the unit the name ends in. Raising means it failed."""


class Executor(ABC):
    """Runs evaluations; a failed one is a value, so that one broken network cannot end a study.

    Use it as a context manager or call `close`.
    """

    @abstractmethod
    def completed(self, evaluate: Evaluate, archs: Sequence[Architecture]) -> Generator[tuple[int, Evaluation]]:
        """Yields each architecture's place in `archs` and its evaluation, as they finish; a generator.

        Closed early, it ends the work that was begun and that nobody wants any more.
        """

    @final
    def run(self, evaluate: Evaluate, archs: Sequence[Architecture]) -> Iterator[Evaluation]:
        """Yields one evaluation for each architecture in the order of `archs`, as soon as all before it are there."""
        early: dict[int, Evaluation] = {}
        position = 0
        for place, evaluation in self.completed(evaluate, archs):
            early[place] = evaluation
            while position in early:
                yield early.pop(position)
                position += 1

    def close(self) -> None:  # noqa: B027 - nothing is to be done where there are no workers
        """Ends the workers, of an executor that has some."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class InProcess(Executor):
    """Evaluates in this process, one architecture after the other.

    It cannot limit the time of an evaluation, nor outlive one that ends the process: a `Pool` does both.
    """

    def completed(self, evaluate: Evaluate, archs: Sequence[Architecture]) -> Generator[tuple[int, Evaluation]]:
        ready = prepared(evaluate)
        for place, arch in enumerate(archs):
            if stopping():
                raise KeyboardInterrupt
            sys.audit("nas.evaluating", arch.digest)
            evaluation = evaluate_one(ready, arch, worker="local")
            sys.audit("nas.evaluated", arch.digest)
            yield place, evaluation


class Deferred:
    """An evaluator given by its recipe, built once by each process that evaluates.

    For evaluators too large to send to workers, such as one that holds a supernet: only the recipe travels.
    `make` takes no argument and must be picklable where workers are used (a function of a module, a partial of one).
    """

    def __init__(self, make: Callable[[], Evaluate]) -> None:
        self.make = make
        self._built: Evaluate | None = None

    def build(self) -> Evaluate:
        if self._built is None:
            self._built = self.make()
        return self._built

    def __call__(self, arch: Architecture) -> Mapping[str, float]:
        return self.build()(arch)

    def __reduce__(self) -> tuple[type["Deferred"], tuple[Callable[[], Evaluate]]]:
        return Deferred, (self.make,)


def prepared(evaluate: Evaluate) -> Evaluate:
    """The evaluator ready to call.

    Raises NasError when its recipe fails: that would fail every evaluation, so it ends the study at once.
    """
    if not isinstance(evaluate, Deferred):
        return evaluate
    try:
        return evaluate.build()
    except Exception as error:
        raise NasError(f"the evaluator could not be built: {describe(error)}; no evaluation was run") from error


def evaluate_one(evaluate: Evaluate, arch: Architecture, worker: str) -> Evaluation:
    """Calls `evaluate` on `arch`; an exception, or a metric that is no finite number, makes a failed evaluation.

    So does `sys.exit`; only the user's Ctrl-C goes through.
    """
    started = time.perf_counter()
    try:
        return Evaluation(arch, dict(evaluate(arch)), seconds=time.perf_counter() - started, worker=worker)
    except (Exception, SystemExit) as error:
        _logger.debug("evaluation of %s failed", arch.digest, exc_info=True)
        return Evaluation(arch, {}, error=describe(error), seconds=time.perf_counter() - started, worker=worker)


def describe(error: BaseException) -> str:
    """`Type: message` on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
