"""The status of a running Ray cluster: nodes, resources, and the workers of searches."""

from dataclasses import dataclass, field

from nas.errors import NasError
from nas.execution.cluster.connection import NO_CLUSTER, OURS, address_of, import_ray, joined


@dataclass(frozen=True)
class Node:
    address: str
    resources: dict[str, float]
    """CPU, GPU, and resources that name a machine, such as `pi5`."""


@dataclass(frozen=True)
class ClusterStatus:
    address: str
    nodes: list[Node]
    free: dict[str, float]
    """Free resources of all nodes together."""
    workers: dict[str, list[str]] = field(default_factory=dict)
    """Names of the searches' workers, by driver, as in "host 1234"."""


def status(address: str = "auto") -> ClusterStatus:
    """Return the status of a running cluster; raise NasError if none answers."""
    ray = import_ray()
    given = address_of(address)
    connected_here = not ray.is_initialized()
    if connected_here and (given == "local" or not joined(ray, given)):
        raise NasError(f"{NO_CLUSTER.format(given)}: start one with ray start --head --port=6379")
    try:
        nodes = [Node(node["NodeManagerAddress"], _named(node["Resources"])) for node in ray.nodes() if node["Alive"]]
        workers: dict[str, list[str]] = {}
        for actor in ray.util.list_named_actors(all_namespaces=True):
            if actor["namespace"].startswith(OURS):
                workers.setdefault(actor["namespace"].removeprefix(OURS), []).append(actor["name"].partition("/")[0])
        head = ray.get_runtime_context().gcs_address
        return ClusterStatus(head, nodes, _named(ray.available_resources()), {k: sorted(workers[k]) for k in workers})
    finally:
        if connected_here:
            ray.shutdown()


def _named(resources: dict[str, float]) -> dict[str, float]:
    """Return the resources without Ray's internal ones (addresses) and memory, which it counts in bytes."""
    return {name: n for name, n in sorted(resources.items()) if ":" not in name and not name.endswith("memory")}
