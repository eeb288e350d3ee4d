"""Apply the rules of autocast for torch's layers to the layers implemented in this package.

Products run in autocast's dtype. Norms and sums of probabilities run in full precision.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

_HALVES = (torch.float16, torch.bfloat16)


def product_type(x: Tensor) -> torch.dtype:
    """Return the dtype of a product with this tensor."""
    kind = x.device.type
    autocast = torch.is_autocast_enabled(kind) and x.dtype is not torch.float64
    return torch.get_autocast_dtype(kind) if autocast else x.dtype


def for_norm(x: Tensor) -> Tensor:
    """Return a tensor in the precision that norms require: at least float32."""
    return x.float() if x.dtype in _HALVES else x


def as_norm(y: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a norm's output in the dtype of its input, or in full precision under autocast."""
    return y if torch.is_autocast_enabled(y.device.type) else y.to(dtype)


def exactly(kind: str) -> AbstractContextManager[object]:
    """Return a context that disables autocast on a device type."""
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()
