"""Evaluations on the workers of a Ray cluster, and work on one machine of it: the only file that imports Ray."""

import logging
import math
import os
import socket
import sys
import sysconfig
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from nas.errors import NasError
from nas.executors import Evaluate, Executor, describe, evaluate_one, prepared
from nas.records import Evaluation
from search_spaces import Architecture

_logger = logging.getLogger(__name__)

_ENVIRONMENT = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # a local cluster listens on the loopback interface alone
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
}
# Two processes with two threads each on two cores are three times slower than with one thread each.
_ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
}
_OBJECT_STORE_BYTES = 200 * 2**20
_ANSWER_TIMEOUT_S = 10.0
_NO_CLUSTER, _REMEDY = "no Ray cluster answers at {!r}", "start one there, or use the address 'local'"
_JOBS_PER_WORKER = 4  # smaller jobs balance uneven evaluations; larger ones make fewer calls, at 0.4 ms a call


class RayExecutor(Executor):
    """Evaluates on `num_workers` Ray actors that each hold the evaluator, with one CPU and one thread.

    The evaluator travels once to each worker; wrap what is too large to travel in `nas.executors.Deferred`.
    A worker that dies is replaced, and what it was working on is tried again, one architecture at a time; the one on
    which, alone, a worker dies twice becomes a failed evaluation.

    Args:
        address: "auto" joins the running cluster (`RAY_ADDRESS`, or one on this machine) and starts a local one
            where there is none; "local" always starts one; otherwise a Ray address such as "ray://head:10001".
        num_workers: number of actors.
        num_gpus: share of a GPU that Ray reserves for each worker. It is bookkeeping, not a memory limit.
        start_timeout_s: how long workers may take to start and build the evaluator.

    Use it as a context manager or call `close`: that ends our workers, and the cluster only if it was started here.
    """

    def __init__(
        self, address: str = "auto", num_workers: int = 2, num_gpus: float = 0.0, start_timeout_s: float = 300.0
    ) -> None:
        if num_workers < 1:
            raise NasError(f"num_workers is {num_workers}; a cluster needs at least 1 worker")
        self.address = address
        self.num_workers = num_workers
        self.num_gpus = num_gpus
        self.start_timeout_s = start_timeout_s
        self._ray: Any = None
        self._started_cluster = False
        self._evaluate: Evaluate | None = None
        self._evaluator_ref: Any = None
        self._workers: dict[int, Any] = {}
        self._starting: dict[Any, int] = {}  # what tells that a worker has built the evaluator, for those that have not

    def __enter__(self) -> "RayExecutor":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def completed(self, evaluate: Evaluate, archs: Sequence[Architecture]) -> Iterator[tuple[int, Evaluation]]:
        """Yields places in `archs` and evaluations, as they finish.

        Raises NasError when Ray is missing, when workers cannot start or when they cannot build the evaluator.
        """
        self._connect()
        self._hold(evaluate)
        waiting = deque(_jobs(archs, self.num_workers))
        running: dict[Any, tuple[int, _Job]] = {}
        left = len(archs)
        try:
            while left:
                self._assign(waiting, running)
                ref = self._next_event(running)
                if ref not in running:
                    self._settle(ref)
                    continue
                for found in self._collect(ref, *running.pop(ref), waiting):
                    left -= 1
                    yield found
        finally:
            for index, _ in running.values():  # the caller left early: these are busy with work nobody wants
                self._dismiss(index)

    def close(self) -> None:
        """Ends our workers, and the cluster if it was started here. The executor may be used again afterwards."""
        if self._ray is None:
            return
        for index in list(self._workers):
            self._dismiss(index)
        self._evaluate = self._evaluator_ref = None
        if self._started_cluster:
            self._ray.shutdown()
            self._started_cluster = False
        self._ray = None

    # -- the cluster and its workers

    def _connect(self) -> None:
        if self._ray is not None:
            return
        ray = _import_ray()
        if not ray.is_initialized():
            self._started_cluster = _join_or_start(ray, self.address, self.num_workers)
        self._ray = ray

    def _hold(self, evaluate: Evaluate) -> None:
        """Makes all workers hold `evaluate`.

        Waits for all of them the first time, which shows what cannot work; a worker that is replaced later joins when
        it is ready, if a cluster that has lost a node still has room for it.
        """
        if evaluate is not self._evaluate:
            self._evaluate = None
            for index in list(self._starting.values()):
                self._dismiss(index)
            self._evaluator_ref = self._ray.put(evaluate)
            for index in list(self._workers) or range(self.num_workers):
                self._begin(index)
            self._wait_for_all()
            self._evaluate = evaluate
        for index in range(self.num_workers):
            if index not in self._workers:
                self._begin(index)

    def _begin(self, index: int) -> None:
        """Hands the evaluator to a worker, which is started if there is none."""
        if index not in self._workers:
            actor = self._ray.remote(_Worker).options(
                num_cpus=1, num_gpus=self.num_gpus, max_restarts=0, runtime_env={"env_vars": _worker_environment()}
            )
            self._workers[index] = actor.remote(f"ray-{index}")
        self._starting[self._workers[index].hold.remote(self._evaluator_ref)] = index

    def _wait_for_all(self) -> None:
        starting = dict(self._starting)
        try:
            failures = [failure for failure in self._ray.get(list(starting), timeout=self.start_timeout_s) if failure]
        except self._ray.exceptions.RayError as error:
            for index in starting.values():
                self._dismiss(index)
            raise NasError(self._not_ready(error)) from error
        self._starting.clear()
        if failures:
            raise NasError(failures[0])

    def _settle(self, ref: Any) -> None:
        """Takes in a worker that is ready; one that died while it started is left out until the next run."""
        index = self._starting[ref]
        try:
            failure = self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            _logger.warning("worker ray-%d died while it started", index)
            self._dismiss(index)
            if not self._workers:
                raise NasError(self._not_ready(error)) from error
            return
        del self._starting[ref]
        if failure:
            raise NasError(failure)

    def _not_ready(self, error: Exception) -> str:
        if isinstance(error, self._ray.exceptions.GetTimeoutError):
            total = self._ray.cluster_resources()
            there = f"{total.get('CPU', 0):g} CPUs and {total.get('GPU', 0):g} GPUs"
            return (
                f"{self.num_workers} workers of 1 CPU and {self.num_gpus:g} GPU were not ready within"
                f" {self.start_timeout_s:g} s on a cluster of {there}; ask for fewer workers or wait longer"
            )
        reason = str(error).strip().splitlines()[-1].strip()
        return (
            f"a worker could not take the evaluator: {reason};"
            " its modules must be installed on the cluster, and it must fit into memory"
        )

    def _dismiss(self, index: int) -> None:
        self._ray.kill(self._workers.pop(index))
        self._starting = {ref: other for ref, other in self._starting.items() if other != index}

    # -- the work

    def _assign(self, waiting: "deque[_Job]", running: "dict[Any, tuple[int, _Job]]") -> None:
        busy = {index for index, _ in running.values()} | set(self._starting.values())
        for index in sorted(self._workers.keys() - busy):
            if waiting:
                job = waiting.popleft()
                running[self._workers[index].run.remote([arch.json() for arch in job.archs])] = (index, job)

    def _next_event(self, running: "dict[Any, tuple[int, _Job]]") -> Any:
        """Waits for a job that is done or a worker that is ready; NasError if there is none and none gets ready."""
        timeout = None if running else self.start_timeout_s
        ready, _ = self._ray.wait([*running, *self._starting], num_returns=1, timeout=timeout)
        if not ready:
            raise NasError(self._not_ready(self._ray.exceptions.GetTimeoutError()))
        return ready[0]

    def _collect(self, ref: Any, index: int, job: "_Job", waiting: "deque[_Job]") -> list[tuple[int, Evaluation]]:
        """The results of one job; where its worker died, replaces the worker and decides what is tried again."""
        errors = self._ray.exceptions
        try:
            rows = self._ray.get(ref)
        except (errors.RayActorError, errors.WorkerCrashedError, errors.OutOfMemoryError, errors.ObjectLostError):
            _logger.warning("worker ray-%d died and is replaced", index)
            self._dismiss(index)
            self._begin(index)
            if job.died:
                message = "WorkerDied: the worker process died twice on this architecture"
                return [(job.first, Evaluation(job.archs[0], {}, error=message, worker=f"ray-{index}"))]
            waiting.extendleft(reversed(job.again()))
            return []
        evaluations = (Evaluation(arch, **row) for arch, row in zip(job.archs, rows, strict=True))
        return list(enumerate(evaluations, start=job.first))


