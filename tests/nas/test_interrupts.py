"""Ctrl-C: the first lets finish and keeps what is being evaluated, the second ends the command at once."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nas.execution.executors import InProcess
from nas.execution.interrupts import gracefully, stopping
from nas.execution.processes import ProcessExecutor
from search_spaces import Architecture
from tests.contracts.executor import some
from tests.nas.test_kill import evaluated
from tests.nas.tiny_slowed import slowed

SLEEP_S = 0.3
QUICKLY_TRAINED = (
    "training=replace(tiny.run.training, steps=2, evaluate_every=0, checkpoint_every=2), trust=0, evaluations=18"
)


@pytest.fixture(autouse=True)
def _heard() -> Iterator[None]:
    """Whoever starts the tests in the background of a script has them ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupting(arch: Architecture) -> dict[str, float]:
    """Sends Ctrl-C in the middle of the evaluation, and goes on with it."""
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.01)
    return {"error": 1.0}


def sleeping(arch: Architecture) -> dict[str, float]:
    time.sleep(SLEEP_S)
    return {"error": 1.0}


def test_the_first_finishes_what_is_being_evaluated_and_begins_nothing_new() -> None:
    told, found = [], []
    with pytest.raises(KeyboardInterrupt), gracefully(lambda: told.append(1)):
        for evaluation in InProcess().run(interrupting, some(5)):
            found.append(evaluation)
    assert len(found) == len(told) == 1
    assert found[0].metrics == {"error": 1.0}
    assert not stopping(), "another search may begin"


def test_the_second_ends_it_at_once() -> None:
    def twice(arch: Architecture) -> dict[str, float]:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(600)
        return {}

    with pytest.raises(KeyboardInterrupt), gracefully(lambda: None):
        list(InProcess().run(twice, some(2)))


def test_one_that_comes_when_nothing_is_left_to_evaluate_still_ends_the_command() -> None:
    with pytest.raises(KeyboardInterrupt), gracefully(lambda: None):
        assert len(list(InProcess().run(interrupting, some(1)))) == 1


def test_workers_finish_what_they_are_at() -> None:
    found = []
    with ProcessExecutor(2) as executor, pytest.raises(KeyboardInterrupt), gracefully(lambda: None):
        for place, _ in executor.completed(sleeping, some(12)):
            if not found:
                os.kill(os.getpid(), signal.SIGINT)
            found.append(place)
    assert 2 <= len(found) <= 4
    assert sorted(found) == list(range(len(found)))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [[], ["--workers", "2"]], ids=["here", "processes"])
def test_the_command_says_how_to_go_on_and_does(workers: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "nas", "search", str(slowed(tmp_path, QUICKLY_TRAINED, evaluate_s=0.1)), *workers]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(os.path.abspath(folder) for folder in sys.path)}
    search = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    while not evaluated(tmp_path):
        assert search.poll() is None
        time.sleep(0.05)
    search.send_signal(signal.SIGINT)
    _, told = search.communicate(timeout=120)
    assert search.returncode == 130
    assert "stopping: what is being evaluated is finished first; Ctrl-C again stops at once" in told
    assert told.splitlines()[-1] == "stopped: the same command goes on from here"
    assert subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True).returncode == 0
