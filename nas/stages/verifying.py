"""Verifies the front: measures its networks themselves, and evaluates them on the test split."""

from __future__ import annotations

import sys
from dataclasses import asdict

import numpy as np

from nas.objectives.units import COSTS
from nas.progress import Tick, silent
from nas.results import front as fronts
from nas.stages.measuring import measurable, measure_all, measured
from nas.stages.networks import has_test
from nas.stages.workflow import Workflow
from nas.study import Study
from search_spaces import Architecture

_FEWEST_VERIFIED = 10  # networks to verify at least, before giving up on networks that keep their limits


def verify(workflow: Workflow, study: str, tick: Tick = silent) -> dict[str, dict[str, float]]:
    """Return metrics of the front's networks themselves, by digest: measured latency, the metric on the test split.

    Predictions and inherited validation errors chose these networks, so both are biased towards what they promise.
    Where a network breaks a limit as measured, the next best take its place and are verified too, up to as many
    networks again as the first front had.
    """
    repository = workflow.repository
    verified = repository.verified(study)
    shown = [row.arch for row in fronts.front(repository, study)]
    most = max(2 * len(shown), _FEWEST_VERIFIED)
    done, todo = 0, shown
    while todo and done < most:
        total = min(done + len(todo), most)
        todo = todo[: most - done]
        measure_all(workflow, [arch for arch in todo if arch.digest not in verified])
        for arch in todo:
            tick(done, total)
            if arch.digest not in verified:
                verified[arch.digest] = _verified(workflow, arch)
                repository.add_verified(study, {arch.digest: verified[arch.digest]})
                sys.audit("nas.verified", arch.digest)
            done += 1
        todo = [row.arch for row in fronts.front(repository, study) if row.arch.digest not in verified]
    tick(done, done)
    return verified


def _verified(workflow: Workflow, arch: Architecture) -> dict[str, float]:
    run = workflow.run
    found = {
        f"latency_ms@{name}": measured(workflow, target, [arch])[0].median_ms
        for name, target in workflow.targets.items()
        if measurable(workflow, target, arch)
    }
    profile = asdict(workflow.counts.profile(arch))
    found |= {name: float(profile[name]) for name in COSTS if name not in run.costs}
    if run.trains and has_test(run.task):
        tested = run.task.evaluate(workflow.network(arch), "test")
        found[f"test_{run.task.metric}"] = tested[run.task.metric]
    return found


def dominated_share(workflow: Workflow, study: Study, num_samples: int = 100) -> float:
    """Return the share of uniformly sampled architectures that the front dominates or equals, evaluated the same."""
    if not study.front():
        return 0.0
    run = workflow.run
    archs = run.searched.sample_many(num_samples, np.random.default_rng([run.seed, 3]))
    front = np.array([[e.metrics[name] for name in study.objectives] for e in study.front()])
    return float(np.mean([np.any(np.all(front <= point, axis=1)) for point in study.values(archs)]))
