"""A network of a study as files that run without this package, with what is known of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import nn

from nas.errors import NasError
from nas.results.front import Row
from nas.stages.workflow import Workflow
from supernets.export import FORMATS, Exported, available_formats


def export(
    workflow: Workflow,
    row: Row,
    to: Path,
    formats: Sequence[str] = (),
    network: nn.Module | None = None,
    scores: Mapping[str, float] | None = None,
) -> Exported:
    """Writes the network of a row, or one that was fine-tuned from it with its new scores.

    Args:
        formats: of `supernets.export.FORMATS`; all that this machine can write where it is empty.

    Raises:
        NasError: a format is unknown, or there are no trained weights.
    """
    unknown = [name for name in formats if name not in FORMATS]
    if unknown:
        raise NasError(f"format {unknown[0]!r} is unknown: choose of {', '.join(FORMATS)}, separated by commas")
    workflow.require_trained(workflow.run.name)
    taken = network if network is not None else workflow.taken(row.arch)
    if network is None and workflow.run.reconstruct:
        scores = workflow.scores(taken)
    chosen = tuple(name for name in FORMATS if name in formats) if formats else available_formats(taken)
    metadata = {
        "study": workflow.run.name,
        "weights": workflow.weights,
        "finetuned": network is not None,
        "reconstructed": workflow.run.reconstruct,
        "metrics": {**row.values(), **(scores or {})},
    }
    return workflow.export(row.arch, to, chosen, metadata, taken)
