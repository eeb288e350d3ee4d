"""Metrics that are sums over a network's choices, and their exact fronts by integer programming."""
