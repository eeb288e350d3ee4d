"""Compresses a trained model: extracts, fine-tunes and scores the networks that a search under limits has found."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from torch import nn

from nas.errors import NasError
from nas.results.front import Row
from nas.run import Run
from nas.stages import evaluators
from nas.stages.networks import finetune, scores
from nas.stages.parent import settle_limits
from nas.stages.workflow import Workflow
from supernets.compression.fitting import FitError
from supernets.compression.learnt_gates import COSTS, learn_gates
from supernets.compression.masks import counted, left_by
from supernets.compression.scores import LearntGates, score
from supernets.training import TrainingConfig

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Compressed:
    """A network with weights from its parent, and the scores of the parent, and before and after fine-tuning."""

    network: nn.Module
    parent: dict[str, float]
    before: dict[str, float]
    after: dict[str, float]


def require_parent(run: Run) -> None:
    """Check that a run starts with trained weights.

    Raises:
        NasError: it does not.
    """
    if run.init is None:
        raise NasError(
            f"{run.name} starts with no trained weights, which compression needs: write init= in the run file"
        )


def study_name(run: str, limits: Sequence[str]) -> str:
    """Return the name of a run's study under further limits: `mine-params-0.5x`."""
    return "-".join([run, *(re.sub(r"[^A-Za-z0-9.]+", "-", limit).strip("-") for limit in limits)])


def tuning(run: Run, steps: int | None, lr: float | None) -> TrainingConfig:
    """Return how to fine-tune networks of a run, by default for 1/5 of the supernet's steps at 1/10 of its rate.

    Raises:
        NasError: the supernet was not trained and `steps` is None.
    """
    base = run.training
    if steps is None and base.steps == 0:
        raise NasError("the supernet keeps the weights it began with, so its steps give no measure: say --steps N")
    given = max(1, base.steps // 5) if steps is None else steps
    return replace(base, steps=given, lr=base.lr / 10 if lr is None else lr)


def begin_with_masks(workflow: Workflow) -> None:
    """Make the search of a run sorted by learned gates begin with the network that the gates select under its limits.

    The gates only consider limits on parameters and multiply-accumulates; the study keeps all limits.
    """
    run = workflow.run
    chosen = score(run.sort) if run.sort else None
    if not isinstance(chosen, LearntGates):
        return
    supernet = evaluators.untrained(run, sort=False)
    workflow.gates = gates = learn_gates(supernet, run.task, chosen.config())
    settle_limits(workflow)
    most = {limit.metric: limit.value for limit in workflow.run.all_limits if limit.is_upper and limit.metric in COSTS}
    if not most:
        return
    try:
        arch = left_by(gates, supernet, counted(supernet, run.task), most)
    except FitError as error:
        logger.warning("the search begins without a network of the masks: %s", error)
        return
    if arch in run.searched:
        workflow.run = replace(workflow.run, first=(*workflow.run.first, arch))


def compressed(
    workflow: Workflow, rows: Sequence[Row], steps: int | None, lr: float | None
) -> Iterator[tuple[Row, Compressed]]:
    """Yield each row with its network as exported, fine-tuned unless `steps` is 0; a stopped training resumes.

    Raises:
        NasError: the run starts with no trained weights; or as in `tuning`.
    """
    run = workflow.run
    require_parent(run)
    config = tuning(run, steps, lr)
    largest = evaluators.untrained(run, sort=False).extract(run.space.largest())
    parent = scores(workflow, evaluators.recalibrated(largest, run.task))
    for row in rows:
        network = workflow.taken(row.arch)
        before = scores(workflow, network)
        if config.steps:
            network, _ = finetune(workflow, row.arch, config)
        yield row, Compressed(network, parent, before, scores(workflow, network) if config.steps else before)
