"""Runs the gradient search of a run, and stores its distributions under a key of everything they depend on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from nas.errors import NasError
from nas.objectives.units import is_cost
from nas.records import Distribution
from nas.run import Run
from nas.searchers.gradient.front import FrontConfig, front
from nas.searchers.gradient.loop import search
from nas.stages import evaluators
from nas.stages.digests import digest
from nas.stages.evaluators import CostModel
from nas.stages.latency import Latency
from nas.stages.parent import settle_limits
from nas.stages.workflow import Workflow
from search_spaces import Architecture
from supernets import Supernet
from supernets.relaxation import Cost, fitted
from supernets.tasks import SamplingTask

NUM_SAMPLED = 2000
"""Number of architectures to which an uncounted cost is fitted."""
LEAST_R2 = 0.9
"""R² of a fitted cost below which a warning is added."""
_COUNTED = ("params", "macs")


def distributions(workflow: Workflow, predictors: Mapping[str, Latency], name: str | None = None) -> list[Distribution]:
    """Return what the run's gradient search has learned for its study, learned now if need be; [] without one.

    Raises:
        NasError: the study exists and began with something else.
    """
    settle_limits(workflow)
    run, repository = workflow.run, workflow.repository
    if not run.gradient:
        return []
    study, known_as = name or run.name, key(run, workflow.weights)
    found = repository.known_distributions(known_as)
    if not found or _digests(found) != _digests(repository.distributions(study)):
        _refuse_begun(workflow, study)
        repository.put_distributions(study, known_as, found or _learned(workflow, predictors, known_as))
    return repository.distributions(study)


def _learned(workflow: Workflow, predictors: Mapping[str, Latency], known_as: str) -> list[Distribution]:
    run, place = workflow.run, workflow.directory / "gradient" / known_as
    predict = CostModel(workflow.supernet, run.task, predictors)
    return learn(run, workflow.supernet, predict, directory=place, progress=workflow.progress)


def _refuse_begun(workflow: Workflow, study: str) -> None:
    """Raise NasError if the study exists: its beginning is never replaced."""
    if study in {record.name for record in workflow.repository.studies()}:
        raise NasError(
            f"study {study!r} is there and began otherwise than with what {workflow.run.gradient!r} learns now: "
            "give this one a name of its own (--name NAME), or the settings that one was begun with"
        )


def _digests(found: Sequence[Distribution]) -> list[str]:
    return [one.digest for one in found]


def learn(
    run: Run, supernet: Supernet, predict: CostModel, *, directory: Path | None = None, progress: bool = True
) -> list[Distribution]:
    """Run the gradient search of a run and return its distributions; the supernet stays unchanged.

    Args:
        predict: gives the costs that are not counted exactly.
        directory: for checkpoints.

    Raises:
        SupernetError: the relaxed model does not compute what its networks compute.
        NasError: no architecture keeps a limit, or the search found nothing.
    """
    supernet.check_relaxation(run.task.example(2))
    kept = [limit for limit in run.all_limits if is_cost(limit.metric)]
    costs = expected(run, supernet, predict, [*run.cost_objectives, *(limit.metric for limit in kept)])
    about: dict[str, Any] = {
        "costs": costs,
        "objectives": (run.task.metric, *run.cost_objectives),
        "limits": kept,
        "measured": partial(_measured, predict, tuple(costs)),
        "directory": directory,
        "progress": progress,
    }
    config, task = run.gradient_settings, cast(SamplingTask, run.task)  # `Run` checks this
    if isinstance(config, FrontConfig):
        trained = copied(run, supernet) if config.search.train_weights else supernet
        found = front(trained, task, config, **about)
    else:
        found = search(copied(run, supernet) if config.train_weights else supernet, task, config, **about)
    rough = tuple(_warning(name, cost) for name, cost in costs.items() if cost.r2 < LEAST_R2)
    return [replace(one, warnings=(*one.warnings, *rough)) for one in found]


def expected(run: Run, supernet: Supernet, predict: CostModel, metrics: Iterable[str]) -> dict[str, Cost]:
    """Return costs with a differentiable expectation: counted exactly if possible, else fitted to predictions."""
    found: dict[str, Cost] = {}
    for name in dict.fromkeys(metrics):
        if name in _COUNTED:
            found[name] = supernet.expected(name, run.task.example())
        else:
            rng = np.random.default_rng([run.seed, 4])
            archs = run.space.sample_many(NUM_SAMPLED, rng, uniform="choices")
            found[name] = fitted(run.space, archs, predict.metric(name, archs).tolist())
    return found


def copied(run: Run, supernet: Supernet) -> Supernet:
    """Return a copy of the run's supernet, to train further."""
    copy = evaluators.untrained(run, sort=False).to(supernet.device)
    copy.load_state_dict(supernet.state_dict())
    return copy


def key(run: Run, weights: str) -> str:
    """Return the digest of everything a gradient search depends on, without the frequency of checkpoints."""
    settings = [type(run.gradient_settings).__name__, _plain(asdict(run.gradient_settings))]
    about: list[Any] = [
        run.space.digest,
        weights,
        run.task.digest,
        run.all_objectives,
        [*map(str, run.all_limits)],
        settings,
    ]
    return digest(about)


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as JSON values, which have no infinity, without the frequency of checkpoints."""
    return {
        name: _plain(value) if isinstance(value, dict) else "inf" if value == math.inf else value
        for name, value in settings.items()
        if name != "checkpoint_every"
    }


def _measured(predict: CostModel, names: tuple[str, ...], arch: Architecture) -> dict[str, float]:
    """Return an architecture's costs as the study will record them."""
    return {name: float(predict.metric(name, [arch])[0]) for name in names}


def _warning(name: str, cost: Cost) -> str:
    return (
        f"the expected {name} explains {cost.r2:.0%} of how networks differ in it, so the search sees it roughly: "
        "measure more networks, or look at what the front says of it"
    )
