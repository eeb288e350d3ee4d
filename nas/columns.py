"""The evaluations of a study as columns: what fronts, lists and charts are made of without an object for each.

A hundred thousand are read in a fraction of a second; architectures are looked up for those that are shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Columns:
    """n evaluations in order of their positions."""

    positions: npt.NDArray[np.int64]
    """(n,) places in the study; what is under way leaves gaps."""
    digests: Sequence[str]
    """Of the architectures."""
    errors: Sequence[str | None]
    """Why an evaluation failed; None where it did not."""
    seconds: Floats
    workers: Sequence[str]
    metrics: Mapping[str, Floats]
    """(n,) values by name in order of first appearance, NaN where an evaluation has none."""

    def __len__(self) -> int:
        return len(self.digests)

    @cached_property
    def succeeded(self) -> Mask:
        """(n,) which did not fail."""
        return np.fromiter((error is None for error in self.errors), dtype=bool, count=len(self))

    @cached_property
    def index(self) -> dict[str, int]:
        """The row of each digest."""
        return {digest: row for row, digest in enumerate(self.digests)}

    def measured(self, row: int) -> dict[str, float]:
        """The metrics of one evaluation."""
        values = ((name, float(column[row])) for name, column in self.metrics.items())
        return {name: value for name, value in values if not np.isnan(value)}

    def begins_with(self, prefix: str) -> Iterator[int]:
        """The rows whose digest begins so."""
        return (row for row, digest in enumerate(self.digests) if digest.startswith(prefix))

    def with_metrics(self, metrics: Mapping[str, Floats]) -> Columns:
        """The same with columns added or put in place of others."""
        return replace(self, metrics={**self.metrics, **metrics})