@dataclass(frozen=True)
class _Job:
    """Consecutive architectures for one worker, of which the first stands at `first` in what was asked.

    `died` says that a worker died on this one architecture before.
    """

    first: int
    archs: Sequence[Architecture]
    died: bool = False

    def again(self) -> list["_Job"]:
        """The same work after its worker died: one by one, so that only what kills a worker can do so again."""
        alone = len(self.archs) == 1
        return [_Job(self.first + offset, [arch], died=alone) for offset, arch in enumerate(self.archs)]


def _jobs(archs: Sequence[Architecture], num_workers: int) -> list[_Job]:
    size = max(1, math.ceil(len(archs) / (num_workers * _JOBS_PER_WORKER)))
    return [_Job(first, archs[first : first + size]) for first in range(0, len(archs), size)]


class _Worker:
    """Runs inside a Ray actor."""

    def __init__(self, name: str) -> None:
        self._name = name

    def hold(self, evaluate: Evaluate) -> str:
        """Builds the evaluator and keeps it; returns what went wrong, if anything.

        Not done in the constructor, whose errors Ray wraps in a page of text.
        """
        try:
            self._evaluate = prepared(evaluate)
        except NasError as error:
            return str(error)
        return ""

    def run(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """Evaluates architectures given as JSON: the fields of each Evaluation but the architecture."""
        rows = []
        for text in texts:
            done = evaluate_one(self._evaluate, Architecture.from_json(text), self._name)
            rows.append({"metrics": done.metrics, "error": done.error, "seconds": done.seconds, "worker": done.worker})
        return rows


def _worker_environment() -> dict[str, str]:
    """One thread, and the driver's own modules in reach where the worker sees the same files."""
    folders = [os.path.abspath(folder) for folder in sys.path]
    return {**_ONE_THREAD, "PYTHONPATH": os.pathsep.join(["${PYTHONPATH}", *folders])}


def _import_ray() -> Any:
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)  # Ray reads some of these while it is imported
    try:
        import ray
    except ImportError:
        raise NasError("evaluating on a cluster needs Ray, which is not installed: pip install nas[ray]") from None
    return ray


