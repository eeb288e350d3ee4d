"""Evaluates on actors of a Ray cluster."""

import os
import socket
import uuid
from typing import Any

from nas.execution.cluster.connection import OURS, LocalCluster, import_ray, join_or_start, worker_environment
from nas.execution.executors import Evaluate
from nas.execution.pool import START_TIMEOUT_S, Answer, Died, Done, Pool, Ready, Worker, Workers
from search_spaces import Architecture


class RayExecutor(Pool):
    """Evaluates on `num_workers` Ray actors, each with one CPU and one thread.

    Args:
        address: "auto" joins the running cluster (`RAY_ADDRESS`, or one on this machine), or starts a local one if
            there is none; "local" always starts one; otherwise a Ray address such as "ray://head:10001".
        num_gpus: share of a GPU that Ray reserves for each worker. It is bookkeeping, not a memory limit.
        num_workers, timeout_s, start_timeout_s: as in `Pool`.

    Closing it ends its workers, and the cluster only if it started that.
    """

    def __init__(
        self,
        address: str = "auto",
        num_workers: int = 2,
        num_gpus: float = 0.0,
        timeout_s: float | None = None,
        start_timeout_s: float = START_TIMEOUT_S,
    ) -> None:
        super().__init__(Actors(address, num_workers, num_gpus), num_workers, timeout_s, start_timeout_s)


class Actors(Workers):
    kind = "ray"

    def __init__(self, address: str, num_workers: int, num_gpus: float = 0.0) -> None:
        self._address = address
        self._num_workers = num_workers
        self._num_gpus = num_gpus
        self._ray: Any = None
        self._local: LocalCluster | None = None
        self._evaluator: Any = None
        self._actors: dict[int, Any] = {}
        self._asked: dict[Any, int] = {}  # worker by pending result

    def hold(self, evaluate: Evaluate) -> None:
        self._join()
        self._evaluator = self._ray.put(evaluate)

    def _join(self) -> None:
        if self._ray is None:
            ray = import_ray()
            if not ray.is_initialized():
                self._local = join_or_start(ray, self._address, self._num_workers)
            self._ray = ray

    def begin(self, worker: int) -> None:
        if worker not in self._actors:
            actor = self._ray.remote(Worker).options(
                num_cpus=1,
                num_gpus=self._num_gpus,
                max_restarts=0,
                runtime_env={"env_vars": worker_environment()},
                namespace=f"{OURS}{socket.gethostname()} {os.getpid()}",
                name=f"{self.name(worker)}/{uuid.uuid4().hex}",  # unique: a killed actor's name is not free at once
            )
            self._actors[worker] = actor.remote(self.name(worker))
        self._asked[self._actors[worker].hold.remote(self._evaluator)] = worker

    def evaluate(self, worker: int, arch: Architecture) -> None:
        self._asked[self._actors[worker].evaluate.remote(arch.json())] = worker

    def answers(self, timeout_s: float | None) -> list[Answer]:
        refs = list(self._asked)
        ready, _ = self._ray.wait(refs, num_returns=1, timeout=timeout_s)
        if ready:
            ready, _ = self._ray.wait(refs, num_returns=len(refs), timeout=0)
        return [self._answer(ref) for ref in ready]

    def _answer(self, ref: Any) -> Answer:
        worker = self._asked.pop(ref)
        try:
            answer = self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            return Died(worker, _in_short(error))
        return Ready(worker, answer) if isinstance(answer, str) else Done(worker, answer)

    def end(self, worker: int) -> None:
        if worker in self._actors:
            self._ray.kill(self._actors.pop(worker))
            self._asked = {ref: other for ref, other in self._asked.items() if other != worker}

    def close(self) -> None:
        self._evaluator = None
        if self._local is not None:
            self._local.close()
            self._local = None
        self._ray = None

    def host(self) -> str:
        self._join()
        return str(self._ray.util.get_node_ip_address())

    def room(self) -> str:
        total = self._ray.cluster_resources()
        each = f"1 CPU and {self._num_gpus:g} GPU each"
        return f" with {each} on a cluster of {total.get('CPU', 0):g} CPUs and {total.get('GPU', 0):g} GPUs"


def _in_short(error: Exception) -> str:
    """Return the first part of the last line of Ray's long message."""
    return str(error).strip().splitlines()[-1].partition(" Worker exit")[0].strip(" .")
