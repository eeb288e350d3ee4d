"""Targets by name, kind and settings: as people write them, as they are stored, and as they are found again."""

from typing import Any

import pytest

from nas.records import TargetRecord
from nas.storage import Repository
from nas.targets import CPUTarget, ONNXTarget, RemoteTarget, TargetError, build, find, make, target_record


def test_settings_are_read_as_what_they_must_be() -> None:
    made = make("fast", "cpu", ["threads=2", "budget_s=1", " precision = bfloat16"])
    assert made == CPUTarget("fast", threads=2, budget_s=1.0, precision="bfloat16")
    assert made.settings == {"threads": 2, "precision": "bfloat16"}, "a second is what it is anyhow"
    assert make("edge", "onnx", []) == ONNXTarget("edge")
    assert make("pi5", "remote", ["on=onnx", "address=ray://head:1"]) == RemoteTarget(
        "pi5", on="onnx", address="ray://head:1"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a b", "cpu", []), "'a b' is not allowed as the name of a target: use letters, digits"),
        (("x", "tpu", []), "no kind of target is called 'tpu': choose one of cpu, cuda, onnx, table, remote"),
        (("x", "cpu", ["cores=2"]), "kind 'cpu' has no setting 'cores': its settings are .*, threads, precision"),
        (("x", "cpu", ["clock=2"]), "kind 'cpu' has no setting 'clock'"),
        (("x", "cpu", ["name=y"]), "kind 'cpu' has no setting 'name'"),
        (("x", "cpu", ["threads"]), "'threads' is not a setting: write SETTING=VALUE, as in threads=2"),
        (("x", "cpu", ["threads=1.5"]), "kind 'cpu': threads='1.5' must be a whole number"),
        (("x", "cpu", ["budget_s=long"]), "kind 'cpu': budget_s='long' must be a number"),
        (("x", "cpu", ["threads=0"]), "threads=0: give 1 or more"),
        (("x", "table", []), "kind 'table' needs the setting 'path': write path=..."),
        (("x", "remote", ["on=tpu"]), "on='tpu' is unknown: choose one of cpu, cuda, onnx"),
    ],
)
def test_what_cannot_be_is_named(arguments: Any, message: str) -> None:
    with pytest.raises(TargetError, match=message):
        make(*arguments)


def test_a_name_in_the_database_suffices() -> None:
    target = CPUTarget("fast", threads=2, budget_s=0.5)
    with Repository("sqlite://") as repository:
        assert find(repository, "cpu") == CPUTarget()
        with pytest.raises(
            TargetError, match=r"no target is called 'fast' in .* there is cpu, onnx; nas target add fast KIND"
        ):
            find(repository, "fast")
        repository.add_target(target_record(target))
        assert find(repository, "fast") == target
        with pytest.raises(TargetError, match="there is cpu, onnx, fast; nas target add slow KIND adds it"):
            find(repository, "slow")


def test_a_record_of_an_unknown_kind_is_an_error() -> None:
    with pytest.raises(TargetError, match="no kind of target is called 'tpu'"):
        build(TargetRecord("x", "tpu"))
