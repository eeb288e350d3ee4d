"""What autocast does to torch's own layers, for those that are written out here.

Products run in autocast's type. Norms, and everything that probabilities are added up in, run in full precision.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

_HALVES = (torch.float16, torch.bfloat16)


def product_type(x: Tensor) -> torch.dtype:
    """The type of a product with this tensor."""
    kind = x.device.type
    autocast = torch.is_autocast_enabled(kind) and x.dtype is not torch.float64
    return torch.get_autocast_dtype(kind) if autocast else x.dtype


def for_norm(x: Tensor) -> Tensor:
    """A tensor as norms take it."""
    return x.float() if x.dtype in _HALVES else x


def as_norm(y: Tensor, dtype: torch.dtype) -> Tensor:
    """What a norm gives for an input of this type: autocast leaves it in full precision."""
    return y if torch.is_autocast_enabled(y.device.type) else y.to(dtype)


def exactly(kind: str) -> AbstractContextManager[object]:
    """Without autocast, on a kind of device."""
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()
