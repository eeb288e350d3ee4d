"""`nas target`: add, measure, check and list, as people type them."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas.records import Measurement
from nas.run_file import load
from nas.stages import measuring
from nas.stages.workflow import Workflow
from nas.storage import Repository
from nas.targets import CPUTarget
from nas.targets.target import LatencyResult
from tests.nas.command import TINY, Nas, caller


@pytest.fixture
def nas_(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Nas:
    monkeypatch.chdir(tmp_path)
    return caller(monkeypatch, capsys)


ODD = 4.0
"""Milliseconds of the networks that a change of some may concern."""


@pytest.fixture
def slowed(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Has CPU targets measure 1 ms for every thousand parameters, times a factor; of the largest by one more."""

    def by(factor: float, odd: float = 1.0) -> None:
        def measure(self: CPUTarget, modules: Any, example: Any, archs: Any = ()) -> list[LatencyResult]:
            sizes = [sum(p.numel() for p in module.parameters()) / 1e3 for module in modules]
            slow = [size * factor * (odd if size > ODD else 1.0) for size in sizes]
            notes = [("odd",) if size > 2 else () for size in sizes]
            told = {"settled": True}
            return [LatencyResult(ms, 0.02 * ms, 50, told, notes=n) for ms, n in zip(slow, notes, strict=True)]

        monkeypatch.setattr(CPUTarget, "measure", measure)

    by(1.0)
    return by


def stored(folder: Path) -> Repository:
    return Repository(f"sqlite:///{folder}/nas.db")


@pytest.fixture
def measured(tmp_path: Path, slowed: Callable[[float], None]) -> list[Measurement]:
    """Twelve networks, measured before, and with them five references."""
    run = load(TINY)
    archs = run.space.sample_many(12, np.random.default_rng(0), distinct=True)
    with Workflow(run, stored(tmp_path), tmp_path / "runs") as workflow:
        return measuring.measured(workflow, CPUTarget(), archs)


# --- add


def test_a_machine_is_added_and_listed(nas_: Nas, tmp_path: Path) -> None:
    answer = nas_("target", "add", "fast", "cpu", "threads=2", "precision=bfloat16")
    assert answer.status == 0 and answer.out.startswith("target fast, version ")
    assert ", 2 threads, bfloat16\nnext: nas target measure RUN_FILE fast" in answer.out
    with stored(tmp_path) as repository:
        (record,) = repository.targets()
    assert (record.name, record.kind, record.settings) == ("fast", "cpu", {"threads": 2, "precision": "bfloat16"})
    listed = nas_("target", "list").out.splitlines()
    assert [line.split()[:2] for line in listed] == [
        ["target", "kind"],
        *(["cpu", "cpu"], ["onnx", "onnx"], ["fast", "cpu"]),
    ]
    assert f"cpu precision=bfloat16 threads=2  {record.version[:8]}  0 " in listed[3]


