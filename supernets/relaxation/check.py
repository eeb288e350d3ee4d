"""Check a relaxation: with a one-hot mixture it must compute what that one network computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from search_spaces import Architecture, Space
from supernets.relaxation.mixture import Mixture
from supernets.relaxation.tables import RelaxationError
from supernets.skeleton import Build, build_skeleton

TOLERANCE = 1e-3
"""Largest error relative to the largest output, in float32: rounding causes 1e-5, a wrong relaxation 1e-2 or more."""


def check(
    space: Space,
    build: Build,
    subnet: Callable[[Architecture], nn.Module],
    relax: Callable[[Mixture], nn.Module],
    inputs: tuple[Tensor, ...],
    n: int = 4,
    seed: int = 0,
) -> None:
    """Compare one-hot relaxations with their networks, for the smallest network and ``n`` random ones.

    Args:
        space, build: the declaration of the supernet.
        subnet: returns the network of an architecture.
        relax: returns the relaxed network for a mixture.
        inputs: the inputs of one forward pass, on the supernet's device.

    Raises:
        RelaxationError: a relaxation fails or differs; the message gives the error, and the attributes of the model
            that depend on the architecture without being sizes.
    """
    archs = [space.smallest(), *space.sample_many(n, np.random.default_rng(seed), uniform="choices")]
    for arch in archs:
        with torch.no_grad():
            relaxed = relax(Mixture.one_hot(space, arch)).eval()
            try:
                found, wanted = relaxed(*inputs), subnet(arch).eval()(*inputs)
            except (RuntimeError, TypeError) as error:
                raise RelaxationError(
                    f"the relaxation of {arch.json()} fails: {str(error).splitlines()[0]}; {_hint(space, build)}"
                ) from error
        if found.shape != wanted.shape:
            raise RelaxationError(
                f"the relaxation of {arch.json()} gives {tuple(found.shape)} where the network gives "
                f"{tuple(wanted.shape)}; {_hint(space, build)}"
            )
        missed = float((found - wanted).abs().max()) / (float(wanted.abs().max()) or 1.0)
        if not missed <= TOLERANCE:
            raise RelaxationError(
                f"the relaxation of {arch.json()} is {missed:.1e} of the output away from the network; "
                f"{_hint(space, build)}"
            )


def _hint(space: Space, build: Build) -> str:
    """Return advice on what to change in the model, from its attributes."""
    networks = [build_skeleton(build, arch) for arch in (space.largest(), space.smallest())]
    large, small = (dict(_attributes(network)) for network in networks)
    changing = [name for name, value in large.items() if name in small and small[name] != value]
    remedy = "forward may depend on the architecture by sizes, stack and one_of only"
    if not changing:
        return f"{remedy}, and what it does to absent channels must leave them 0"
    return f"{remedy}, and these change with it: {', '.join(changing[:5])}{', ...' * (len(changing) > 5)}"


def _attributes(network: nn.Module) -> Iterator[tuple[str, object]]:
    """Yield the plain attributes of modules, except those in which torch keeps sizes."""
    for path, own in network.named_modules():
        for name, value in vars(own).items():
            if not name.startswith("_") and name not in _SIZES and isinstance(value, bool | int | float | str | tuple):
                yield f"{path}.{name}".lstrip("."), value


_SIZES = {"in_features", "out_features", "in_channels", "out_channels", "num_features", "normalized_shape"}
_SIZES |= {"num_channels", "num_embeddings", "embedding_dim", "groups", "kernel_size", "padding", "training"}
