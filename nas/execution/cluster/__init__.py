"""Ray clusters: evaluations on their workers, and work on one of their machines. Only this package imports Ray."""

from nas.execution.cluster.executor import Actors, RayExecutor
from nas.execution.cluster.machine import Machine

__all__ = ["Actors", "Machine", "RayExecutor"]
