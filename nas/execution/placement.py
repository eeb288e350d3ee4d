"""Where work runs, from a command's flags: in this process, on processes of this machine, or on Ray."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nas.errors import NasError

if TYPE_CHECKING:
    from nas.execution.executors import Executor
    from nas.execution.pool import Workers

_CLUSTER_WORKERS = 2


@dataclass(frozen=True)
class Placement:
    """Creates executors and training workers.

    Args:
        cluster: None for this machine; "auto", "local" or an address for Ray.
        workers: number of workers; None evaluates in this process, or on 2 workers of a cluster.
        timeout_s: time limit of an evaluation in seconds. Enforcing it kills a process, so a worker process evaluates
            in place of this one.
        trainers: number of processes that train a supernet together, including this one, each on a share of every
            batch.

    Raises:
        NasError: `cluster` needs Ray, which is not installed; or `timeout_s` or `trainers` is out of range.
    """

    cluster: str | None = None
    workers: int | None = None
    timeout_s: float | None = None
    trainers: int = 1

    def __post_init__(self) -> None:
        if self.cluster is not None and importlib.util.find_spec("ray") is None:
            raise NasError("evaluating on a cluster needs Ray, which is not installed: pip install nas[ray]")
        if self.timeout_s is not None and not 0 < self.timeout_s < math.inf:
            raise NasError(
                f"timeout = {self.timeout_s!r}: an evaluation may take more than 0 s; leave it out for no limit"
            )

        if self.trainers < 1:
            raise NasError(f"trainers = {self.trainers}: this process trains too, so it is 1 or more")

    @property
    def here(self) -> bool:
        """Whether this process evaluates."""
        return self.cluster is None and self.workers is None and self.timeout_s is None

    @property
    def at_once(self) -> int:
        """Number of evaluations that run at the same time."""
        return self.workers or (1 if self.cluster is None else _CLUSTER_WORKERS)

    def executor(self) -> Executor:
        if self.here:
            from nas.execution.executors import (
                InProcess,
            )  # loads numpy, which help and error messages need not wait for

            return InProcess()
        if self.cluster is not None:
            from nas.execution.cluster import RayExecutor

            return RayExecutor(self.cluster, self.at_once, timeout_s=self.timeout_s)
        from nas.execution.processes import ProcessExecutor

        return ProcessExecutor(self.at_once, self.timeout_s)

    def workers_for(self, number: int) -> Workers:
        """Return workers for work other than evaluations."""
        if self.cluster is not None:
            from nas.execution.cluster import Actors

            return Actors(self.cluster, number)
        from nas.execution.processes import Processes

        return Processes()


HERE = Placement()
