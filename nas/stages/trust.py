"""The trust report of a run: some networks trained alone, compared with their inherited metrics."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from nas.objectives import aims
from nas.progress import Tick, silent
from nas.records import Trust
from nas.stages.workflow import Workflow
from search_spaces import Architecture, Space
from search_spaces.narrowing import narrowed
from supernets import ranking, standalone


class TrustStage:
    """Plans the trainings of a trust report, runs the missing ones, and stores each at once."""

    def __init__(self, workflow: Workflow) -> None:
        self.workflow = workflow

    @cached_property
    def plan(self) -> standalone.StandalonePlan:
        """The networks to train, some of them from the front found so far, and the cost beside the supernet's."""
        return self.planned(self._front())

    def planned(self, front: Sequence[Architecture] = ()) -> standalone.StandalonePlan:
        """Return the plan before there is a front: steps and number of networks are the same already."""
        workflow, run = self.workflow, self.workflow.run
        return standalone.plan(
            self._trained_space,
            self._macs,
            standalone.training_cost(workflow.initial, run.task, run.training, self._macs),
            run.training.steps,
            run.trust,
            np.random.default_rng([run.seed, 2]),
            lru_cache(maxsize=None)(workflow.initial.count_parameters),  # asked for more than once
            networks=run.trust_networks,
            steps=run.trust_steps,
            front=front,
        )

    def is_known(self) -> bool:
        """Return whether no training of the report is missing: those of an earlier front count."""
        known, plan = self.known_rows().values(), self.plan
        again = sum(bool(row.again) for row in known)
        return len(known) >= len(plan.archs) and again >= len(plan.repeated)

    def run(self, tick: Tick = silent) -> ranking.RankingReport | None:
        """Return the report of inherited against stand-alone metrics, after training what is missing.

        None if the share asked for could decide nothing: `plan.refused` says why.
        """
        plan, rows = self.plan, self.known_rows()
        if plan.refused:
            return None
        planned = {arch.digest for arch in plan.archs}

        def done() -> int:
            return _trainings({digest: row for digest, row in rows.items() if digest in planned})

        def keep(row: ranking.Row) -> None:
            rows[row.arch.digest] = row
            tick(done(), plan.trainings)
            self._store(ranking.report(list(rows.values())))
            sys.audit("nas.judged", row.arch.digest)

        if self.is_known():
            tick(plan.trainings, plan.trainings)
        else:
            tick(done(), plan.trainings)
            workflow, run = self.workflow, self.workflow.run
            standalone.measure(
                workflow.supernet,
                run.task,
                plan.archs,
                replace(run.training, steps=plan.steps, evaluate_every=0),
                repeated=plan.repeated,
                done=rows,
                on_row=keep,
                directory=workflow.directory / "trust",
                progress=False,
                warm=run.trust_warm,
            )
        report = ranking.report(sorted(rows.values(), key=lambda row: (row.params, row.arch.digest)))
        self._store(report)
        return report

    def known_rows(self) -> dict[str, ranking.Row]:
        """Return the trainings that an earlier call has stored for this report, by digest."""
        stored = self.workflow.repository.trust(self.workflow.weights)
        if stored is None or (stored.steps, stored.warm) != (self.plan.steps, self.workflow.run.trust_warm):
            return {}
        rows = map(_known_row, stored.rows)
        return {row.arch.digest: row for row in rows}

    @property
    def _trained_space(self) -> Space:
        """The run's space without the options that its training has closed, once it is trained."""
        known = self.workflow.trained_result()
        return narrowed(self.workflow.run.space, known.closed) if known else self.workflow.run.space

    @cached_property
    def _macs(self) -> standalone.Cost:
        return standalone.macs(self.workflow.initial, self.workflow.run.task)

    def _front(self) -> list[Architecture]:
        """Return the uncorrected front, since labels must not change which networks receive labels."""
        repository, name = self.workflow.repository, self.workflow.run.name
        if name not in {record.name for record in repository.studies()}:
            return []
        of_aims = aims.fronts(aims.of_study(repository.study(name)), repository.evaluations(name))
        return [evaluation.arch for evaluation, _ in of_aims.values()]

    def _store(self, report: ranking.RankingReport) -> None:
        plan, run = self.plan, self.workflow.run
        figures = asdict(replace(report, rows=())) | {
            "gaps": tuple(map(asdict, report.gaps)),
            "baselines": tuple(map(asdict, report.baselines)),
            "rows": tuple(map(_stored_row, report.rows)),
            "metric": run.task.metric,
        }
        share = plan.share * _trainings({row.arch.digest: row for row in report.rows}) / plan.trainings
        seconds = sum(row.seconds for row in report.rows)
        trust = Trust(**figures, steps=plan.steps, share=share, seconds=seconds, warm=run.trust_warm)
        self.workflow.repository.put_trust(self.workflow.weights, trust)


def _trainings(rows: Mapping[str, ranking.Row]) -> int:
    return sum(1 + len(row.again) for row in rows.values())


def _stored_row(row: ranking.Row) -> dict[str, Any]:
    return {
        "digest": row.arch.digest,
        "architecture": row.arch.json(),
        "inherited": _or_none(row.inherited),
        "standalone": _or_none(row.standalone),
        "again": [_or_none(metric) for metric in row.again],
        "params": row.params,
        "macs": row.macs,
        "seconds": row.seconds,
    }


def _known_row(stored: Mapping[str, Any]) -> ranking.Row:
    return ranking.Row(
        Architecture.from_json(stored["architecture"]),
        _or_infinite(stored["inherited"]),
        _or_infinite(stored["standalone"]),
        stored["seconds"],
        tuple(map(_or_infinite, stored["again"])),
        stored["params"],
        stored["macs"],
    )


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None  # JSON has no infinity


def _or_infinite(value: float | None) -> float:
    return math.inf if value is None else value
