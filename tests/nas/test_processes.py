"""Evaluations on processes of this machine: the contract, and whatever an evaluation may do to its process."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from nas.errors import NasError
from nas.execution.executors import Deferred, Evaluate, Executor
from nas.execution.processes import ProcessExecutor
from search_spaces import Architecture
from tests.contracts.executor import ExecutorContract, some


@pytest.fixture(scope="module")
def two_processes() -> Iterator[ProcessExecutor]:
    with ProcessExecutor(2) as executor:
        yield executor


class TestProcessExecutor(ExecutorContract):
    @pytest.fixture
    def executor(self, two_processes: ProcessExecutor) -> Executor:
        return two_processes


def held() -> Evaluate:
    """An evaluator that only its worker can have: its process id, and how many threads it may use."""
    return lambda arch: {"pid": os.getpid(), "threads": float(os.environ["OMP_NUM_THREADS"])}


def troubled(marks: Path, times: int, how: str, arch: Architecture) -> dict[str, float]:
    """Comes to grief the first `times` times that it sees an architecture with a = b."""
    if arch.a == arch.b:
        seen = marks / arch.digest
        before = len(seen.read_text()) if seen.exists() else 0
        if before < times:
            seen.write_text("x" * (before + 1))
            {"exit": _exit, "kill": _kill, "memory": _memory, "cuda": _cuda, "hang": _hang, "leave": sys.exit}[how]()
    return {"error": float(arch.a)}


def _exit() -> None:
    os._exit(3)


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _memory() -> None:
    raise MemoryError("no room")


def _cuda() -> None:
    import torch

    raise torch.OutOfMemoryError("CUDA out of memory")


def _hang() -> None:
    """Also with a process of its own, which must not outlive it."""
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)  # orphan"])
    time.sleep(600)


def some_with_trouble() -> tuple[list[Architecture], set[Architecture]]:
    archs = some(24)
    trouble = {arch for arch in archs if arch.a == arch.b}
    assert trouble
    return archs, trouble


def test_each_worker_is_a_process_of_one_thread_that_builds_the_evaluator_once(two_processes: ProcessExecutor) -> None:
    evaluate = Deferred(held)
    found = [e for _ in range(2) for e in two_processes.run(evaluate, some(16))]
    processes = {e.metrics["pid"] for e in found}
    assert len(processes) == 2
    assert os.getpid() not in processes
    assert {e.metrics["threads"] for e in found} == {1.0}
    assert {e.worker for e in found} == {"process-0", "process-1"}


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("exit", "WorkerDied: its process died twice, the second time with nothing beside it (exit status 3)"),
        ("kill", "WorkerDied: its process died twice, the second time with nothing beside it (killed, as"),
        ("memory", "MemoryError: no room"),
        pytest.param("cuda", "OutOfMemoryError: CUDA out of memory", marks=pytest.mark.slow),
    ],
    ids=["exit", "kill", "memory", "cuda"],
)
@pytest.mark.parametrize("times", [1, 9], ids=["once", "always"])
def test_what_ends_a_process_or_its_memory_is_tried_once_more(
    how: str, says: str, times: int, two_processes: ProcessExecutor, tmp_path: Path
) -> None:
    archs, trouble = some_with_trouble()
    found = list(two_processes.run(partial(troubled, tmp_path, times, how), archs))
    assert [e.arch for e in found] == archs
    for evaluation in found:
        if times == 9 and evaluation.arch in trouble:
            assert evaluation.error is not None and evaluation.error.startswith(says)
        else:
            assert evaluation.metrics == {"error": evaluation.arch.a}
    assert {len(mark.read_text()) for mark in tmp_path.iterdir()} == {min(times, 2)}


def test_leaving_by_sys_exit_is_a_failure_like_any_other(two_processes: ProcessExecutor, tmp_path: Path) -> None:
    archs, trouble = some_with_trouble()
    found = two_processes.run(partial(troubled, tmp_path, 9, "leave"), archs)
    assert {e.arch for e in found if e.error and e.error.startswith("SystemExit")} == trouble


def test_what_takes_too_long_is_killed_with_its_children_and_said_to_have_failed(tmp_path: Path) -> None:
    archs, trouble = some_with_trouble()
    archs = [*trouble, *archs][: 2 + len(trouble)]
    with ProcessExecutor(2, timeout_s=1.0) as executor:
        found = list(executor.run(partial(troubled, tmp_path, 9, "hang"), archs))
        failed = [e for e in found if e.error]
        assert {e.arch for e in failed} == trouble
        assert {e.error for e in failed} == {"TimedOut: no result within 1 s; its process was killed"}
        assert len(list(executor.run(partial(troubled, tmp_path, 0, "hang"), archs))) == len(archs)
    assert "# orphan" not in subprocess.run(["ps", "ax", "-o", "args"], capture_output=True, text=True).stdout


def test_work_that_nobody_wants_any_more_is_ended(tmp_path: Path) -> None:
    _, trouble = some_with_trouble()
    easy = [arch for arch in some(24) if arch not in trouble]
    with ProcessExecutor(2) as executor:
        for place, _ in executor.completed(partial(troubled, tmp_path, 1, "hang"), [min(trouble, key=str), easy[0]]):
            assert place == 1
            break
        assert len(list(executor.run(partial(troubled, tmp_path, 1, "hang"), easy))) == len(easy)


SCRIPT = """
import sys
from functools import partial
from nas.execution.processes import ProcessExecutor
from tests.contracts.executor import some
from tests.nas.test_processes import waiting

list(ProcessExecutor(2).run(partial(waiting, sys.argv[1]), some(4)))
"""


def waiting(folder: str, arch: Architecture) -> dict[str, float]:
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(600)
    return {}


def test_workers_end_with_a_driver_that_is_killed(tmp_path: Path) -> None:
    driver = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
    while len(list(tmp_path.iterdir())) < 2:
        assert driver.poll() is None
        time.sleep(0.05)
    driver.kill()
    driver.wait()
    workers = [int(mark.name) for mark in tmp_path.iterdir()]
    begin = time.monotonic()
    while any(alive(worker) for worker in workers):
        assert time.monotonic() - begin < 30
        time.sleep(0.05)


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_what_cannot_travel_is_an_error_that_says_what_can(two_processes: ProcessExecutor) -> None:
    with pytest.raises(NasError, match=r"cannot be sent to workers: .* nas\.execution\.executors\.Deferred"):
        list(two_processes.run(lambda arch: {"error": 1.0}, some(2)))
    assert len(list(two_processes.run(partial(troubled, Path(), 0, "hang"), some(2)))) == 2


def test_settings_are_checked() -> None:
    with pytest.raises(NasError, match="num_workers is 0"):
        ProcessExecutor(0)
    with pytest.raises(NasError, match="timeout_s is 0"):
        ProcessExecutor(timeout_s=0)
