"""Ray itself: imported quietly, joined where it runs or started on this machine's loopback interface alone."""

import logging
import os
import socket
import subprocess
import sys
import uuid
from typing import Any

from nas.errors import NasError
from nas.execution.cluster import watchdog
from nas.execution.executors import describe
from nas.execution.pool import environment

_logger = logging.getLogger(__name__)

OURS = "nas "
"""How the namespaces of our actors begin."""
_ENVIRONMENT = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # a local cluster listens on the loopback interface alone
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
}
_MARK = "NAS_LOCAL_CLUSTER"
_OBJECT_STORE_BYTES = 200 * 2**20
_ANSWER_TIMEOUT_S = 10.0
NO_CLUSTER = "no Ray cluster answers at {!r}"
_REMEDY = "start one there, or use the address 'local'"


def import_ray() -> Any:
    """The module; NasError where it is not installed."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)  # Ray reads some of these while it is imported
    try:
        import ray
    except ImportError:
        raise NasError("evaluating on a cluster needs Ray, which is not installed: pip install nas[ray]") from None
    # Of a worker that dies it prints a page among the results, with no setting against it; a pool says it in a line.
    ray._private.worker.print_to_stdstream = lambda data, ignore_prefix: _logger.debug("%s", data["lines"])
    return ray


def address_of(address: str) -> str:
    """What "auto" stands for."""
    return os.environ.get("RAY_ADDRESS", address) if address == "auto" else address


class LocalCluster:
    """A cluster of this machine that ends with this process, also if that is killed.

    Raises:
        NasError: it did not start.
    """

    def __init__(self, ray: Any, num_cpus: int) -> None:
        self._ray = ray
        mark = uuid.uuid4().hex
        self._watchdog = subprocess.Popen(  # first, for the driver may be killed while Ray starts
            [sys.executable, "-I", "-S", watchdog.__file__, str(os.getpid()), f"{_MARK}={mark}"],
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is not for it
        )
        os.environ[_MARK] = mark
        try:
            ray.init(
                address="local",
                num_cpus=num_cpus,
                include_dashboard=False,
                log_to_driver=False,
                logging_level="ERROR",
                object_store_memory=_OBJECT_STORE_BYTES,
            )
        except BaseException as error:
            self.close()
            if not isinstance(error, Exception):
                raise
            raise NasError(
                f"a local Ray cluster did not start: {describe(error)}; free memory or processors"
            ) from error
        finally:
            del os.environ[_MARK]

    def close(self) -> None:
        self._ray.shutdown()
        self._watchdog.kill()
        self._watchdog.wait()


def join_or_start(ray: Any, address: str, num_workers: int) -> LocalCluster | None:
    """Connects to Ray; returns the cluster that was started for that, if any."""
    given = address_of(address)
    return None if given != "local" and joined(ray, given) else LocalCluster(ray, num_workers)


def joined(ray: Any, address: str) -> bool:
    """Connects to a running cluster; False where "auto" finds none, NasError for any other address."""
    _check_answers(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except ConnectionError as error:
        if address != "auto":
            raise NasError(f"{NO_CLUSTER.format(address)}: {describe(error)}; {_REMEDY}") from error
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
        raise NasError(f"{NO_CLUSTER.format(address)}: {describe(error)}; {_REMEDY}") from error


def worker_environment() -> dict[str, str]:
    """That of a pool's worker, added to what the machine of the worker has of its own."""
    ours = environment()
    return ours | {"PYTHONPATH": os.pathsep.join(["${PYTHONPATH}", ours["PYTHONPATH"]])}
