"""Small models unlike each other, as users write them, each with its space: what every law is tried on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from search_spaces import Architecture, Space, choice
from supernets import Blocks, ensemble, one_of, stack, tie
from supernets.layout import Layouts


@dataclass(frozen=True)
class Case:
    """One model: its space, its builder, an input of batch 3, and what must be said about its layout."""

    space: Space
    build: Callable[[Architecture], nn.Module]
    example: Callable[[], Tensor]
    layout: Layouts = field(default_factory=dict)


# --- convolutions: dense, depthwise, elastic kernels, batch norm --------------------------------------------------


class ConvSpace(Space):
    width = choice(4, 6, 8)
    depth = choice(1, 2, 3)
    kernel = choice(1, 3, 5, per="depth")
    expansion = choice(1, 2, per="depth")


class Inverted(nn.Module):
    def __init__(self, width: int, kernel: int, expansion: int) -> None:
        super().__init__()
        hidden = width * expansion
        self.layers = nn.Sequential(
            nn.Conv2d(width, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.Conv2d(hidden, hidden, kernel, padding=kernel // 2, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.Hardswish(),
            nn.Conv2d(hidden, width, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def conv(arch: Architecture) -> nn.Module:
    blocks = [Inverted(arch.width, k, e) for k, e in zip(arch.kernel, arch.expansion, strict=True)]
    return nn.Sequential(
        nn.Conv2d(1, arch.width, 3, padding=1),
        stack(blocks),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(arch.width, 5),
    )


# --- grouped convolutions and group norm --------------------------------------------------------------------------


class GroupedSpace(Space):
    width = choice(4, 8, 12)
    kernel = choice(3, 5)


def grouped(arch: Architecture) -> nn.Module:
    w, k = arch.width, arch.kernel
    return nn.Sequential(
        nn.Conv2d(1, w, k, padding=k // 2),
        nn.GroupNorm(2, w),
        nn.Conv2d(w, 2 * w, k, padding=k // 2, groups=4),
        nn.GELU(),
        nn.ConvTranspose2d(2 * w, w, 2, stride=2, groups=2),
        nn.Flatten(2),
        nn.GroupNorm(1, w),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(w, 3),
    )


# --- a transformer with fused qkv and a norm of its own -----------------------------------------------------------


class FusedSpace(Space):
    width = choice(8, 12, 16)
    depth = choice(1, 2)
    heads = choice(1, 2, 3, per="depth")
    ratio = choice(1, 2, per="depth")


class FusedAttention(nn.Module):
    def __init__(self, width: int, heads: int, size: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * heads * size)
        self.out = nn.Linear(heads * size, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        q, k, v = self.qkv(x).view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, tokens, -1))


class GatedBlock(nn.Module):
    def __init__(self, width: int, heads: int, ratio: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(width), nn.LayerNorm(width)
        self.attention = FusedAttention(width, heads)
        self.gate_up = nn.Linear(width, 2 * width * ratio)
        self.down = nn.Linear(width * ratio, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        gate, up = self.gate_up(self.norm2(x)).chunk(2, -1)
        return x + self.down(F.silu(gate) * up)


def fused(arch: Architecture) -> nn.Module:
    blocks = [GatedBlock(arch.width, h, r) for h, r in zip(arch.heads, arch.ratio, strict=True)]
    return nn.Sequential(nn.Linear(5, arch.width), stack(blocks), nn.LayerNorm(arch.width), nn.Linear(arch.width, 4))


# --- torch's own attention ----------------------------------------------------------------------------------------


class EncoderSpace(Space):
    width = choice(8, 12, 16)
    feedforward = choice(8, 20)


def encoder(arch: Architecture) -> nn.Module:
    layer = nn.TransformerEncoderLayer(arch.width, 2, arch.feedforward, dropout=0.0, batch_first=True)
    return nn.Sequential(nn.Linear(5, arch.width), layer, nn.Linear(arch.width, 4))


# --- recurrent nets -----------------------------------------------------------------------------------------------


class RecurrentSpace(Space):
    cell = choice("gru", "lstm")
    hidden = choice(4, 6, 8)
    embedding = choice(3, 5)
    layers = choice(1, 2)


class Recurrent(nn.Module):
    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, arch.embedding)
        cells = {"gru": nn.GRU, "lstm": nn.LSTM}
        self.cell = one_of(
            arch.cell,
            {
                name: lambda c=cell: c(arch.embedding, arch.hidden, arch.layers, batch_first=True, bidirectional=True)
                for name, cell in cells.items()
            },
        )
        self.head = nn.Linear(2 * arch.hidden, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.cell(self.embedding(tokens))[0][:, -1])


# --- a U-shaped net, its skip concatenated ------------------------------------------------------------------------


class UShapedSpace(Space):
    width = choice(2, 4, 6)
    levels = choice(1, 2)
    middle = choice("conv", "pool")


class UShaped(nn.Module):
    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        w = arch.width
        self.stem = nn.Conv2d(1, w, 3, padding=1)
        self.down = nn.ModuleList(nn.Conv2d(w << i, w << (i + 1), 3, stride=2, padding=1) for i in range(arch.levels))
        self.up = nn.ModuleList(nn.ConvTranspose2d(w << (i + 1), w << i, 2, stride=2) for i in range(arch.levels))
        self.merge = nn.ModuleList(nn.Conv2d(2 * (w << i), w << i, 3, padding=1) for i in range(arch.levels))
        bottom = w << arch.levels
        self.middle = one_of(
            arch.middle,
            {"conv": lambda: nn.Conv2d(bottom, bottom, 3, padding=1), "pool": lambda: nn.AvgPool2d(3, 1, 1)},
        )
        self.head = nn.Conv2d(w, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips, x = [], self.stem(x)
        for down in self.down:
            skips.append(x)
            x = F.relu(down(x))
        x = self.middle(x)
        for i in reversed(range(len(self.up))):
            x = F.relu(self.merge[i](torch.cat([skips[i], self.up[i](x)], 1)))
        return self.head(x)


# --- a language model with tied embeddings, a causal mask and a rotary table --------------------------------------


class TiedSpace(Space):
    width = choice(8, 16)
    depth = choice(1, 2)
    hidden = choice(8, 24, per="depth")


class Causal(nn.Module):
    mask: Tensor
    angles: Tensor

    def __init__(self, width: int, hidden: int, context: int = 6) -> None:
        super().__init__()
        self.query, self.value = nn.Linear(width, width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.register_buffer("mask", torch.ones(context, context).tril().bool(), persistent=False)
        self.register_buffer("angles", torch.outer(torch.arange(context), 100.0 ** (-torch.arange(width) / width)))

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.shape[1]
        x = x + self.angles[:tokens].sin()
        scores = (self.query(x) @ x.transpose(1, 2)).masked_fill(~self.mask[:tokens, :tokens], float("-inf"))
        x = x + scores.softmax(-1) @ self.value(x)
        return x + self.mlp(x)


class Tied(nn.Module):
    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, arch.width)
        self.blocks = stack([Causal(arch.width, h) for h in arch.hidden])
        self.head = nn.Linear(arch.width, 11, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.blocks(self.embedding(tokens)))


# --- an ensemble with a common trunk ---------------------------------------------------------------------------------


class PathsSpace(Space):
    width = choice(4, 6)
    split = choice(2, 1, 0)
    first = choice("skip", "narrow", "wide", per=2)
    second = choice("skip", "narrow", "wide", per=2, start="split")


def forked(arch: Architecture) -> nn.Module:
    w = arch.width

    def layer(op: str) -> nn.Module:
        convolutions = {
            name: lambda k=k: nn.Conv2d(w, w, k, padding=k // 2) for name, k in (("narrow", 1), ("wide", 3))
        }
        return one_of(op, {"skip": nn.Identity, **convolutions})

    def path(ops: Sequence[str | None]) -> list[nn.Module]:
        head = nn.Sequential(nn.BatchNorm2d(w), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(w, 3))
        return [*(layer(op) for op in ops if op), head]

    return nn.Sequential(nn.Conv2d(1, w, 3, stride=2), nn.ReLU(), ensemble(path(arch.first), path(arch.second)))


# --- layers that copy the one before -------------------------------------------------------------------------------


class CopiedSpace(Space):
    width = choice(8, 12)
    copied = choice(True, False, per=2)


def copied(arch: Architecture) -> nn.Module:
    blocks = [GatedBlock(arch.width, 2, 1) for _ in range(3)]
    tie(blocks, arch.copied, but=("norm*",))
    return nn.Sequential(nn.Linear(5, arch.width), stack(blocks), nn.Linear(arch.width, 4))


# --- weights that are computed from others ---------------------------------------------------------------------------


class NormedSpace(Space):
    width = choice(4, 6, 8)
    hidden = choice(4, 8, 12)


def normed(arch: Architecture) -> nn.Module:
    w, h = arch.width, arch.hidden
    return nn.Sequential(
        spectral_norm(nn.Conv2d(1, w, 3, padding=1)),
        nn.ReLU(),
        weight_norm(nn.Conv2d(w, h, 3, stride=2)),
        nn.ReLU(),
        spectral_norm(nn.ConvTranspose2d(h, w, 2), dim=1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(w, 5),
    )


def images() -> Tensor:
    return torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def sequences() -> Tensor:
    return torch.randn(3, 6, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def tokens() -> Tensor:
    return torch.randint(11, (3, 6), generator=torch.Generator().manual_seed(1))


ZOO = {
    "conv": Case(ConvSpace(), conv, images),
    "grouped": Case(GroupedSpace(), grouped, images),
    "fused": Case(FusedSpace(), fused, sequences, {"*.qkv.*": Blocks(3), "*.gate_up.*": Blocks(2)}),
    "encoder": Case(EncoderSpace(), encoder, sequences),
    "recurrent": Case(RecurrentSpace(), Recurrent, tokens),
    "u_shaped": Case(UShapedSpace(), UShaped, images, {"merge.*.weight": Blocks(2, axis=1)}),
    "tied": Case(TiedSpace(), Tied, tokens),
    "copied": Case(CopiedSpace(), copied, sequences, {"*.qkv.*": Blocks(3), "*.gate_up.*": Blocks(2)}),
    "forked": Case(PathsSpace(), forked, images),
    "normed": Case(NormedSpace(), normed, images),
}
