"""Relaxed supernets: differentiable expectations over a mixture of architectures."""

from supernets.relaxation.cost import Cost, fitted
from supernets.relaxation.frozen import frozen
from supernets.relaxation.mixture import Joint, Mixture
from supernets.relaxation.tables import RelaxationError, Table, tabulate

__all__ = ["Cost", "Joint", "Mixture", "RelaxationError", "Table", "fitted", "frozen", "tabulate"]
