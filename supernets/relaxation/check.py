"""Whether a relaxation is right: where the mixture is one network, it must compute what that network computes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from supernets.relaxation.mixture import Mixture
from supernets.relaxation.tables import RelaxationError
from supernets.skeleton import build_skeleton

if TYPE_CHECKING:
    from supernets.supernet import Supernet

TOLERANCE = 1e-3
"""Of the largest output, in float32: rounding makes 1e-5, a model that cannot be relaxed 1e-2 and more."""


def check(supernet: Supernet, example: Tensor | tuple[Tensor, ...], n: int = 4, seed: int = 0) -> None:
    """Compare relaxations with the networks themselves, for the smallest network and ``n`` drawn ones.

    Raises:
        RelaxationError: one differs; the message says by how much, and which attributes of the model change with the
            architecture without being sizes.
    """
    inputs = tuple(part.to(supernet.device) for part in (example if isinstance(example, tuple) else (example,)))
    archs = [supernet.space.smallest(), *supernet.space.sample_many(n, np.random.default_rng(seed), uniform="choices")]
    for arch in archs:
        with torch.no_grad():
            relaxed = supernet.relax(Mixture.one_hot(supernet.space, arch)).eval()
            try:
                found, wanted = relaxed(*inputs), supernet.subnet(arch).eval()(*inputs)
            except (RuntimeError, TypeError) as error:
                raise RelaxationError(
                    f"the relaxation of {arch.json()} fails: {str(error).splitlines()[0]}; {_hint(supernet)}"
                ) from error
        if found.shape != wanted.shape:
            raise RelaxationError(
                f"the relaxation of {arch.json()} gives {tuple(found.shape)} where the network gives "
                f"{tuple(wanted.shape)}; {_hint(supernet)}"
            )
        missed = float((found - wanted).abs().max()) / (float(wanted.abs().max()) or 1.0)
        if not missed <= TOLERANCE:
            raise RelaxationError(
                f"the relaxation of {arch.json()} is {missed:.1e} of the output away from the network; "
                f"{_hint(supernet)}"
            )


def _hint(supernet: Supernet) -> str:
    """What to change in the model, as far as its attributes tell."""
    networks = [build_skeleton(supernet.build, arch) for arch in (supernet.space.largest(), supernet.space.smallest())]
    large, small = (dict(_attributes(network)) for network in networks)
    changing = [name for name, value in large.items() if name in small and small[name] != value]
    remedy = "forward may depend on the architecture by sizes, stack and one_of only"
    if not changing:
        return f"{remedy}, and what it does to absent channels must leave them 0"
    return f"{remedy}, and these change with it: {', '.join(changing[:5])}{', ...' * (len(changing) > 5)}"


def _attributes(network: nn.Module) -> Iterator[tuple[str, object]]:
    """Plain attributes of modules, those that torch keeps for sizes left out."""
    for path, own in network.named_modules():
        for name, value in vars(own).items():
            if not name.startswith("_") and name not in _SIZES and isinstance(value, bool | int | float | str | tuple):
                yield f"{path}.{name}".lstrip("."), value


_SIZES = {"in_features", "out_features", "in_channels", "out_channels", "num_features", "normalized_shape"}
_SIZES |= {"num_channels", "num_embeddings", "embedding_dim", "groups", "kernel_size", "padding", "training"}
