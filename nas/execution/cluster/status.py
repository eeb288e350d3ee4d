"""What a running Ray cluster has: nodes, resources, and the workers of searches."""

from dataclasses import dataclass, field

from nas.errors import NasError
from nas.execution.cluster.connection import NO_CLUSTER, OURS, address_of, import_ray, joined


@dataclass(frozen=True)
class Node:
    address: str
    resources: dict[str, float]
    """CPU, GPU, and what names a machine, such as `pi5`."""


@dataclass(frozen=True)
class ClusterStatus:
    address: str
    nodes: list[Node]
    free: dict[str, float]
    """Of all nodes together."""
    workers: dict[str, list[str]] = field(default_factory=dict)
    """Those of searches, by the driver they belong to, as in "host 1234"."""


def status(address: str = "auto") -> ClusterStatus:
    """Of a running cluster; NasError where none answers."""
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
    """Without what Ray keeps for itself: addresses, and memory, which it counts in bytes."""
    return {name: n for name, n in sorted(resources.items()) if ":" not in name and not name.endswith("memory")}
