"""The interface of executors, and the one that evaluates in this process, one architecture at a time.

Others evaluate on workers: processes of this machine (`nas.execution.processes`) or actors of a Ray cluster
(`nas.execution.cluster`).
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
"""Returns the metrics of one architecture by name, in the unit that ends the name; an exception is a failure."""


class Executor(ABC):
    """Runs evaluations and returns failures as values, so that one broken network does not end a study.

    Use it as a context manager or call `close`.
    """

    @abstractmethod
    def completed(self, evaluate: Evaluate, archs: Sequence[Architecture]) -> Generator[tuple[int, Evaluation]]:
        """Yield each architecture's place in `archs` and its evaluation, as they finish.

        Closing the generator early ends the running evaluations.
        """

    @final
    def run(self, evaluate: Evaluate, archs: Sequence[Architecture]) -> Iterator[Evaluation]:
        """Yield one evaluation per architecture, in the order of `archs`, as soon as all before it are finished."""
        early: dict[int, Evaluation] = {}
        position = 0
        for place, evaluation in self.completed(evaluate, archs):
            early[place] = evaluation
            while position in early:
                yield early.pop(position)
                position += 1

    def close(self) -> None:  # noqa: B027 - an executor without workers has nothing to close
        """End the workers, if there are any."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class InProcess(Executor):
    """Evaluates in this process, one architecture at a time.

    It cannot limit the time of an evaluation nor survive one that ends the process; a `Pool` can.
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
    """An evaluator that each process builds once from a function.

    This avoids sending large evaluators, such as one with a supernet, to workers: they receive only `make`. It takes no
    arguments and must be picklable if workers are used (a function of a module, or a partial of one).
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
    """Return an evaluator that is ready to call; a `Deferred` one is built.

    Raises:
        NasError: `Deferred.make` fails; every evaluation would fail too, so this ends the study at once.
    """
    if not isinstance(evaluate, Deferred):
        return evaluate
    try:
        return evaluate.build()
    except Exception as error:
        raise NasError(f"the evaluator could not be built: {describe(error)}; no evaluation was run") from error


def evaluate_one(evaluate: Evaluate, arch: Architecture, worker: str) -> Evaluation:
    """Evaluate an architecture; return a failed evaluation after an exception, `sys.exit` or a non-finite metric.

    Only KeyboardInterrupt propagates.
    """
    started = time.perf_counter()
    try:
        return Evaluation(arch, dict(evaluate(arch)), seconds=time.perf_counter() - started, worker=worker)
    except (Exception, SystemExit) as error:
        _logger.debug("evaluation of %s failed", arch.digest, exc_info=True)
        return Evaluation(arch, {}, error=describe(error), seconds=time.perf_counter() - started, worker=worker)


def describe(error: BaseException) -> str:
    """Return `Type: message` on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
