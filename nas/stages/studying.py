"""Opens the study of a run: its space, initial networks, evaluator and conditions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from nas.errors import NasError
from nas.execution.executors import Deferred, Evaluate
from nas.objectives import aims
from nas.results import front as fronts
from nas.results.corrected import of_study
from nas.results.shrinking import Shrunk, shrink
from nas.searchers import BEGINS_WITH, LEARNS_FROM, SEARCHERS
from nas.searchers.spelled import read
from nas.stages import evaluators
from nas.stages.digests import digest
from nas.stages.gradient import distributions
from nas.stages.latency import Latency
from nas.stages.parent import settle_limits
from nas.stages.workflow import Workflow
from nas.study import OnBatch, Study


def open_study(
    workflow: Workflow, predictors: Mapping[str, Latency], on_batch: OnBatch | None = None, name: str | None = None
) -> Study:
    """Return the study of the run, with the evaluations stored so far."""
    settle_limits(workflow)
    if workflow.run.trains:
        workflow.supernet  # noqa: B018 - training may close options
    run = workflow.run
    learnt = distributions(workflow, predictors, name)
    searcher, settings = read(run.searcher, SEARCHERS)
    own = {aim.target: aim.limits[len(run.limits) :] for aim in run.aims if aim.target}
    begin = BEGINS_WITH.get(run.searcher_name)
    costs = evaluators.CostModel(workflow.supernet, run.task, predictors, run.costs, run.told_costs)
    quick = (run.cost_metrics, run.told_costs) if begin else (run.cost_objectives, {})
    return Study(
        name or run.name,
        run.searched,
        _evaluate(workflow),
        [name for name in run.all_objectives if name not in map(aims.latency, own)],
        workflow.repository,
        limits=run.limits,
        targets=own,
        searcher=searcher,
        settings=settings | ({LEARNS_FROM[run.searcher_name]: learnt} if learnt else {}),
        executor=workflow.executor,
        predict=costs,
        costs=evaluators.FastCosts(workflow.counted, predictors, *quick),
        bound=partial(costs.bounds, run.coverage),
        weights=workflow.weights if run.trains else None,
        data=_data(workflow),
        seed=run.seed,
        batch=run.batch,
        first=(*run.begin_with, *(begin(run.searched) if begin else ())),
        conditions=_conditions(workflow),
        on_batch=on_batch,
        run_file=str(workflow.run_file) if workflow.run_file else None,
    )


def _conditions(workflow: Workflow) -> dict[str, Any]:
    """Return the conditions under which the study's metrics and limits hold."""
    run = workflow.run
    batch = {"latency_batch": run.latency_batch} if run.latency_batch > 1 else {}
    known = [study.settings.get("parent", {}) for study in workflow.repository.studies() if study.name == run.name]
    parent = workflow.parent or next(iter(known), {})
    ends = (run.space.smallest(), run.space.largest())
    extra = {name: [tell(arch) for arch in ends] for name, tell in run.told_costs.items()}
    closed = [asdict(one) for one in run.closed]
    hurdles = [str(hurdle.limit) for hurdle in run.hurdles]
    told = {"parent": parent, "extra_costs": extra, "closed": closed, "hurdles": hurdles}
    return batch | {name: value for name, value in told.items() if value}


def _evaluate(workflow: Workflow) -> Evaluate:
    run = workflow.run
    if workflow.placement.here:
        return evaluators.evaluator(run, workflow.supernet)
    place = str(workflow.checkpoints.absolute())
    load = partial(evaluators.load_evaluator, str(workflow.run_file), place, run.sharing, run.training, run.seed)
    return Deferred(load)


def _data(workflow: Workflow) -> str:
    """Return a digest of everything that evaluations depend on, except trained weights; proxies depend on the seed."""
    run = workflow.run
    if run.measured_metrics:  # the run's own functions cannot be compared, so its name stands for them
        return digest([run.task.digest, run.seed, run.name])
    if not run.trains:  # only the initial weights distinguish networks of different runs
        return digest([run.task.digest, workflow.initial.digest(), run.seed])
    return digest([run.task.digest, run.seed]) if run.proxies else run.task.digest


# --- initial networks and space


def begin_with(workflow: Workflow, study: str) -> None:
    """Make the run begin with the front of another study, as far as its networks are in this space.

    Raises:
        NasError: no such study, or none of its front is.
    """
    front = [row.arch for row in fronts.front(workflow.repository, study)]
    ours = tuple(arch for arch in front if arch in workflow.run.searched)
    if not ours:
        rule = f"of {len(front)} networks on its front none is in {workflow.run.space.name}"
        raise NasError(f"this search cannot begin with study {study!r}: {rule}; name one of the same space")
    workflow.run = replace(workflow.run, first=(*workflow.run.first, *ours))


def shrunk(workflow: Workflow, study: str, **settings: Any) -> Shrunk:
    """Return the options that no good network of a study needs: see `nas.results.shrinking.shrink`."""
    record, evaluations = workflow.repository.study(study), workflow.repository.evaluations(study)
    correction = of_study(workflow.repository, record, evaluations)
    return shrink(workflow.run.searched, aims.of_study(record), evaluations, correction, **settings)


def search_within(workflow: Workflow, found: Shrunk, study: str) -> None:
    """Make the run, under another name, search what was left open and begin with the front of `study`."""
    workflow.run = replace(workflow.run, closed=(*workflow.run.closed, *found.closed), first=())
    begin_with(workflow, study)
