"""Measures latencies of a run's networks; stored figures of the same network, input and machine are reused."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict

from nas.progress import Tick, silent
from nas.records import Measurement
from nas.stages.digests import digest
from nas.stages.workflow import Workflow
from nas.targets import Target, target_record
from nas.targets.sets import Sets, references
from search_spaces import Architecture


def measured(
    workflow: Workflow, target: Target, archs: Sequence[Architecture], tick: Tick = silent, *, again: bool = False
) -> list[Measurement]:
    """Return the latency of extracted networks, in the order of ``archs``; only unknown ones are measured.

    They are measured in interleaved rounds, with reference networks that tie them to earlier measurements. With
    ``again``, all are measured, known figures are replaced, and the scale begins anew.

    A measurement is known where network, input and machine are the same: another run's networks of the same choices, or
    another machine's of the same name, are not. The weights do not matter, so none are trained.
    """
    run, repository = workflow.run, workflow.repository
    record = target_record(target)
    repository.add_target(record)
    anchors = references(run.space)
    networks = {arch.digest: fingerprint(workflow, arch) for arch in (*archs, *anchors)}
    stored = repository.measurements(target.name, list(networks), version=record.version)
    known = {m.arch_digest: m for m in stored if m.network == networks[m.arch_digest] and not again}
    todo = [arch for arch in archs if arch.digest not in known]
    tick(len(archs) - len(todo), len(archs))
    if todo:
        scale = {arch: known[arch.digest].median_ms for arch in anchors if arch.digest in known}
        sets = Sets(target, run.space, workflow.initial.extract, run.example, scale)
        for found in sets.measure(todo):
            new = [result.measurement(arch, record, networks[arch.digest]) for arch, result in found]
            repository.add_measurements(new)
            sys.audit("nas.measured", target.name)
            known |= {measurement.arch_digest: measurement for measurement in new}
            tick(sum(arch.digest in known for arch in archs), len(archs))
    tick(len(archs), len(archs))
    return [known[arch.digest] for arch in archs]


def measure_all(workflow: Workflow, archs: Sequence[Architecture]) -> None:
    """Measure the networks on every target that can, all in the same rounds."""
    for target in workflow.targets.values():
        measured(workflow, target, [arch for arch in archs if measurable(workflow, target, arch)])


def measurable(workflow: Workflow, target: Target, arch: Architecture) -> bool:
    """Return whether a target can measure a network: a table does not hold all of them."""
    return (known := target.known(workflow.run.space)) is None or arch in known


def fingerprint(workflow: Workflow, arch: Architecture) -> str:
    """Return a digest of what a latency depends on beside the choices: the sizes of layers, and of the input."""
    example = workflow.run.example
    return digest([asdict(workflow.counts.profile(arch)), list(example.shape), str(example.dtype)])
