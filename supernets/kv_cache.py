"""Memory of a language model during generation: the bytes of its key-value cache, and of its weights.

The widths of keys and values come from the layers that compute them, either separate, as in Llama, or fused with the
queries, as in GPT-2 and Phi-3. Only shapes matter, so networks are built on the meta device.
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase

from torch import nn

from search_spaces import Architecture
from supernets.errors import SupernetError
from supernets.families import key_value_features
from supernets.skeleton import Build, build_skeleton


def kv_cache_bytes(network: nn.Module, batch: int, length: int, value_bytes: int = 2, layers: str = "*") -> int:
    """Return the size of a network's key-value cache in bytes, over all attention modules whose name fits a pattern.

    Args:
        batch: number of sequences at a time.
        length: number of tokens per sequence.
        value_bytes: bytes per value, 2 in half precision.
        layers: `decoder.*` leaves the encoder out, which keeps nothing.

    Raises:
        SupernetError: no known kind of attention is there.
    """
    features = sum(_features(network, layers))
    if not features:
        raise SupernetError(
            f"no attention with keys and values that are known is in a module named {layers!r}: name other layers, or "
            "give the run a cost of your own, extra_costs={'kv_cache_bytes': lambda arch: ...}"
        )
    return features * batch * length * value_bytes


def _features(network: nn.Module, layers: str) -> Iterator[int]:
    for path, owner in network.named_modules():
        if fnmatchcase(path, layers):
            yield key_value_features(owner)


class InferenceMemory:
    """Bytes for generation, by architecture: the weights and the key-value cache, without activations.

    Pass it as a cost of a run, `extra_costs={"memory_bytes": InferenceMemory(build, batch=8, length=4096)}`, so that
    objectives and limits can use it.

    Args:
        build: of the run.
        weights: whether the weights count; False for the cache alone.
        batch, length, value_bytes, layers: of `kv_cache_bytes`; weights are of `value_bytes` a number too.
    """

    def __init__(
        self,
        build: Build,
        *,
        batch: int = 1,
        length: int = 1024,
        value_bytes: int = 2,
        layers: str = "*",
        weights: bool = True,
    ) -> None:
        for name, value in (("batch", batch), ("length", length), ("value_bytes", value_bytes)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise SupernetError(f"{name} = {value!r}: give a whole number, 1 or more")
        self.build = build
        self.batch, self.length, self.value_bytes = batch, length, value_bytes
        self.layers = layers
        self.weights = weights

    def __call__(self, arch: Architecture) -> float:
        """Return the bytes.

        Raises:
            SupernetError: the network has no known kind of attention.
        """
        network = build_skeleton(self.build, arch)
        kept = kv_cache_bytes(network, self.batch, self.length, self.value_bytes, self.layers)
        own = sum(parameter.numel() for parameter in network.parameters()) if self.weights else 0
        return float(kept + own * self.value_bytes)
