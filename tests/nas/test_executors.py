"""The executor of this process: the contract, and what ends a run."""

import pickle
from collections.abc import Generator, Sequence
from functools import partial

import pytest

from nas.execution.executors import Deferred, Evaluate, Executor, InProcess, evaluate_one
from nas.records import Evaluation
from search_spaces import Architecture
from tests.contracts.executor import ExecutorContract, scaled, some


class TestInProcess(ExecutorContract):
    @pytest.fixture
    def executor(self) -> Executor:
        return InProcess()

    def test_evaluates_one_at_a_time(self, executor: Executor) -> None:
        called: list[Architecture] = []

        def count(arch: Architecture) -> dict[str, float]:
            called.append(arch)
            return {"error": 0.0}

        run = executor.run(count, some(3))
        next(run)
        assert len(called) == 1

    def test_the_user_may_interrupt(self, executor: Executor) -> None:
        def interrupted(arch: Architecture) -> dict[str, float]:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            list(executor.run(interrupted, some(2)))


class Backwards(Executor):
    """The last is the first to be finished."""

    def completed(self, evaluate: Evaluate, archs: Sequence[Architecture]) -> Generator[tuple[int, Evaluation]]:
        for place in reversed(range(len(archs))):
            yield place, evaluate_one(evaluate, archs[place], worker="far")


def test_evaluations_come_in_the_order_asked_whichever_is_finished_first() -> None:
    archs = some(5)
    found = list(Backwards().run(lambda arch: {"error": float(arch.a)}, archs))
    assert [(one.arch, one.metrics) for one in found] == [(arch, {"error": float(arch.a)}) for arch in archs]


def test_a_metric_that_is_no_number_is_a_failure() -> None:
    (evaluation,) = InProcess().run(lambda arch: {"error": "low"}, some(1))  # type: ignore[dict-item]
    assert evaluation.error is not None
    assert "'error' is 'low'" in evaluation.error


def test_a_deferred_evaluator_is_built_once_and_travels_as_its_recipe() -> None:
    built: list[int] = []

    def make() -> object:
        built.append(1)
        return lambda arch: {"error": 1.0}

    deferred = Deferred(make)  # type: ignore[arg-type]
    for _ in range(2):
        assert [e.metrics for e in InProcess().run(deferred, some(2))] == [{"error": 1.0}] * 2
    assert built == [1]

    used = Deferred(partial(scaled, 2.0))
    arch = some(1)[0]
    assert used(arch) == pickle.loads(pickle.dumps(used))(arch)
