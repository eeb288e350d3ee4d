"""What every executor promises. Subclass, and give `executor`."""

from functools import partial

import numpy as np
import pytest

from nas.errors import NasError
from nas.execution.executors import Deferred, Evaluate, Executor
from search_spaces import Architecture, Space, choice


class Pair(Space):
    a = choice(*range(8))
    b = choice(*range(8))


def metrics(arch: Architecture) -> dict[str, float]:
    if arch.a == 3:
        raise ValueError("three\nis not allowed")
    if arch.a == 4:
        return {"error": float("nan")}
    return {"error": arch.a + arch.b / 10, "cost": float(arch.b)}


def scaled(factor: float) -> Evaluate:
    """A recipe: what it returns cannot be pickled, and need not be."""
    return lambda arch: {"error": factor * arch.a}


def broken() -> Evaluate:
    raise FileNotFoundError("no such\ncheckpoint")


def some(n: int) -> list[Architecture]:
    return Pair().sample_many(n, np.random.default_rng(0), distinct=True)


class ExecutorContract:
    @pytest.fixture
    def executor(self) -> Executor:
        raise AssertionError("a subclass gives this fixture")

    def test_yields_one_evaluation_each_in_order_with_failures_as_values(self, executor: Executor) -> None:
        archs = some(30)
        assert {arch.a for arch in archs} >= {3, 4}
        evaluations = list(executor.run(metrics, archs))
        assert [e.arch for e in evaluations] == archs
        for evaluation in evaluations:
            assert evaluation.seconds >= 0
            assert evaluation.worker
            if evaluation.arch.a == 3:
                assert evaluation.error == "ValueError: three is not allowed"
            elif evaluation.arch.a == 4:
                assert evaluation.error is not None
                assert "nan" in evaluation.error
            else:
                assert evaluation.error is None
            assert evaluation.metrics == ({} if evaluation.error else metrics(evaluation.arch))

    def test_tells_each_place_once_as_evaluations_finish(self, executor: Executor) -> None:
        archs = some(30)
        found = dict(executor.completed(metrics, archs))
        assert sorted(found) == list(range(30))
        assert [found[place].arch for place in range(30)] == archs

    def test_nothing_asked_is_nothing_done(self, executor: Executor) -> None:
        assert list(executor.run(metrics, [])) == []

    def test_another_evaluator_takes_over(self, executor: Executor) -> None:
        archs = some(5)
        for factor in (1.0, 2.0):
            found = list(executor.run(Deferred(partial(scaled, factor)), archs))
            assert [e.metrics["error"] for e in found] == [factor * arch.a for arch in archs]

    def test_may_be_left_early_and_used_again(self, executor: Executor) -> None:
        archs = some(12)
        for evaluation in executor.run(metrics, archs):
            assert evaluation.arch == archs[0]
            break
        assert [e.arch for e in executor.run(metrics, archs)] == archs

    def test_an_evaluator_that_cannot_be_built_is_an_error(self, executor: Executor) -> None:
        with pytest.raises(NasError, match="could not be built: FileNotFoundError: no such checkpoint"):
            list(executor.run(Deferred(broken), some(3)))
        assert len(list(executor.run(metrics, some(3)))) == 3
