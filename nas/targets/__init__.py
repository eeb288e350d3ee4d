"""Hardware that networks are measured on: latency as a median with its spread and the conditions it holds under.

A target is a name with a kind and settings; `describe` is the fingerprint of the machine behind it, and with another
fingerprint it is another version of the target, whose measurements are kept apart.
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
    """The target of a name, a kind and its settings as people write them: ``make("fast", "cpu", ["threads=2"])``.

    Raises:
        TargetError: the name cannot be, there is no such kind, or it has no such setting or not with this value.
    """
    check_name(name)
    _check_kind(kind)
    return TARGETS[kind](name=name, **read(kind, TARGETS[kind], settings))


def build(record: TargetRecord) -> Target:
    """The target that a record describes.

    Raises:
        TargetError: its kind is unknown here.
    """
    _check_kind(record.kind)
    return TARGETS[record.kind](name=record.name, **record.settings)


def _check_kind(kind: str) -> None:
    if kind not in TARGETS:
        raise TargetError(f"no kind of target is called {kind!r}: choose one of {', '.join(TARGETS)}")


def find(repository: Repository, name: str) -> Target:
    """The target of a name, which is in the database, or one of those that are there without being added.

    Raises:
        TargetError: there is no such target.
    """
    known = {target.name: target for target in (*STANDING_TARGETS, *repository.targets())}
    if name not in known:
        there = ", ".join(known)
        raise TargetError(
            f"no target is called {name!r} in {repository.url}: there is {there}; nas target add {name} KIND adds it"
        )
    return build(known[name])


def check_name(name: str) -> None:
    """TargetError unless a target may be called so: as it can stand after the @ of `latency_ms@NAME`."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        rule = "use letters, digits, '-', '_' and '.', beginning with a letter or digit"
        raise TargetError(f"a target is called {name!r}: {rule}")
