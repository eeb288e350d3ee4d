"""Fused axes proved by a run: what a network splits in parts, it holds in parts.

A run on an input is watched at the level of torch's operators, on the meta device where that can be. Every dimension of
every tensor knows the parameter axes that it lies along, index by index. Where such a dimension is chunked, split,
unbound or sliced into parts, or has been put together out of parts, the axes along it are fused.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

Axis = tuple[str, int]
Parts = tuple[int, ...]


@dataclass(frozen=True)
class Piece:
    """A dimension is level ``at`` of a parameter's axis that is a grid of these ``levels``."""

    axis: Axis
    levels: Parts
    at: int = 0
    partial: bool = False  # other levels of the axis have been left behind

    @property
    def whole(self) -> bool:
        return len(self.levels) == 1 and not self.partial


Mark = frozenset[Piece]
Marks = tuple[Mark, ...]
NONE: Mark = frozenset()


def trace(module: nn.Module, inputs: Sequence[Tensor]) -> dict[Axis, Parts]:
    """Of parameter axes that a run splits or puts together, the sizes of the parts, in order.

    An axis that is split in several ways is in the finest parts, if the others are whole numbers of them.
    """
    watch = _Watch(module)
    with torch.no_grad(), watch:
        module(*inputs)
    return watch.found()


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # wrapped to be left out of compilation, it would import the compiler: seconds in each process

    def __init__(self, module: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._known: dict[int, tuple[Tensor, Marks]] = {}  # tensors are kept, or others would get their address
        self._coupled: dict[Axis, Axis] = {}
        self._cuts: dict[tuple[Axis, Parts, int], set[tuple[int, int]]] = defaultdict(set)
        self._joins = 0
        for name, parameter in module.named_parameters():
            pieces = (Piece((name, axis), (size,)) for axis, size in enumerate(parameter.shape))
            self._known[id(parameter)] = parameter, tuple(frozenset({piece}) for piece in pieces)

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func._schema.name.removeprefix("aten::")
        rule = _RULES.get(name, _pointwise if torch.Tag.pointwise in func.tags else None)
        if rule is not None:
            rule(self, out, *args, **{k: v for k, v in (kwargs or {}).items() if k in ("dim", "bias")})
        return out

    # --- marks

    def of(self, tensor: Tensor) -> Marks:
        known = self._known.get(id(tensor))
        return known[1] if known is not None and known[0] is tensor else (NONE,) * tensor.dim()

    def mark(self, tensor: Any, marks: Iterable[Mark]) -> None:
        marks = tuple(marks)
        if isinstance(tensor, Tensor) and any(marks) and len(marks) == tensor.dim():
            self._known[id(tensor)] = tensor, marks

    def couple(self, *marks: Mark) -> Mark:
        """What lies along one dimension index by index is cut alike; returns all of it."""
        together = frozenset().union(*marks)
        axes = [piece.axis for piece in together if piece.whole]
        for axis in axes[1:]:
            self._coupled[self._head(axis)] = self._head(axes[0])
        return together

    def _head(self, axis: Axis) -> Axis:
        while self._coupled.get(axis, axis) != axis:
            axis = self._coupled[axis]
        return axis

    # --- parts

    def cut(self, mark: Mark, start: int, stop: int) -> None:
        """A part of a dimension has been taken."""
        for piece in mark:
            self._cuts[piece.axis, piece.levels, piece.at].add((start, stop))

    def join(self, sizes: Sequence[int]) -> Mark:
        """A dimension that has been put together is an axis of its own, in these parts."""
        self._joins += 1
        piece = Piece((f"@{self._joins}", 0), (sum(sizes),))
        start = 0
        for size in sizes:
            self.cut(frozenset({piece}), start, start + size)
            start += size
        return frozenset({piece})

    def found(self) -> dict[Axis, Parts]:
        by_head: dict[Axis, set[Parts]] = defaultdict(set)
        for (axis, levels, at), intervals in self._cuts.items():
            parts = _tiling(intervals, levels[at])
            if parts is not None and prod(levels[:at]) == 1 and (len(levels) > 1 or max(parts) > 1):
                by_head[self._head(axis)].add(tuple(size * prod(levels[at + 1 :]) for size in parts))
        finest = {head: _finest(parts) for head, parts in by_head.items()}
        members = {axis for axis, _, _ in self._cuts} | set(self._coupled) | set(self._coupled.values())
        return {
            axis: parts
            for axis in sorted(members)
            if not axis[0].startswith("@") and (parts := finest.get(self._head(axis))) is not None
        }


def _tiling(intervals: Iterable[tuple[int, int]], size: int) -> Parts | None:
    """The sizes of parts that lie side by side and are all there is; None for others."""
    at, parts = 0, []
    for start, stop in sorted(intervals):
        if start != at or stop == start:
            return None
        parts.append(stop - start)
        at = stop
    return tuple(parts) if at == size and len(parts) > 1 else None


def _finest(found: Iterable[Parts]) -> Parts | None:
    """The parts whose borders contain all others'; None where there are none such."""
    best = max(found, key=len)
    borders = _borders(best)
    return best if all(_borders(parts) <= borders for parts in found) else None


def _borders(parts: Parts) -> set[int]:
    return {sum(parts[:number]) for number in range(len(parts))}


# --- what operators do with dimensions ----------------------------------------------------------------------------


def _pointwise(watch: _Watch, out: Any, *args: Any, **_: Any) -> None:
    """Dimensions are aligned from the last one, and those of size 1 are spread."""
    if not isinstance(out, Tensor):
        return
    tensors = [one for one in args if isinstance(one, Tensor)]
    marks = []
    for dim in range(-out.dim(), 0):
        aligned = [one for one in tensors if one.dim() >= -dim and one.shape[dim] == out.shape[dim]]
        marks.append(watch.couple(*(watch.of(one)[dim] for one in aligned)) if out.shape[dim] > 1 else NONE)
    watch.mark(out, marks)


def _same(watch: _Watch, out: Any, x: Tensor, *_: Any, **__: Any) -> None:
    first = out[0] if isinstance(out, tuple | list) else out
    marks = [mark if n == m else NONE for mark, n, m in zip(watch.of(x), x.shape, first.shape, strict=False)]
    watch.mark(first, marks)


def _transpose(watch: _Watch, out: Tensor, x: Tensor, first: int = 0, second: int = 1, **_: Any) -> None:
    marks = list(watch.of(x))
    if len(marks) > 1:
        marks[first], marks[second] = marks[second], marks[first]
    watch.mark(out, marks)


def _permute(watch: _Watch, out: Tensor, x: Tensor, dims: Sequence[int], **_: Any) -> None:
    watch.mark(out, [watch.of(x)[dim] for dim in dims])


def _unsqueeze(watch: _Watch, out: Tensor, x: Tensor, dim: int, **_: Any) -> None:
    marks = list(watch.of(x))
    marks.insert(dim % out.dim(), NONE)
    watch.mark(out, marks)


def _expand(watch: _Watch, out: Tensor, x: Tensor, *_: Any, **__: Any) -> None:
    new = out.dim() - x.dim()
    kept = (mark if n == m else NONE for mark, n, m in zip(watch.of(x), x.shape, out.shape[new:], strict=True))
    watch.mark(out, [*[NONE] * new, *kept])


def _view(watch: _Watch, out: Tensor, x: Tensor, *_: Any, **__: Any) -> None:
    marks = [NONE] * out.dim()
    for before, after in _groups(tuple(x.shape), tuple(out.shape)):
        if len(before) == 1:
            sizes = tuple(out.shape[dim] for dim in after)
            for number, dim in enumerate(after):
                marks[dim] = frozenset(_split(piece, sizes, number) for piece in watch.of(x)[before[0]])
        elif len(after) == 1:
            marks[after[0]] = _merged([watch.of(x)[dim] for dim in before])
    watch.mark(out, marks)


def _groups(before: Parts, after: Parts) -> list[tuple[list[int], list[int]]]:
    """Dimensions of two shapes that hold the same numbers, those of size 1 left out."""
    left = [dim for dim, size in enumerate(before) if size != 1]
    right = [dim for dim, size in enumerate(after) if size != 1]
    groups: list[tuple[list[int], list[int]]] = []
    while left and right and prod(before) > 0:
        ins, outs = [left.pop(0)], [right.pop(0)]
        while (n := prod(before[dim] for dim in ins)) != (m := prod(after[dim] for dim in outs)):
            more, dims = (ins, left) if n < m else (outs, right)
            if not dims:  # another dtype's view
                return groups
            more.append(dims.pop(0))
        groups.append((ins, outs))
    return groups


def _split(piece: Piece, sizes: Parts, number: int) -> Piece:
    levels = (*piece.levels[: piece.at], *sizes, *piece.levels[piece.at + 1 :])
    return replace(piece, levels=levels, at=piece.at + number)


def _merged(marks: Sequence[Mark]) -> Mark:
    """Of neighbouring levels, in order, the one level that they are together."""
    found = set()
    for piece in marks[0]:
        rest = [replace(piece, at=piece.at + number) for number in range(1, len(marks))]
        if all(one in mark for one, mark in zip(rest, marks[1:], strict=True)):
            stop = piece.at + len(marks)
            levels = (*piece.levels[: piece.at], prod(piece.levels[piece.at : stop]), *piece.levels[stop:])
            found.add(replace(piece, levels=levels))
    return frozenset(found)


def _left(marks: Sequence[Mark], taken: Mark) -> list[Mark]:
    """What other dimensions are when of one only a part, or an index, is left."""
    axes = {piece.axis for piece in taken}
    return [
        frozenset(replace(piece, partial=True) if piece.axis in axes else piece for piece in mark) for mark in marks
    ]


def _select(watch: _Watch, out: Tensor, x: Tensor, dim: int = 0, index: int = 0, **_: Any) -> None:
    marks, dim, index = list(watch.of(x)), dim % x.dim(), index % x.shape[dim]
    watch.cut(marks[dim], index, index + 1)
    watch.mark(out, _left(marks[:dim] + marks[dim + 1 :], marks[dim]))


def _unbind(watch: _Watch, out: Sequence[Tensor], x: Tensor, dim: int = 0, **_: Any) -> None:
    for index, one in enumerate(out):
        _select(watch, one, x, dim, index)


def _part(watch: _Watch, out: Tensor, x: Tensor, dim: int, start: int) -> None:
    marks, dim = list(watch.of(x)), dim % x.dim()
    if out.shape[dim] != x.shape[dim]:
        watch.cut(marks[dim], start, start + out.shape[dim])
        taken, marks[dim] = marks[dim], NONE
        marks = _left(marks, taken)
    watch.mark(out, marks)


def _slice(
    watch: _Watch, out: Tensor, x: Tensor, dim: int = 0, start: int | None = None, end: Any = None, step: int = 1,
    **_: Any,
) -> None:  # fmt: skip
    if step == 1:
        size = x.shape[dim]
        at = 0 if start is None else max(start + size if start < 0 else start, 0)
        _part(watch, out, x, dim, min(at, size))


def _parts(watch: _Watch, out: Sequence[Tensor], x: Tensor, _: Any, dim: int = 0, **__: Any) -> None:
    start = 0
    for one in out:
        _part(watch, one, x, dim, start)
        start += one.shape[dim]


def _glu(watch: _Watch, out: Tensor, x: Tensor, dim: int = -1, **_: Any) -> None:
    for start in (0, out.shape[dim]):
        _part(watch, out, x, dim, start)


def _cat(watch: _Watch, out: Tensor, tensors: Sequence[Tensor], dim: int = 0, **_: Any) -> None:
    tensors = [one for one in tensors if one.dim() == out.dim()]
    if len(tensors) > 1:
        dim %= out.dim()
        marks = [watch.couple(*(watch.of(one)[at] for one in tensors)) for at in range(out.dim())]
        marks[dim] = watch.join([one.shape[dim] for one in tensors])
        watch.mark(out, marks)


def _product(watch: _Watch, out: Tensor, x: Tensor, y: Tensor, *_: Any, **__: Any) -> None:
    """(..., m, k) times (..., k, n)."""
    first, second = watch.of(x), watch.of(y)
    watch.couple(first[-1], second[-2])
    watch.mark(out, [*first[:-1], second[-1]])


def _product_and_bias(watch: _Watch, out: Tensor, bias: Tensor, x: Tensor, y: Tensor, **_: Any) -> None:
    _product(watch, out, x, y)
    watch.mark(out, [*watch.of(out)[:-1], watch.couple(watch.of(out)[-1], watch.of(bias)[-1])])


def _convolution(
    watch: _Watch, out: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any, **_: Any
) -> None:
    transposed, groups = rest[3], rest[5]
    ins, outs = watch.of(weight)[:2][:: -1 if not transposed else 1]
    channels = watch.of(x)[1]
    if groups == 1:
        watch.couple(channels, ins)
    elif groups == x.shape[1] == out.shape[1]:  # depthwise: each channel goes its own way
        outs = watch.couple(channels, watch.of(weight)[0])
    elif transposed:
        watch.couple(channels, ins)
        outs = NONE
    if bias is not None:
        outs = watch.couple(outs, watch.of(bias)[0])
    watch.mark(out, [watch.of(x)[0], outs, *[NONE] * (out.dim() - 2)])


def _embedding(watch: _Watch, out: Tensor, weight: Tensor, index: Tensor, *_: Any, **__: Any) -> None:
    watch.mark(out, [*watch.of(index), watch.of(weight)[1]])


def _norm_last(watch: _Watch, out: Any, x: Tensor, shape: Sequence[int], *given: Any, **_: Any) -> None:
    _norm(watch, out, x, list(range(x.dim() - len(shape), x.dim())), given)


def _norm_second(watch: _Watch, out: Any, x: Tensor, *given: Any, **_: Any) -> None:
    _norm(watch, out, x, [1], given)


def _norm(watch: _Watch, out: Any, x: Tensor, dims: Sequence[int], given: Sequence[Any]) -> None:
    marks = list(watch.of(x))
    for one in given:
        if isinstance(one, Tensor) and one.dim() == len(dims):
            for dim, mark in zip(dims, watch.of(one), strict=True):
                marks[dim] = watch.couple(marks[dim], mark)
    watch.mark(out[0] if isinstance(out, tuple) else out, marks)


def _reduced(watch: _Watch, out: Any, x: Tensor, dims: Any = None, keep: bool = False, **_: Any) -> None:
    gone = {dim % x.dim() for dim in ((dims,) if isinstance(dims, int) else dims or range(x.dim()))}
    kept = [NONE if dim in gone else mark for dim, mark in enumerate(watch.of(x)) if keep or dim not in gone]
    watch.mark(out, kept)


def _squeeze(watch: _Watch, out: Tensor, x: Tensor, *_: Any, **__: Any) -> None:
    _view(watch, out, x)


_RULES: Mapping[str, Any] = {
    **dict.fromkeys(("t", "transpose"), _transpose),
    **dict.fromkeys(("view", "_unsafe_view", "reshape", "_reshape_alias"), _view),
    **dict.fromkeys(("alias", "detach", "clone", "contiguous", "_to_copy", "native_dropout", "lift_fresh"), _same),
    **dict.fromkeys(("_softmax", "_log_softmax", "cumsum", "constant_pad_nd"), _same),
    **dict.fromkeys(("avg_pool1d", "avg_pool2d", "avg_pool3d", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d"), _same),
    **dict.fromkeys(("max_pool2d_with_indices", "upsample_nearest2d", "upsample_bilinear2d"), _same),
    **dict.fromkeys(("mean", "sum", "amax"), _reduced),
    **dict.fromkeys(("split", "split_with_sizes"), _parts),
    **dict.fromkeys(("mm", "bmm"), _product),
    **dict.fromkeys(("addmm", "baddbmm"), _product_and_bias),
    **dict.fromkeys(("native_batch_norm", "_native_batch_norm_legit"), _norm_second),
    "_native_batch_norm_legit_no_training": _norm_second,
    **dict.fromkeys(("cudnn_batch_norm", "native_group_norm", "_batch_norm_no_update"), _norm_second),
    **dict.fromkeys(("native_layer_norm", "_fused_rms_norm"), _norm_last),
    "permute": _permute, "unsqueeze": _unsqueeze, "squeeze": _squeeze, "expand": _expand, "select": _select,
    "unbind": _unbind, "slice": _slice, "glu": _glu, "cat": _cat, "convolution": _convolution, "embedding": _embedding,
}  # fmt: skip
