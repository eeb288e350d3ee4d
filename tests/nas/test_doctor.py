"""`nas doctor`: a line for each thing that work depends on, and a status that says whether something is broken."""

import os
from pathlib import Path

import pytest
import torch

from nas.commands import doctor
from tests.nas.command import Nas, caller

ABOUT = ["versions", "extras", "threads", "load", "GPU", "database", "disk", "cluster"]


@pytest.fixture
def nas_(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Nas:
    monkeypatch.chdir(tmp_path)
    return caller(monkeypatch, capsys)


def states(out: str) -> dict[str, str]:
    """What is said of each thing: its state and the text behind it."""
    lines = [line.split(maxsplit=1) for line in out.splitlines()]
    return {text.partition(": ")[0]: f"{state} {text.partition(': ')[2]}" for state, text in lines}


def test_a_machine_in_order_has_a_line_for_each_thing(nas_: Nas) -> None:
    status, out, err = nas_("doctor")
    assert (status, err) == (0, "")
    found = states(out)
    assert list(found) == ABOUT
    assert not [text for text in found.values() if text.startswith("broken")]
    assert f"torch {torch.__version__}" in found["versions"]
    assert found["database"] == "ok sqlite:///nas.db is not there yet: the first search makes it"


def test_a_database_that_is_none_is_broken(nas_: Nas, tmp_path: Path) -> None:
    (tmp_path / "nas.db").write_text("no database at all, but some text that is long enough to be looked at" * 9)
    status, out, _ = nas_("doctor")
    assert status == 1
    assert states(out)["database"].startswith("broken sqlite:///nas.db: ")
    assert len(out.splitlines()) == len(ABOUT)


def test_a_cluster_that_does_not_answer_is_broken(nas_: Nas) -> None:
    pytest.importorskip("ray", reason="ray is an extra")
    status, out, _ = nas_("doctor", "--cluster", "127.0.0.1:9")
    assert status == 1
    assert states(out)["cluster"].startswith("broken no Ray cluster answers at '127.0.0.1:9'")


def test_what_would_be_slow_is_said_with_the_reason(nas_: Nas, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (99.0, 0.0, 0.0))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 999)
    monkeypatch.setattr(doctor, "_sync_ms", lambda place: 80.0)
    status, out, _ = nas_("doctor")
    found = states(out)
    assert status == 0, "slow is not broken"
    assert found["load"].startswith("slow 99.0 on ")
    assert "they wait for one another; set OMP_NUM_THREADS=" in found["threads"]
    assert "80.0 ms until a file is on it: each evaluation and checkpoint waits for that" in found["disk"]


def test_a_disk_without_room_is_broken(nas_: Nas, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_LEAST_FREE", 2**60)
    status, out, _ = nas_("doctor")
    assert status == 1
    assert "a checkpoint may not fit; make room" in states(out)["disk"]
