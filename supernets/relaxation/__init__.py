"""Relaxed supernets: the differentiable expectation over a mixture of architectures."""

from supernets.relaxation.mixture import Joint, Mixture
from supernets.relaxation.tables import RelaxationError, Table, tabulate

__all__ = ["Joint", "Mixture", "RelaxationError", "Table", "tabulate"]
