"""How networks that choose among classes are judged."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Protocol

from torch import Tensor, nn

from supernets.tasks.batches import evaluating
from supernets.tasks.data import Batch


class Classifying(Protocol):
    """A task whose targets are classes, one for each row of the outputs."""

    def outputs(self, module: nn.Module, batch: Batch) -> Tensor: ...

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor: ...


def error_and_loss(task: Classifying, module: nn.Module, batches: Iterator[Batch]) -> dict[str, float]:
    """`error` and `loss` over all rows of the outputs; both NaN where the loss is: a diverged network has no rank."""
    num_rows = num_errors = 0
    loss = 0.0
    with evaluating(module) as device:
        for batch in batches:
            batch = Batch(batch.inputs.to(device), batch.targets.to(device))
            outputs = task.outputs(module, batch)
            targets = batch.targets.flatten()
            num_rows += len(targets)
            num_errors += int((outputs.argmax(-1) != targets).sum())
            loss += float(task.loss(outputs, batch)) * len(targets)
    error = math.nan if math.isnan(loss) else num_errors / num_rows
    return {"error": error, "loss": loss / num_rows}
