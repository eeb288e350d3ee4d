"""Distances between what a network and its parent compute; each is 0 where they agree.

The parent's side gets no gradient. N examples, T positions, d features; widths d must agree unless stated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from supernets.features import frame_loss
from supernets.losses import _wide as wide


def divergence(outputs: Tensor, parent: Tensor, temperature: float = 1.0) -> Tensor:
    """Return the mean over rows of T^2 KL(softmax(parent / T), softmax(outputs / T)) in nats; logits (..., classes).

    The factor T^2 keeps the gradient's scale as T grows (arXiv:1503.02531, section 2.1). Implementations that also
    divide by the number of classes, such as DeiT's, need a weight that is larger by this number.
    """
    log_q = (wide(outputs) / temperature).log_softmax(-1)
    log_p = (wide(parent.detach()) / temperature).log_softmax(-1)
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(-1).mean()


def cosine_distance(outputs: Tensor, parent: Tensor) -> Tensor:
    """Return the mean over rows of 1 - cos; both are (..., d)."""
    return (1 - F.cosine_similarity(wide(outputs), wide(parent.detach()), dim=-1)).mean()


def squared_error(outputs: Tensor, parent: Tensor) -> Tensor:
    """Return the mean squared difference over rows and features."""
    return (wide(outputs) - wide(parent.detach())).square().mean()


def gram_error(hidden: Tensor, parent: Tensor) -> Tensor:
    """Return the mean squared difference of the cosines between positions of an example, (N, ..., d).

    Widths d may differ. Inputs (N, d) have no positions, so the cosines are between examples. This is the hidden
    relation of MiniViT (arXiv:2204.07154).
    """
    return squared_error(_cosines(hidden), _cosines(parent))


def _cosines(hidden: Tensor) -> Tensor:
    unit = F.normalize(wide(hidden), dim=-1)
    unit = unit.flatten(1, -2) if unit.dim() > 3 else unit
    return _products(unit, unit)


def _products(one: Tensor, other: Tensor) -> Tensor:
    """Return (..., n, m) from (..., n, d) and (..., m, d), without autocast: bfloat16 is too coarse for cosines *
    50."""
    with torch.autocast(one.device.type, enabled=False):
        return one @ other.transpose(-1, -2)


def relation_divergence(
    student: Sequence[Tensor], parent: Sequence[Tensor], between: Sequence[tuple[int, int]], heads: int = 1
) -> Tensor:
    """Return the mean over pairs (i, j), heads and positions of KL(R_ij of the parent, R_ij of the student).

    R_ij = softmax(X_i X_j^T / sqrt(d)) is T x T, so widths may differ; X are queries, keys and values, each
    (N, T, heads x d). MiniLM v2 (arXiv:2012.15828) and MiniViT (arXiv:2204.07154) use the cross-entropy, which differs
    only by a constant, the entropy of the parent's relations.
    """
    one, other = ([_heads(wide(x), heads) for x in side] for side in (student, parent))
    terms = [divergence(_scores(one[i], one[j]), _scores(other[i], other[j])) for i, j in between]
    return sum(terms[1:], terms[0]) / len(terms)


def _heads(x: Tensor, heads: int) -> Tensor:
    """Reshape (N, T, heads * d) to (N, heads, T, d)."""
    return x.view(*x.shape[:-1], heads, -1).transpose(-2, -3)


def _scores(queries: Tensor, keys: Tensor) -> Tensor:
    return _products(queries, keys) / math.sqrt(queries.shape[-1])


def affinity_divergence(
    student: tuple[Tensor, Tensor], parent: tuple[Tensor, Tensor], scale: float, parent_scale: float | None = None
) -> Tensor:
    """Return the average of the mean KL over rows and over columns of affinities A = scale I T^T in a batch.

    I and T are embeddings (N, d) of a pair of encoders, which the function normalises; widths d may differ. TinyCLIP
    (arXiv:2309.12314) uses cross-entropies, which differ only by the entropies of the parent's affinities. If I and T
    are the same tensor, the function omits each example's affinity to itself, which is constant.
    """
    own = _affinity(*student, scale)
    taught = _affinity(*parent, scale if parent_scale is None else parent_scale)
    if student[0] is student[1]:  # rows and columns are the same
        return divergence(_off_diagonal(own), _off_diagonal(taught))
    return (divergence(own, taught) + divergence(own.T, taught.T)) / 2


def _affinity(first: Tensor, second: Tensor, scale: float) -> Tensor:
    return scale * _products(F.normalize(wide(first), dim=-1), F.normalize(wide(second), dim=-1))


def _off_diagonal(square: Tensor) -> Tensor:
    """Map (n, n) to (n, n - 1) without the diagonal: drop the first entry, then every (n + 1)th."""
    n = len(square)
    return square.flatten()[1:].view(n - 1, n + 1)[:, :-1].reshape(n, n - 1)


COMPARISONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": squared_error,
    "cosine": cosine_distance,
    "frames": frame_loss,
    "gram": gram_error,
}
"""Comparisons of hidden states; only "gram" accepts different widths."""

FIDELITIES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"kl": divergence, "cosine": cosine_distance}
"""Metrics of outputs: the distance of a network from its parent."""
