"""Trainings under a budget shown: Hyperband, forecasts and CARBS."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from nas.commands.display.terminal import DIGEST, headline, results, show, table_of
from nas.objectives.units import metric

if TYPE_CHECKING:
    from nas.fidelity import Outcome, Trial

_T = TypeVar("_T")


def hyperband(outcome: Outcome, trials: Sequence[Trial], name: str, steps: int, paid: int) -> None:
    """What trainings under a budget found: each budget with the best of its networks, and the best of all.

    Args:
        name: of the metric.
        steps: of the budget 1.
        paid: budgets of all trainings.
    """
    headline(f"Hyperband up to {outcome.largest} x {steps:,} steps: {len(trials)} trainings, {paid * steps:,} steps")
    text = metric(name).text
    table = table_of("steps", "networks", "failed", f"best {name}", f"median {name}", numbers=True)
    for budget in sorted({trial.budget for trial in trials}):
        of_budget = [trial for trial in trials if trial.budget == budget]
        found = sorted(trial.metrics[name] for trial in of_budget if trial.error is None)
        told = [text(found[0]), text(statistics.median(found))] if found else ["-", "-"]
        table.add_row(f"{budget * steps:,}", str(len(of_budget)), str(len(of_budget) - len(found)), *told)
    show(table)
    if outcome.best is None:
        why = next((trial.error for trial in trials if trial.error), "nothing reached the largest budget")
        results([f"all failed at the largest budget, for instance: {why}"])
        return
    best = outcome.best
    results([f"best: {best.config.digest[:DIGEST]}, {name} {text(best.metrics[name])}: {best.config.json()}"])


def forecast(best: Trial | None, trials: Sequence[Trial], name: str, steps: int) -> None:
    """How long trainings went on, and the best of them.

    Args:
        name: of the metric.
        steps: of an epoch.
    """
    lengths = Counter({trial.config.digest: trial.budget for trial in trials}.values())
    headline(f"forecasts: {sum(lengths.values())} trainings, {len(trials)} epochs of {steps:,} steps paid for")
    table = table_of("epochs", "trainings that ended there", numbers=True)
    for length, number in sorted(lengths.items()):
        table.add_row(str(length), str(number))
    show(table)
    if best is None:
        results([f"all failed, for instance: {next((trial.error for trial in trials if trial.error), 'none began')}"])
        return
    found = f"{name} {metric(name).text(best.metrics[name])} after {best.budget} epochs"
    results([f"best: {best.config.digest[:DIGEST]}, {found}: {best.config.json()}"])


def carbs(found: Sequence[tuple[Mapping[str, float | int], float, float]], trials: Sequence[Trial], name: str) -> None:
    """The front of quality and cost among settings, from the cheapest on."""
    failed = sum(trial.error is not None for trial in trials)
    broke = f", {failed} failed" if failed else ""
    headline(f"CARBS: {len(trials)} trainings{broke}; settings on the front of {name} and cost")
    if not found:
        results([f"all failed, for instance: {next(trial.error for trial in trials if trial.error)}"])
        return
    table = table_of("examples", name, *found[0][0], numbers=True)
    for settings, value, cost in found:
        table.add_row(f"{cost:,.0f}", metric(name).text(value), *(f"{setting:.3g}" for setting in settings.values()))
    show(table)
