"""A Vision Transformer (arXiv:2010.11929), pre-norm, mean-pooled, with fixed head size and separate q, k and v.

    images (N, C, S, S) -> patches (N, T, width) -> blocks -> mean over T -> classes (N, K)

A choice of heads therefore keeps whole heads, and a slice of q, k or v is a block of leading rows.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernets.structure import stack


class Attention(nn.Module):
    """Self-attention with `num_heads` heads of `head_size`, on inputs of `width`."""

    def __init__(self, width: int, num_heads: int, head_size: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(width, num_heads * head_size)
        self.key = nn.Linear(width, num_heads * head_size)
        self.value = nn.Linear(width, num_heads * head_size)
        self.out = nn.Linear(num_heads * head_size, width)

    def forward(self, x: Tensor) -> Tensor:
        # (N, T, heads * size) -> (N, heads, T, size) and back
        q, k, v = (
            layer(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        y: Tensor = self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return y


class MLP(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.down(F.gelu(self.up(x)))
        return y


class Block(nn.Module):
    def __init__(self, width: int, num_heads: int, ratio: float, head_size: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, num_heads, head_size)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = MLP(width, round(width * ratio))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x))
        y: Tensor = x + self.mlp(self.mlp_norm(x))
        return y


class VisionTransformer(nn.Module):
    """Patch embedding, learned positions, blocks and classifier of an architecture; see `build`."""

    def __init__(
        self, arch: Any, num_classes: int, in_channels: int, image_size: int, patch_size: int, head_size: int
    ) -> None:
        super().__init__()
        self.patches = nn.Conv2d(in_channels, arch.width, patch_size, patch_size)
        self.positions = nn.Parameter(torch.empty((image_size // patch_size) ** 2, arch.width))
        choices = zip(arch.heads, arch.ratio, strict=True)
        self.blocks = stack(Block(arch.width, heads, ratio, head_size) for heads, ratio in choices)
        self.norm = nn.LayerNorm(arch.width)
        self.classifier = nn.Linear(arch.width, num_classes)
        self.apply(_initialise)
        nn.init.normal_(self.positions, std=0.02)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patches(images).flatten(2).transpose(1, 2) + self.positions
        logits: Tensor = self.classifier(self.norm(self.blocks(x)).mean(1))
        return logits


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)


def build(
    arch: Any,
    *,
    num_classes: int = 10,
    in_channels: int = 1,
    image_size: int = 8,
    patch_size: int = 2,
    head_size: int = 16,
) -> VisionTransformer:
    """Return the network of `arch`, which has `width`, and per block `heads` and `ratio` (hidden over width of the
    MLP).

    Raises:
        ValueError: the patches do not tile the image.
    """
    if image_size % patch_size:
        raise ValueError(f"patch_size={patch_size}: {image_size} pixels do not divide into it, choose a divisor")
    return VisionTransformer(arch, num_classes, in_channels, image_size, patch_size, head_size)
