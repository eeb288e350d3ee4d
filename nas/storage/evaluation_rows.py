"""Rows of evaluations: their columns, the check of their digests, and their conversion to records and columns."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

import numpy as np

from nas.columns import Columns
from nas.migrations import tables
from nas.records import Evaluation
from nas.storage.sealed import evaluation_digest
from search_spaces import Architecture

_arch, _e = tables.architectures.c, tables.evaluations.c
CONTENT = ("metric_set_id", "metric_values", "error", "seconds", "worker")
"""Columns of the result, without the key and the digest."""
SELECTED = (_arch.digest, _e.context_id, _e.attempt, *(_e[name] for name in CONTENT), _e.digest)
"""First columns of every query of evaluations; the functions below rely on this order."""
_NAME, _SET, _VALUES, _ERROR, _SECONDS, _WORKER, _DIGEST = 0, 3, 4, 5, 6, 7, 8

Row = Sequence[Any]
Names = Mapping[int, tuple[str, ...]]
"""Names of metrics by the id of their set."""


def content(evaluation: Evaluation, metric_set: int) -> tuple[Any, ...]:
    """Return the stored values of an evaluation, in the order of `CONTENT`."""
    values = struct.pack(f"<{len(evaluation.metrics)}d", *evaluation.metrics.values())
    return metric_set, values, evaluation.error, evaluation.seconds, evaluation.worker


def names_of(evaluation: Evaluation) -> str:
    """Return the names of an evaluation's metrics as the JSON text of a metric set."""
    return json.dumps(list(evaluation.metrics))


def is_sound(row: Row, names: Names) -> bool:
    """Return whether a row matches its digest."""
    try:
        return evaluation_digest(*row[:_DIGEST]) == row[_DIGEST] and len(row[_VALUES]) == 8 * len(names[row[_SET]])
    except (TypeError, ValueError, AttributeError, KeyError, struct.error):  # a value of another type, or NULL
        return False


def evaluation_of(row: Row, arch: Architecture, names: Names) -> Evaluation:
    """Return the evaluation of a sound row."""
    values = struct.unpack(f"<{len(row[_VALUES]) // 8}d", row[_VALUES])
    return Evaluation(arch, dict(zip(names[row[_SET]], values, strict=True)), row[_ERROR], row[_SECONDS], row[_WORKER])


def as_columns(rows: Sequence[Row], positions: Sequence[int], names: Names) -> Columns:
    """Return sound rows as columns, in the given order."""
    if not rows:
        none = np.zeros(0)
        return Columns(none.astype(np.int64), (), (), none, (), {})
    digests, sets, values, errors, seconds, workers = (
        list(map(itemgetter(at), rows)) for at in (_NAME, _SET, _VALUES, _ERROR, _SECONDS, _WORKER)
    )
    numbers = np.array(sets, dtype=np.int64)
    metrics: dict[str, np.ndarray] = {}
    for number in dict.fromkeys(sets):
        held = np.flatnonzero(numbers == number)
        packed = b"".join(values) if len(held) == len(rows) else b"".join(values[row] for row in held)
        matrix = np.frombuffer(packed, dtype="<f8").reshape(len(held), len(names[number]))
        for name, column in zip(names[number], matrix.T, strict=True):
            metrics.setdefault(name, np.full(len(rows), np.nan))[held] = column
    return Columns(np.array(positions), digests, errors, np.array(seconds), workers, metrics)