def test_a_name_that_is_taken_says_how_to_change_it(nas_: Nas, tmp_path: Path) -> None:
    assert nas_("target", "add", "fast", "cpu", "threads=2").status == 0
    assert nas_("target", "add", "fast", "cpu", "threads=2").status == 0, "the same again is no change"
    answer = nas_("target", "add", "fast", "cpu", "threads=3")
    assert (answer.status, answer.err) == (
        1,
        "error: target 'fast' is cpu threads=2 so far: take another name, or say with --replace that it is cpu "
        "threads=3 from now on\n",
    )
    assert nas_("target", "add", "cpu", "cpu", "threads=2").err.startswith("error: target 'cpu' is cpu so far: ")
    assert nas_("target", "add", "fast", "cpu", "threads=3", "--replace").status == 0
    with stored(tmp_path) as repository:
        assert [record.settings for record in repository.target_versions()] == [{"threads": 3}, {"threads": 2}]
    lines = nas_("target", "list").out.splitlines()
    assert "threads=3" in lines[3] and "(earlier)" not in lines[3]
    assert "threads=2" in lines[4] and "(earlier)" in lines[4]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("x", "tpu"), "no kind of target is called 'tpu': choose one of cpu, cuda, onnx, table, remote"),
        (("x", "cpu", "cores=2"), "kind 'cpu' has no setting 'cores': its settings are uncertainty"),
        (("a/b", "cpu"), "'a/b' is not allowed as the name of a target: use letters"),
        (("t4", "table", "path=absent.csv"), "absent.csv: No such file or directory: give a CSV file"),
    ],
)
def test_what_cannot_be_added_is_one_line(nas_: Nas, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    answer = nas_("target", "add", *arguments)
    assert answer.status == 1 and answer.err.startswith(f"error: {message}") and answer.err.count("\n") == 1
    assert not (tmp_path / "nas.db").exists(), "nothing is begun"


# --- measure


def test_networks_of_the_runs_space_are_measured_untrained(
    nas_: Nas, tmp_path: Path, slowed: Callable[[float], None]
) -> None:
    answer = nas_("target", "measure", TINY, "cpu", "-n", 12)
    assert answer.status == 0, answer.err
    assert re.match(
        r"cpu \(version \w{8}\): 12 networks, [\d.]+ ms to [\d.]+ ms, the middle half of the passes spans", answer.out
    )
    assert re.search(r"^\d+ of 12 networks.*: odd$", answer.out, re.MULTILINE), "what was noticed is said"
    assert not (tmp_path / "runs").exists(), "nothing is trained"
    with stored(tmp_path) as repository:
        found = repository.measurements("cpu")
    assert len(found) == 12 and all(m.version == found[0].version and m.network for m in found)
    assert "12 of them known before" in nas_("target", "measure", TINY, "cpu", "-n", 12).out


def test_again_replaces_what_was_measured(nas_: Nas, tmp_path: Path, slowed: Callable[[float], None]) -> None:
    assert nas_("target", "measure", TINY, "cpu", "-n", 12).status == 0
    with stored(tmp_path) as repository:
        before = repository.measurements("cpu")
    slowed(3.0)
    answer = nas_("target", "measure", TINY, "cpu", "-n", 12, "--again")
    assert answer.status == 0 and "known before" not in answer.out
    with stored(tmp_path) as repository:
        after = repository.measurements("cpu")
    assert [m.median_ms for m in after] == pytest.approx([3 * m.median_ms for m in before])


def test_measurements_brought_from_elsewhere(nas_: Nas, tmp_path: Path) -> None:
    archs = load(TINY).space.sample_many(15, np.random.default_rng(0), distinct=True)
    rows = [json.dumps({"architecture": arch.json(), "us": 1000.0 + i}) for i, arch in enumerate(archs)]
    (tmp_path / "board.jsonl").write_text("\n".join(rows))
    assert nas_("target", "add", "board", "table", "path=board.jsonl", "column=us", "unit=us").status == 0
    answer = nas_("target", "measure", TINY, "board", "-n", 15)
    assert answer.status == 0, answer.err
    with stored(tmp_path) as repository:
        found = {m.arch_digest: m.median_ms for m in repository.measurements("board")}
    assert found == {arch.digest: pytest.approx(1 + i / 1000) for i, arch in enumerate(archs)}


def test_an_unknown_target_is_one_line(nas_: Nas) -> None:
    for command in ("measure", "check"):
        answer = nas_("target", command, TINY, "pi5")
        assert answer.status == 1
        assert answer.err == (
            "error: no target is called 'pi5' in sqlite:///nas.db: there is cpu, onnx; "
            "nas target add pi5 KIND adds it\n"
        )


# --- check


def test_a_machine_that_is_as_it_was(nas_: Nas, measured: list[Measurement]) -> None:
    answer = nas_("target", "check", TINY, "cpu")
    assert (answer.status, answer.err) == (0, "")
    assert answer.out == (
        "cpu, 10 networks measured again: the machine is as fast as it was, they take 1.00 times as long as before "
        "(1.00 to 1.00)\n"
    )


@pytest.mark.parametrize(("factor", "word"), [(1.3, "30% slower"), (0.7, "30% faster")])
def test_a_machine_that_is_slower_for_all_alike_still_ranks_them(
    nas_: Nas, measured: list[Measurement], slowed: Callable[[float], None], factor: float, word: str
) -> None:
    slowed(factor)
    answer = nas_("target", "check", TINY, "cpu", "-n", 4)
    assert answer.status == 0
    assert f"cpu, 4 networks measured again: the machine is {word} (" in answer.out
    assert "all networks alike: ratios and ranks hold" in answer.out and "beside the others" not in answer.out


@pytest.mark.parametrize(("factor", "word"), [(1.3, "30% slower"), (0.7, "30% faster")])
def test_networks_that_have_changed_beside_the_others_end_with_status_1(
    nas_: Nas, measured: list[Measurement], slowed: Callable[[float], None], tmp_path: Path, factor: float, word: str
) -> None:
    slowed(1.0, odd=factor)
    answer = nas_("target", "check", TINY, "cpu")
    assert answer.status == 1
    assert re.search(
        rf"^cpu: network \w{{8}} is {word} \(.*\) beside the others than before$", answer.out, re.MULTILINE
    )
    assert re.search(r"^\d of 10 networks have changed: measure anew with", answer.out, re.MULTILINE)
    assert f"nas target measure {TINY} cpu --again" in answer.out
    with stored(tmp_path) as repository:
        assert {m.arch_digest: m for m in measured}.items() <= {
            m.arch_digest: m for m in repository.measurements("cpu")
        }.items(), "what was there stays"


def test_another_fingerprint_is_said_and_compared_with_the_last_one(
    nas_: Nas, measured: list[Measurement], monkeypatch: pytest.MonkeyPatch
) -> None:
    described = CPUTarget().describe()
    monkeypatch.setattr(CPUTarget, "describe", lambda self: {**described, "torch": "99.0", "governor": "powersave"})
    answer = nas_("target", "check", TINY, "cpu")
    assert answer.status == 0
    assert f"cpu: torch was {described['torch']}, is 99.0\n" in answer.out
    assert "cpu: governor was not told, is powersave\n" in answer.out or "governor" in described
    assert "the machine is as fast as it was" in answer.out


def test_nothing_measured_before_is_an_error(nas_: Nas, measured: list[Measurement], tmp_path: Path) -> None:
    assert nas_("target", "add", "fast", "cpu", "threads=2").status == 0
    answer = nas_("target", "check", TINY, "fast")
    assert answer.status == 1
    assert answer.err == (
        "error: nothing of 'tiny' was measured on 'fast' so far: nas target measure tiny_run.py fast\n"
    )


# --- list


def test_targets_are_listed_without_a_run_file(nas_: Nas, measured: list[Measurement]) -> None:
    header, unused, row = nas_("target", "list").out.splitlines()
    assert unused.split()[:2] == ["onnx", "onnx"], "it is there without being added"
    assert header.split() == ["target", "kind", "version", "measurements", "last", "measured", "(UTC)", "machine"]
    (first,) = {m.version for m in measured}
    last = max(m.created for m in measured)[:16].replace("T", " ")
    assert row.startswith(f"cpu     cpu   {first[:8]}  17            {last}     ")
    _, found = json.loads(nas_("target", "list", "--json").out)
    assert (found["name"], found["version"], found["measurements"]) == ("cpu", first, 17)
    assert found["description"]["threads"] == 1 and found["last_measured"] == max(m.created for m in measured)
