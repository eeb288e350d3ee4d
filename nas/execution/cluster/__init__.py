"""Ray clusters: evaluations on their workers, and work on one machine of them. Ray is imported here alone."""

from nas.execution.cluster.executor import Actors, RayExecutor
from nas.execution.cluster.machine import Machine

__all__ = ["Actors", "Machine", "RayExecutor"]
