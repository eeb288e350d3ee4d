"""Metrics that are sums over the choices of a network, and the exact search of their fronts by integer programming."""
