"""Targets: hardware on which latencies are measured, as medians with spread and measuring conditions.

A target is a name with a kind and settings. `describe` returns the fingerprint of its machine; a different fingerprint
is a different version of the target, whose measurements are stored separately.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from nas.records import STANDING_TARGETS, TargetRecord
from nas.targets.cpu import CPUTarget
from nas.targets.cuda import CUDATarget
from nas.targets.measuring import Repeats
from nas.targets.onnx import ONNXTarget
from nas.targets.remote import RemoteTarget
from nas.targets.settings import read
from nas.targets.table import TableTarget
from nas.targets.target import Inputs, LatencyResult, Target, TargetError, target_record

if TYPE_CHECKING:
    from nas.storage import Repository

__all__ = [
    "TARGETS",
    "CPUTarget",
    "CUDATarget",
    "Inputs",
    "LatencyResult",
    "ONNXTarget",
    "RemoteTarget",
    "Repeats",
    "TableTarget",
    "Target",
    "TargetError",
    "build",
    "check_name",
    "find",
    "make",
    "target_record",
]

TARGETS: dict[str, Callable[..., Target]] = {
    "cpu": CPUTarget,
    "cuda": CUDATarget,
    "onnx": ONNXTarget,
    "table": TableTarget,
    "remote": RemoteTarget,
}
"""The kinds of targets."""


def make(name: str, kind: str, settings: Sequence[str]) -> Target:
    """Return the target with a name, a kind and settings as text: ``make("fast", "cpu", ["threads=2"])``.

    Raises:
        TargetError: the name is not allowed, the kind or a setting does not exist, or a setting has an invalid value.
    """
    check_name(name)
    _check_kind(kind)
    return TARGETS[kind](name=name, **read(kind, TARGETS[kind], settings))


def build(record: TargetRecord) -> Target:
    """Return the target that a record describes.

    Raises:
        TargetError: its kind is unknown.
    """
    _check_kind(record.kind)
    return TARGETS[record.kind](name=record.name, **record.settings)


def _check_kind(kind: str) -> None:
    if kind not in TARGETS:
        raise TargetError(f"no kind of target is called {kind!r}: choose one of {', '.join(TARGETS)}")


def find(repository: Repository, name: str) -> Target:
    """Return the target with this name from the database, or a built-in one.

    Raises:
        TargetError: the target does not exist.
    """
    known = {target.name: target for target in (*STANDING_TARGETS, *repository.targets())}
    if name not in known:
        there = ", ".join(known)
        raise TargetError(
            f"no target is called {name!r} in {repository.url}: there is {there}; nas target add {name} KIND adds it"
        )
    return build(known[name])


def check_name(name: str) -> None:
    """Raise TargetError unless the name is allowed after the @ of `latency_ms@NAME`."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        rule = "use letters, digits, '-', '_' and '.', starting with a letter or digit"
        raise TargetError(f"{name!r} is not allowed as the name of a target: {rule}")
