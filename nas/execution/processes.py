"""Evaluates on processes of this machine."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any

from nas.errors import NasError
from nas.execution.executors import Evaluate, describe
from nas.execution.pool import START_TIMEOUT_S, Answer, Died, Done, Pool, Ready, Worker, Workers, environment
from search_spaces import Architecture

_LOOK_S = 0.5  # interval of polling: a dead worker's pipe stays open while a child of the worker holds it
_TRAVELS = "it must be of a module that can be imported, or made by one: nas.execution.executors.Deferred"


class ProcessExecutor(Pool):
    """Evaluates on `num_workers` processes of this machine, each with one thread.

    Args:
        num_workers, timeout_s, start_timeout_s: as in `Pool`.
    """

    def __init__(
        self, num_workers: int = 2, timeout_s: float | None = None, start_timeout_s: float = START_TIMEOUT_S
    ) -> None:
        super().__init__(Processes(), num_workers, timeout_s, start_timeout_s)


class Processes(Workers):
    """Fresh interpreters, each in its own session: Ctrl-C does not reach them, and killing one kills its children.

    They do not import the driver's main module, so a script needs no `__main__` guard; they end when the driver ends.
    """

    kind = "process"

    def __init__(self) -> None:
        self._evaluate: Evaluate | None = None
        self._running: dict[int, tuple[subprocess.Popen[bytes], Connection]] = {}

    def hold(self, evaluate: Evaluate) -> None:
        self._evaluate = evaluate

    def begin(self, worker: int) -> None:
        if worker not in self._running:
            self._running[worker] = _started(self.name(worker))
        try:
            self._tell(worker, ("hold", self._evaluate))
        except Exception as error:  # pickling may raise any exception
            self.end(worker)
            raise NasError(f"the evaluator cannot be sent to workers: {describe(error)}; {_TRAVELS}") from error

    def evaluate(self, worker: int, arch: Architecture) -> None:
        self._tell(worker, ("evaluate", arch.json()))

    def _tell(self, worker: int, message: tuple[str, object]) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the worker is dead; `answers` reports it
            self._running[worker][1].send(message)

    def answers(self, timeout_s: float | None) -> list[Answer]:
        until = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            rest = _LOOK_S if until is None else min(_LOOK_S, max(0.0, until - time.monotonic()))
            ready = wait([connection for _, connection in self._running.values()], rest)
            found = [
                self._answer(worker, process, connection)
                for worker, (process, connection) in self._running.items()
                if connection in ready or process.poll() is not None
            ]
            if found or (until is not None and time.monotonic() >= until):
                return found

    def _answer(self, worker: int, process: subprocess.Popen[bytes], connection: Connection) -> Answer:
        try:
            if connection.poll():
                answer = connection.recv()
                return Ready(worker, answer) if isinstance(answer, str) else Done(worker, answer)
        except (EOFError, OSError):
            pass
        _kill(process)
        return Died(worker, _ended(process.wait()))

    def end(self, worker: int) -> None:
        if worker in self._running:
            process, connection = self._running.pop(worker)
            _kill(process)
            process.wait()
            connection.close()

    def close(self) -> None:
        self._evaluate = None

    def room(self) -> str:
        return f" on {os.cpu_count()} processors"

    def host(self) -> str:
        return "127.0.0.1"


def _started(name: str) -> tuple[subprocess.Popen[bytes], Connection]:
    ours, its = Pipe()
    handle = its.fileno()
    code = f"from nas.execution.processes import serve; serve({handle}, {os.getpid()}, {name!r})"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, **environment()},
        pass_fds=[handle],
        stdin=subprocess.DEVNULL,
        stdout=2,  # evaluators' output must not mix with the driver's results
        start_new_session=True,
    )
    its.close()
    return process, ours


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a worker and its child processes."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # it has ended
        os.killpg(process.pid, signal.SIGKILL)


def _ended(status: int) -> str:
    if status == -signal.SIGKILL:
        return "killed, as a system does that is out of memory"
    return signal.Signals(-status).name if status < 0 else f"exit status {status}"


# -- within a worker's process


def serve(handle: int, driver: int, name: str) -> None:
    """Answer the messages of a pipe until the driver closes it or ends."""
    os.set_inheritable(handle, False)
    threading.Thread(target=_end_with, args=[driver], daemon=True).start()
    connection, worker = Connection(handle), Worker(name)
    with contextlib.suppress(EOFError, ConnectionError):  # the driver closed the pipe
        while True:
            connection.send(_answer(connection, worker))


def _answer(connection: Connection, worker: Worker) -> str | dict[str, Any]:
    """Return the worker's answer to the next message; raise EOFError or ConnectionError if the pipe is closed."""
    try:
        kind, value = connection.recv()
    except (EOFError, ConnectionError):
        raise
    except Exception as error:  # unpickling may raise any exception
        return f"a worker could not take the evaluator: {describe(error)}; {_TRAVELS}"
    return worker.hold(value) if kind == "hold" else worker.evaluate(value)


def _end_with(driver: int) -> None:
    """Kill this process and its children once the driver has ended, even during an evaluation."""
    while os.getppid() == driver:
        time.sleep(_LOOK_S)
    os.killpg(0, signal.SIGKILL)
