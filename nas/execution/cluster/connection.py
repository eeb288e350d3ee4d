"""Imports Ray, joins a running cluster, or starts one that listens only on this machine's loopback interface."""

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
"""Prefix of our actors' namespaces."""
_ENVIRONMENT = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # a local cluster listens only on the loopback interface
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
    """Return the module; raise NasError if it is not installed."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)  # Ray reads some of these on import
    try:
        import ray
    except ImportError:
        raise NasError("evaluating on a cluster needs Ray, which is not installed: pip install nas[ray]") from None
    # Ray prints a page about a dead worker among the results, and no setting prevents it; a pool logs one line.
    ray._private.worker.print_to_stdstream = lambda data, ignore_prefix: _logger.debug("%s", data["lines"])
    return ray


def address_of(address: str) -> str:
    """Return the address, with RAY_ADDRESS, if set, in place of "auto"."""
    return os.environ.get("RAY_ADDRESS", address) if address == "auto" else address


class LocalCluster:
    """A cluster on this machine that ends with this process, even if that is killed.

    Raises:
        NasError: the cluster did not start.
    """

    def __init__(self, ray: Any, num_cpus: int) -> None:
        self._ray = ray
        mark = uuid.uuid4().hex
        self._watchdog = subprocess.Popen(  # first, since the driver may be killed while Ray starts
            [sys.executable, "-I", "-S", watchdog.__file__, str(os.getpid()), f"{_MARK}={mark}"],
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C must not end it
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
    """Connect to Ray; return the local cluster if this call started one, else None."""
    given = address_of(address)
    return None if given != "local" and joined(ray, given) else LocalCluster(ray, num_workers)


def joined(ray: Any, address: str) -> bool:
    """Connect to a running cluster and return True; without one, return False for "auto", else raise NasError."""
    _check_answers(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except ConnectionError as error:
        if address != "auto":
            raise NasError(f"{NO_CLUSTER.format(address)}: {describe(error)}; {_REMEDY}") from error
        return False
    return True


def _check_answers(address: str) -> None:
    """Raise NasError if nothing listens at host:port; Ray itself would wait for minutes without a message."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=_ANSWER_TIMEOUT_S).close()
    except OSError as error:
        raise NasError(f"{NO_CLUSTER.format(address)}: {describe(error)}; {_REMEDY}") from error


def worker_environment() -> dict[str, str]:
    """Return the environment variables of a pool's worker; its machine's own PYTHONPATH comes first."""
    ours = environment()
    return ours | {"PYTHONPATH": os.pathsep.join(["${PYTHONPATH}", ours["PYTHONPATH"]])}
