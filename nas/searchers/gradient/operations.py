"""Finds choices among operations, and the operations without parameters, to which searches collapse."""

from __future__ import annotations

from torch import nn

from supernets import Supernet
from supernets.skeleton import build_skeleton
from supernets.structure import OneOf


def parameter_free(supernet: Supernet) -> dict[str, tuple[bool, ...]]:
    """Whether each declared option has no parameters, by path of the choices that select an alternative of a `one_of`.

    Options outside a narrowed space count as having parameters.
    """
    found = {}
    space = supernet.space
    for index, (slot, kept) in enumerate(zip(space.slots, space.domains, strict=True)):
        archs = {code: space.largest_with({index: code}) for code in kept}
        picked = {
            code: _picked(build_skeleton(supernet.build, arch)) for code, arch in archs.items() if arch is not None
        }
        moved = [
            name for name in _common(picked) if len({operations[name].chosen for operations in picked.values()}) > 1
        ]
        if moved:
            found[slot.path] = tuple(
                code in picked and not any(True for name in moved for _ in picked[code][name].parameters())
                for code in range(len(slot.options))
            )
    return found


def _picked(network: nn.Module) -> dict[str, OneOf]:
    return {name: module for name, module in network.named_modules() if isinstance(module, OneOf)}


def _common(picked: dict[int, dict[str, OneOf]]) -> list[str]:
    """Names of the `one_of` modules that all these networks have."""
    first = next(iter(picked.values()), {})
    return [name for name in first if all(name in operations for operations in picked.values())]
