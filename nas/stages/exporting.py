"""Exports a network of a study as files that run without this package, with its metrics."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from nas.errors import NasError
from nas.results.front import Row
from nas.stages.networks import scores as scores_of
from nas.stages.workflow import Workflow
from search_spaces import Architecture
from supernets import SupernetError
from supernets import export as files
from supernets.export import FORMATS, Exported, Format, available_formats
from supernets.profile import profile_parts

_logger = logging.getLogger(__name__)


def export(
    workflow: Workflow,
    row: Row,
    to: Path,
    formats: Sequence[str] = (),
    network: nn.Module | None = None,
    scores: Mapping[str, float] | None = None,
) -> Exported:
    """Write the network of a row, or a network fine-tuned from it with its new scores.

    Args:
        formats: from `supernets.export.FORMATS`; if empty, all that this machine can write.

    Raises:
        NasError: a format is unknown, or there are no trained weights.
    """
    unknown = [name for name in formats if name not in FORMATS]
    if unknown:
        raise NasError(f"format {unknown[0]!r} is unknown: choose of {', '.join(FORMATS)}, separated by commas")
    workflow.require_trained(workflow.run.name)
    taken = network if network is not None else workflow.taken(row.arch)
    if network is None and workflow.run.reconstruct:
        scores = scores_of(workflow, taken)
    chosen = tuple(name for name in FORMATS if name in formats) if formats else available_formats(taken)
    metadata = {
        "study": workflow.run.name,
        "weights": workflow.weights,
        "finetuned": network is not None,
        "reconstructed": workflow.run.reconstruct,
        "metrics": {**row.values(), **(scores or {})},
        "parts": costs_by_part(taken, workflow.run.task.example()),
    }
    return write(workflow, row.arch, to, chosen, metadata, taken)


def write(
    workflow: Workflow,
    arch: Architecture,
    directory: Path,
    formats: Sequence[Format],
    metadata: dict[str, Any],
    network: nn.Module | None = None,
) -> Exported:
    """Write the network of an architecture, or one made from it, such as a fine-tuned one, as files."""
    return files.export(
        network if network is not None else workflow.taken(arch),
        arch=arch,
        build=workflow.run.build,
        example=workflow.run.task.example(2),
        directory=directory,
        formats=formats,
        metadata=metadata,
    )


def exported_scores(workflow: Workflow, exported: Exported) -> dict[str, float]:
    """Return the scores of the network that an export's own load.py makes."""
    return scores_of(workflow, files.rebuilt(exported.directory))


def costs_by_part(network: nn.Module, example: Tensor | tuple[Tensor, ...]) -> dict[str, dict[str, int]]:
    """Return parameters and multiply-accumulates by path, for modules that have any, without their submodules'.

    Empty if they cannot be counted without running the network.
    """
    try:
        parts = profile_parts(copy.deepcopy(network), example)
    except SupernetError as error:
        _logger.info("parts are not counted: %s", error)
        return {}
    counts = {path: {"params": part.layers.params, "macs": part.layers.macs} for path, part in parts.items()}
    return {path: found for path, found in counts.items() if any(found.values())}
