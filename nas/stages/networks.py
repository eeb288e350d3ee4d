"""Networks of a run on their own: their scores, and further training."""

from __future__ import annotations

from dataclasses import asdict

from torch import nn

from nas.stages import evaluators
from nas.stages.digests import digest
from nas.stages.workflow import Workflow
from search_spaces import Architecture
from supernets import training
from supernets.scaled import scaled_in
from supernets.tasks import Task


def has_test(task: Task) -> bool:
    """Return whether a task has a test split."""
    return "test" in getattr(task, "splits", {"test": None})


def scores(workflow: Workflow, network: nn.Module) -> dict[str, float]:
    """Return the task's metric of a network on each split there is: `error`, `test_error`."""
    task = workflow.run.task
    found = {task.metric: task.evaluate(network)[task.metric]}
    return found | ({f"test_{task.metric}": task.evaluate(network, "test")[task.metric]} if has_test(task) else {})


def finetune(
    workflow: Workflow, arch: Architecture, config: training.TrainingConfig
) -> tuple[nn.Module, training.TrainingResult]:
    """Return the network as it is exported, trained further; a stopped training resumes."""
    run, network = workflow.run, workflow.taken(arch)
    settings = digest([workflow.weights, run.task.digest, asdict(config), run.reconstruct])
    place = workflow.directory / "finetuned" / f"{arch.digest}-{settings[:8]}"  # none resumes from another's end
    config = scaled_in(config, network, run.space, run.build, run.task.example(2))
    result = training.train_network(network, run.task, config, directory=place, progress=workflow.progress)
    return evaluators.recalibrated(network, run.task), result
