"""The evaluations of a study as columns, from which fronts, lists and charts are computed without one object each.

Reading a hundred thousand takes a fraction of a second; architectures are loaded only for displayed ones.
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
    """(n,) positions in the study; running evaluations leave gaps."""
    digests: Sequence[str]
    """Digests of the architectures."""
    errors: Sequence[str | None]
    """Why an evaluation failed; None if it succeeded."""
    seconds: Floats
    workers: Sequence[str]
    metrics: Mapping[str, Floats]
    """(n,) values by name in order of first appearance; NaN if an evaluation lacks the metric."""

    def __len__(self) -> int:
        return len(self.digests)

    @cached_property
    def succeeded(self) -> Mask:
        """(n,) bool: which evaluations succeeded."""
        return np.fromiter((error is None for error in self.errors), dtype=bool, count=len(self))

    @cached_property
    def index(self) -> dict[str, int]:
        """The row of each digest."""
        return {digest: row for row, digest in enumerate(self.digests)}

    def measured(self, row: int) -> dict[str, float]:
        """Return the metrics of one evaluation."""
        values = ((name, float(column[row])) for name, column in self.metrics.items())
        return {name: value for name, value in values if not np.isnan(value)}

    def begins_with(self, prefix: str) -> Iterator[int]:
        """Yield the rows whose digest starts with `prefix`."""
        return (row for row, digest in enumerate(self.digests) if digest.startswith(prefix))

    def with_metrics(self, metrics: Mapping[str, Floats]) -> Columns:
        """Return a copy with these metrics added or replaced."""
        return replace(self, metrics={**self.metrics, **metrics})
