"""The parent that relative limits refer to: the largest network, with the weights that the run starts with."""

from __future__ import annotations

from nas.errors import NasError
from nas.objectives.units import COSTS
from nas.stages import evaluators
from nas.stages.measuring import measured
from nas.stages.workflow import Workflow


def settle_limits(workflow: Workflow) -> None:
    """Replace relative limits of the run by absolute ones, once."""
    if found := parent(workflow):
        workflow.parent = found
        workflow.run = workflow.run.under(found)


def parent(workflow: Workflow) -> dict[str, float]:
    """Return the parent's values of the metrics in relative limits: counted costs, measured latencies, task metrics.

    Raises:
        NasError: a limit is relative to a metric of weights, and the run starts with no pretrained ones.
    """
    run = workflow.run
    wanted = dict.fromkeys(limit.metric for limit in run.all_limits if limit.relative)
    largest = run.space.largest()
    found: dict[str, float] = {}
    for metric in wanted:
        if metric in COSTS:
            found[metric] = float(getattr(workflow.counts.profile(largest), metric))
        elif metric in run.extra_costs:
            found[metric] = run.extra_cost(metric, largest)
        elif metric.startswith("latency_ms@"):
            target = workflow.targets[metric.removeprefix("latency_ms@")]
            found[metric] = measured(workflow, target, [largest])[0].median_ms
        elif run.init is None:
            rule = "the weights that the run starts with are not trained: write init=, or give a number"
            raise NasError(f"a limit is relative to the parent's {metric}, and {rule}")
        elif metric not in found:
            network = evaluators.network(evaluators.untrained(run, sort=False), run.task, largest)
            found |= {name: value for name, value in run.task.evaluate(network).items() if name in wanted}
    return found