def _join_or_start(ray: Any, address: str, num_workers: int) -> bool:
    """Connects to Ray and says whether a cluster was started for that."""
    given = os.environ.get("RAY_ADDRESS", address) if address == "auto" else address
    if given != "local" and _joined(ray, given):
        return False
    try:
        ray.init(
            address="local",
            num_cpus=num_workers,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            object_store_memory=_OBJECT_STORE_BYTES,
        )
    except Exception as error:  # Ray raises this class itself where a node is too slow to start
        raise NasError(f"a local Ray cluster did not start: {describe(error)}; free memory or processors") from error
    return True


def _joined(ray: Any, address: str) -> bool:
    """Connects to a running cluster; False where "auto" finds none, NasError for any other address."""
    _check_answers(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except ConnectionError as error:
        if address != "auto":
            raise NasError(f"{_NO_CLUSTER.format(address)}: {describe(error)}; {_REMEDY}") from error
        return False
    return True


def _check_answers(address: str) -> None:
    """Raises NasError where nobody listens at host:port, about which Ray itself is silent for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=_ANSWER_TIMEOUT_S).close()
    except OSError as error:
        raise NasError(f"{_NO_CLUSTER.format(address)}: {describe(error)}; {_REMEDY}") from error


# -- one machine of a cluster


class Machine:
    """An object that lives on the machine of a cluster that carries a resource, `ray start --resources='{"pi5": 1}'`.

    It takes the whole resource, so that whoever else wants the machine waits. What is sent to it takes its classes
    along: those of a run file and its neighbours are not installed there.

    Args:
        make: makes the object there; it must be of an installed module.
        address: "auto" for the cluster of `RAY_ADDRESS` or of this machine, or a Ray address such as "ray://head:10001".
        timeout_s: how long the machine may take to answer.

    Raises:
        NasError: Ray is missing, no cluster answers, or no machine of it carries the resource.
    """

    def __init__(
        self, resource: str, make: Callable[[], Any], address: str = "auto", num_gpus: int = 0, timeout_s: float = 300.0
    ) -> None:
        self._resource, self._timeout_s = resource, timeout_s
        self._ray = ray = _import_ray()
        given = os.environ.get("RAY_ADDRESS", address) if address == "auto" else address
        if not ray.is_initialized() and (given == "local" or not _joined(ray, given)):
            start = "ray start --head --port=6379"
            raise NasError(
                f"{_NO_CLUSTER.format(given)}: run {start} here, and on {resource!r} {self._command('HERE')}"
            )
        if not ray.cluster_resources().get(resource):
            head = ray.get_runtime_context().gcs_address
            raise NasError(
                f"no machine of the Ray cluster at {head} carries {resource!r}: run on it {self._command(head)}"
            )
        actor = ray.remote(_Holder).options(
            num_cpus=0, num_gpus=num_gpus, resources={resource: 1}, runtime_env={"env_vars": _worker_environment()}
        )
        self._actor = actor.remote(make)

    def call(self, method: str, *arguments: Any, busy_s: float = 0.0) -> Any:
        """What a method of the object returns; its NasErrors are raised here.

        Args:
            busy_s: how long the call may work, beside the time for its answer.
        """
        wait_s = self._timeout_s + busy_s
        _ship_by_value(self._ray.cloudpickle)
        try:
            value, error = self._ray.get(self._actor.call.remote(method, arguments), timeout=wait_s)
        except self._ray.exceptions.GetTimeoutError:
            rule = "it is taken by another search, or too slow: wait, or give more time (timeout_s=...)"
            raise NasError(f"{self._resource!r} did not answer within {wait_s:g} s: {rule}") from None
        except self._ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[-1].strip()
            remedy = "see that this package and all that the network imports are installed on that machine"
            raise NasError(f"{self._resource!r} failed: {reason}; {remedy}") from error
        if error is not None:
            raise error
        return value

    def _command(self, head: str) -> str:
        return f"ray start --address={head}{'' if ':' in head else ':6379'} --resources='{{\"{self._resource}\": 1}}'"


class _Holder:
    """Runs inside a Ray actor."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._made: Any = None

    def call(self, method: str, arguments: tuple[Any, ...]) -> tuple[Any, NasError | None]:
        """What the method returned, or the error that a user can put right: Ray would wrap it in a page of text."""
        try:
            self._made = self._made or self._make()
            return getattr(self._made, method)(*arguments), None
        except NasError as error:
            return None, error


def _ship_by_value(cloudpickle: Any) -> None:
    """Has classes and functions travel as code where their module is not an installed one, as a run file's are."""
    installed = tuple(
        {os.path.realpath(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    )
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        ours = name.partition(".")[0] in ("nas", "supernets", "search_spaces")
        if file and not ours and name != "__main__" and not os.path.realpath(file).startswith(installed):
            cloudpickle.register_pickle_by_value(module)
