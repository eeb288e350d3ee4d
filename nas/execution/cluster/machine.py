"""Runs work on one machine of a Ray cluster: an object on the machine that has a resource."""

import os
import sys
import sysconfig
from collections.abc import Callable
from typing import Any

from nas.errors import NasError
from nas.execution.cluster.connection import NO_CLUSTER, address_of, import_ray, joined, worker_environment


class Machine:
    """An object on the cluster's machine that has a resource: `ray start --resources='{"pi5": 1}'`.

    It reserves the whole resource, so that other users of the machine wait. Arguments are sent with the code of their
    classes, since those of a run file are not installed on the machine.

    Args:
        make: creates the object on the machine; it must belong to an installed module.
        address: "auto" for the cluster of `RAY_ADDRESS` or of this machine, or a Ray address such as "ray://head:10001".
        timeout_s: seconds within which the machine must answer.

    Raises:
        NasError: Ray is missing, no cluster answers, or none of its machines has the resource.
    """

    def __init__(
        self, resource: str, make: Callable[[], Any], address: str = "auto", num_gpus: int = 0, timeout_s: float = 300.0
    ) -> None:
        self._resource, self._timeout_s = resource, timeout_s
        self._ray = ray = import_ray()
        given = address_of(address)
        if not ray.is_initialized() and (given == "local" or not joined(ray, given)):
            start = "ray start --head --port=6379"
            raise NasError(f"{NO_CLUSTER.format(given)}: run {start} here, and on {resource!r} {self._command('HERE')}")
        if not ray.cluster_resources().get(resource):
            head = ray.get_runtime_context().gcs_address
            raise NasError(
                f"no machine of the Ray cluster at {head} carries {resource!r}: run on it {self._command(head)}"
            )
        actor = ray.remote(_Holder).options(
            num_cpus=0, num_gpus=num_gpus, resources={resource: 1}, runtime_env={"env_vars": worker_environment()}
        )
        self._actor = actor.remote(make)

    def call(self, method: str, *arguments: Any, busy_s: float = 0.0) -> Any:
        """Call a method of the object and return its result.

        Args:
            busy_s: seconds that the call may work, in addition to `timeout_s`.

        Raises:
            NasError: the method raised it, or the machine failed or did not answer in time.
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
        """Return the method's result, or its NasError: Ray would wrap a raised one in a page of text."""
        try:
            self._made = self._made or self._make()
            return getattr(self._made, method)(*arguments), None
        except NasError as error:
            return None, error


def _ship_by_value(cloudpickle: Any) -> None:
    """Pickle classes and functions of modules that are not installed, such as a run file, by value."""
    installed = tuple(
        {os.path.realpath(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    )
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        ours = name.partition(".")[0] in ("nas", "supernets", "search_spaces")
        if file and not ours and name != "__main__" and not os.path.realpath(file).startswith(installed):
            cloudpickle.register_pickle_by_value(module)
