"""Latency predictors of a run: found in the database, or fitted now to networks measured for them."""

from __future__ import annotations

from nas.errors import NasError
from nas.predictors import Predictor
from nas.progress import Tick, silent
from nas.records import PredictorRecord, TargetRecord
from nas.stages.digests import digest
from nas.stages.latency import GOOD_ENOUGH, Latency, LatencyFitter, measured_for, of_record, record, refusal, serves
from nas.stages.measuring import fingerprint, measured
from nas.stages.parent import settle_limits
from nas.stages.workflow import Workflow
from nas.targets import Target, target_record
from nas.targets.sets import references


def latencies(workflow: Workflow, tick: Tick = silent) -> dict[str, Latency]:
    """Return a predictor for every target of the run: a stored one, or one fitted now to measured networks.

    Raises:
        NasError: a predictor is not accurate enough for a limit; the message says what to do.
    """
    settle_limits(workflow)
    run = workflow.run
    found = {name: latency(workflow, target, tick=tick) for name, target in workflow.targets.items()}
    for limit in run.all_limits:
        name = limit.metric.removeprefix("latency_ms@")
        if name in found and not serves(found[name], [limit.value], run.coverage):
            raise NasError(f"limit {limit}: {refusal(found[name], name)}")
    return found


def latency(
    workflow: Workflow, target: Target, exactly: int | None = None, tick: Tick = silent, *, again: bool = False
) -> Latency:
    """Return the predictor of a target: the stored one if it is good enough, else one fitted after measuring more.

    Args:
        exactly: networks to measure in all, in place of as many as it takes up to the run's `measured`.
        again: measure known networks once more, and replace their figures.
    """
    this, space = target_record(target), workflow.run.space
    stored = _stored(workflow, this)
    begun = measured_for(stored, space) if stored else ()
    if again and stored:
        measured(workflow, target, space.decode(begun), tick, again=True)
    found = _fitter(workflow, target, exactly, tick).fit(begun)
    if again or stored is None or len(found.codes) > len(begun):
        workflow.repository.put_predictor(record(found, this, _networks(workflow), "counts"))
    return found


def _fitter(workflow: Workflow, target: Target, exactly: int | None, tick: Tick) -> LatencyFitter:
    run = workflow.run
    bounds = [limit for limit in run.all_limits if limit.metric == f"latency_ms@{target.name}"]
    allowed, space = target.known(run.space), run.space.name
    if allowed is not None and not allowed:
        raise NasError(f"target {target.name!r} knows no network of {space}: see that its columns are those of {space}")
    return LatencyFitter(
        run.space,
        lambda archs: [m.median_ms for m in measured(workflow, target, archs, tick)],
        most=exactly or run.measured,
        known=_others(workflow, target),
        before=_before(workflow, target),
        given=references(run.space) if allowed is None else (),
        allowed=allowed,
        limits=[limit.value for limit in bounds],
        coverage=run.coverage,
        wanted=GOOD_ENOUGH if exactly is None else None,
        features=workflow.counted,
        seed=run.seed,
    )


def _others(workflow: Workflow, target: Target) -> dict[str, Predictor]:
    """Predictors of other targets for the same networks; for a stored predictor, those it was fitted with."""
    own = _stored(workflow, target_record(target))
    found = {one.target: one for one in _same_networks(workflow) if one.target != target.name}
    names = found if own is None else [name for name in own.quality.get("helped_by", ()) if name in found]
    return {name: of_record(found[name], workflow.run.space) for name in names}


def _before(workflow: Workflow, target: Target) -> Predictor | None:
    """The newest predictor of an earlier version of a target."""
    version = target_record(target).version
    found = [one for one in _same_networks(workflow) if one.target == target.name and one.version != version]
    return of_record(found[-1], workflow.run.space) if found else None


def _same_networks(workflow: Workflow) -> list[PredictorRecord]:
    """All predictors for what this run builds, the oldest first."""
    key = workflow.run.space.digest, _networks(workflow)
    return [one for one in workflow.repository.predictors() if (one.space_digest, one.network) == key]


def _stored(workflow: Workflow, target: TargetRecord) -> PredictorRecord | None:
    key = target.name, target.version
    return next((one for one in _same_networks(workflow) if (one.target, one.version) == key), None)


def _networks(workflow: Workflow) -> str:
    """A fingerprint of what the run builds from architectures: of the ends of its space."""
    space = workflow.run.space
    return digest([fingerprint(workflow, end) for end in (space.smallest(), space.largest())])
