"""Evaluations that raise, and losses that are no numbers: what the run does then, and what its record says."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

from nas.results import front
from nas.stages.search import find
from nas.stages.workflow import Workflow
from nas.storage import Repository
from supernets.tasks import Classification
from tests.nas.tiny_run import run


class Flaw(Classification):
    """The tiny run's data; every third evaluation on the validation split raises, and some losses are NaN."""

    def __init__(self) -> None:
        splits = {name: (part.inputs, part.targets) for name, part in run.task.splits.items()}
        super().__init__(**splits, batch_size=16, name="flawed")
        self.num_evaluated = 0
        self.num_losses = 0

    def evaluate(self, module: nn.Module, split: str = "valid") -> dict[str, float]:
        if split == "valid":
            self.num_evaluated += 1
            if self.num_evaluated % 3 == 0:
                raise ArithmeticError("the\nthird one")
        return super().evaluate(module, split)

    def loss(self, outputs: Tensor, batch: Any) -> Tensor:
        self.num_losses += 1
        return super().loss(outputs, batch) * (float("nan") if self.num_losses in (20, 41) else 1.0)


def test_a_run_goes_through_evaluations_that_raise_and_losses_that_are_nan(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    flawed = replace(run, task=Flaw(), trust=0, evaluations=18)
    with (
        caplog.at_level(logging.WARNING),
        Workflow(flawed, Repository(f"sqlite:///{tmp_path / 'nas.db'}"), tmp_path, progress=False) as workflow,
    ):
        study = find(workflow)
        failed = [e for e in study.evaluations if e.error]
        assert {e.error for e in failed} == {"ArithmeticError: the third one"}
        assert 4 <= len(failed) <= 8 and len(study.evaluations) == 18
        assert workflow.repository.study("tiny").status == "finished"
        curve = workflow.repository.curve(workflow.weights)
        metrics = [point for point in curve if point.metric == "error"]
        assert [point.step for point in metrics] == [20, 20, 40, 40], "of three networks two at each step"
        assert {point.step for point in curve if point.metric == "loss"} == {20, 40}
        assert workflow.result.skipped > 0
        shown = {row.arch.digest for row in front.front(workflow.repository, "tiny")}
        assert shown and not shown & {e.arch.digest for e in failed}
    told = [record.message for record in caplog.records]
    assert any("whose evaluation failed: ArithmeticError: the third one" in line for line in told)
    assert any("its loss is not finite" in line for line in told)
