"""Compression of trained networks: pruning, sorting of units, merging of layers and reconstruction."""
