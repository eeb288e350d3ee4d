"""Finds truths (tasks with all networks trained alone) by the names of their tasks."""

from functools import lru_cache

import numpy as np

from benchmarks.toy import toy
from benchmarks.truth import TASKS, TruthError, load
from benchmarks.truth.table import truth
from benchmarks.truths import TOY, Truth


def names() -> tuple[str, ...]:
    return tuple(TASKS)


@lru_cache(maxsize=2)
def find(name: str) -> Truth:
    """Return the truth of a task; raise TruthError or DataError if it does not exist."""
    if name == TOY:
        return toy()
    made, table = load(name), truth(name)
    if table.settings != made.settings:
        raise TruthError(
            f"the table of {name} is of settings {table.settings}, the task of {made.settings}: make it anew"
        )
    return Truth(
        name,
        made.space,
        made.build,
        made.task,
        made.training,
        made.metric,
        table.archs,
        table.values,
        table.params.astype(np.float64),
        table.macs.astype(np.float64),
    )
