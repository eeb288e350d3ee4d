"""The words a model may borrow from us: a stack of choosable depth, one operation of several, some blocks, one again,
and several networks that begin as one.

All are ordinary modules with nothing hidden in `forward`. They only say in the module tree what plain PyTorch leaves
unsaid, so that a supernet can name the weights of alternatives apart and a relaxation can find the blocks it gates.
Pure torch: a model that uses them runs wherever this one file does.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, cast

import torch
from torch import Tensor, nn


class Stack(nn.Sequential):
    """Blocks run in order, of which an architecture keeps the first `depth`: an `nn.Sequential`, with the same names.

    Being its own class marks it: the blocks are alternatives in depth, each keeping the shape of its input, so a
    relaxation may gate what each adds. An empty stack is the identity.
    """


class OneOf(nn.Module):
    """One operation chosen out of several, held under its own name: its parameters are called `<path>.<chosen>...`.

    `options` lists the names of all alternatives in the order they were given; the others were never built.
    """

    def __init__(self, chosen: str, operation: nn.Module, options: tuple[str, ...]) -> None:
        super().__init__()
        self.chosen = chosen
        self.options = options
        self.add_module(chosen, operation)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return cast(nn.Module, self._modules[self.chosen])(*args, **kwargs)

    def extra_repr(self) -> str:
        return f"one of {', '.join(self.options)}"


class Kept(nn.ModuleList):
    """Some of the blocks of a list under their own names: `kept[1]` is the second of them, be it called 1 or 7."""

    def __getitem__(self, index: Any) -> Any:
        modules = list(self._modules.items())
        if not isinstance(index, slice):
            return modules[index][1]
        return _held(Kept(), modules[index])


class Mean(nn.Module):
    """The mean over the first axis."""

    def forward(self, outputs: Tensor) -> Tensor:
        return outputs.mean(0)


class Ensemble(nn.Module):
    """Paths of layers that begin as one: what the first path has before the others begin is the trunk of them all.

    It gives the mean of what the paths give, of shape (batch, ...). Path 0 is whole, ``paths.0.<layer>``; layers of the
    others keep the number that they have in it. `fork` is where the trunk ends, and `mean` is given the outputs of all
    paths, (paths, batch, ...): those who want them apart find them there.
    """

    def __init__(self, paths: Iterable[nn.Module], split: int) -> None:
        super().__init__()
        self.split = split
        self.paths = nn.ModuleList(paths)
        self.fork = nn.Identity()
        self.mean = Mean()

    def forward(self, x: Tensor) -> Tensor:
        first, *others = ([*path._modules.values()] for path in self.paths)
        shared = self.fork(_through(first[: self.split], x))
        outputs = [_through(path, shared) for path in (first[self.split :], *others)]
        return cast(Tensor, self.mean(torch.stack(outputs)))

    def extra_repr(self) -> str:
        return f"split={self.split}"


def stack(blocks: Iterable[nn.Module]) -> Stack:
    """Make a stack of the blocks an architecture has, in order; each must return what the next one takes."""
    return Stack(*blocks)


def one_of(chosen: str, options: Mapping[str, Callable[[], nn.Module]]) -> OneOf:
    """Build the chosen alternative, and only that one.

    Its parameters live under its name (`ops.3.conv3x3.weight`), so alternatives never share weights by accident.

    Raises:
        ValueError: `chosen` is not among the options, or cannot be part of a parameter's name.
    """
    if chosen not in options:
        raise ValueError(f"one_of: {chosen!r} is not an option: choose one of {', '.join(options)}")
    if not isinstance(chosen, str) or not chosen or "." in chosen or hasattr(OneOf, chosen) or chosen in _RESERVED:
        raise ValueError(f"one_of: {chosen!r} cannot name a submodule: use a name without dots that is no attribute")
    return OneOf(chosen, options[chosen](), tuple(options))


def ensemble(first: Iterable[nn.Module], *others: Iterable[nn.Module]) -> Ensemble:
    """Several networks that share their beginning, as one that gives the mean of their outputs (NEAS).

        ensemble([*map(layer, arch.first), head()], [*map(layer, arch.second[arch.split :]), head()])

    `first` has all its layers. Each of `others` has its last ones, and takes what comes before from the first: so all
    others are as long as each other. Alone, `first` is the plain network.

    Raises:
        ValueError: no layer, others of different lengths, or one longer than the first or without a layer.
    """
    whole, own = list(first), [list(layers) for layers in others]
    if not whole:
        raise ValueError("ensemble: the first path has no layer: give all its layers, its head included")
    lengths = [len(layers) for layers in own]
    if len(set(lengths)) > 1 or not all(1 <= length <= len(whole) for length in lengths):
        raise ValueError(
            f"ensemble: paths of {', '.join(map(str, [len(whole), *lengths]))} layers: the first has all, and the "
            "others their last ones, each as many, from 1 to all"
        )
    split = len(whole) - lengths[0] if own else len(whole)
    named = [_held(nn.Sequential(), ((str(at), layer) for at, layer in enumerate(whole)))]
    named += [_held(nn.Sequential(), ((str(split + at), layer) for at, layer in enumerate(layers))) for layers in own]
    return Ensemble(named, split)


def keep(blocks: nn.Module, kept: Sequence[int] | Sequence[bool]) -> nn.Module:
    """Some of the blocks of an `nn.ModuleList` or `nn.Sequential`, in their own order and under their own names.

        model.layers = keep(model.layers, arch.keep)                      # keep = choice(False, True, per=12)
        model.layers = keep(model.layers, sorted(RANKING[: arch.depth]))  # depth = choice(6, 8, 12)

    The weights of block 7 stay ``layers.7...`` where block 3 is gone, so a supernet shares them and pretrained weights
    fit. What counts the blocks from 0 at run time, as the `layer_idx` of transformers by which caches are found, is
    numbered anew in the blocks themselves. A config that lists something for each layer, such as `layer_types`, is not
    known here: build with the entries of the kept ones. A stack becomes a plain `nn.Sequential`, since its first blocks
    are no longer those that stay.

    Args:
        kept: numbers of blocks, ascending, or for each block whether it stays.

    Raises:
        ValueError: another kind of module, numbers that are no blocks or not ascending, or not one truth value a block.
    """
    if not isinstance(blocks, nn.ModuleList | nn.Sequential):
        raise ValueError(f"keep: {type(blocks).__name__} is no list of blocks: give an nn.ModuleList or nn.Sequential")
    modules = list(blocks._modules.items())
    chosen = [modules[number] for number in _numbers(kept, len(modules))]
    for place, (_, block) in enumerate(chosen):
        for part in block.modules():
            if isinstance(getattr(part, "layer_idx", None), int):
                part.layer_idx = place  # type: ignore[assignment]
    return _held(Kept() if isinstance(blocks, nn.ModuleList) else nn.Sequential(), chosen)


def _held(into: nn.Module, named: Iterable[tuple[str, nn.Module | None]]) -> nn.Module:
    for name, block in named:
        into.add_module(name, block)
    return into


def _numbers(kept: Sequence[int] | Sequence[bool], blocks: int) -> list[int]:
    """Of those that stay."""
    if kept and all(isinstance(one, bool) for one in kept):
        if len(kept) != blocks:
            raise ValueError(f"keep: {len(kept)} truth values for {blocks} blocks: give one for each")
        return [number for number, stays in enumerate(kept) if stays]
    numbers = list(kept)
    if any(not 0 <= number < blocks for number in numbers) or numbers != sorted(set(numbers)):
        raise ValueError(
            f"keep: {numbers} of {blocks} blocks: give ascending numbers from 0 to {blocks - 1}, each once"
        )
    return numbers


def tie(blocks: Iterable[nn.Module], groups: int | Sequence[bool], but: Sequence[str] = ()) -> None:
    """Has groups of consecutive blocks share their parameters, the first one's, as those of FoldGPT do.

        tie(model.layers, 2, but=("*norm*",))
        tie(model.layers, arch.tied)             # tied = choice(True, False, per=11), of 12 layers

    Tied parameters are one tensor under several names, for a supernet and for what it extracts, and count once.

    Args:
        groups: how many blocks a group has, the last perhaps fewer; or for each block but the first whether it copies
            the one before it.
        but: patterns of names within a block; parameters of these names stay each block's own (arXiv:2407.00928 keeps
            some so that layers differ).

    Raises:
        ValueError: groups of less than 1 block or of another number of blocks, or a parameter that the first block of
            a group has not, or in another shape.
    """
    listed = list(blocks)
    for place, (block, start) in enumerate(zip(listed, _starts(groups, len(listed)), strict=True)):
        first = listed[start]
        own = dict(first.named_parameters(remove_duplicate=False))
        for name, parameter in list(block.named_parameters(remove_duplicate=False)):
            if block is first or any(fnmatchcase(name, pattern) for pattern in but):
                continue
            if name not in own or own[name].shape != parameter.shape:
                there = tuple(own[name].shape) if name in own else "missing"
                raise ValueError(
                    f"tie: {name} of block {place} is {tuple(parameter.shape)}, in the first of its group {there}: "
                    "name it in but=, or group blocks alike"
                )
            path, _, last = name.rpartition(".")
            setattr(block.get_submodule(path), last, own[name])


def _starts(groups: int | Sequence[bool], blocks: int) -> list[int]:
    """For each block the first of its group."""
    if isinstance(groups, int):
        if groups < 1:
            raise ValueError(f"tie: groups of {groups}: a group has at least 1 block")
        return [place - place % groups for place in range(blocks)]
    if len(groups) != max(blocks - 1, 0):
        raise ValueError(f"tie: {len(groups)} truth values for {blocks} blocks: give one for each but the first")
    starts = [0] * min(blocks, 1)
    for place, copies in enumerate(groups, 1):
        starts.append(starts[-1] if copies else place)
    return starts


def recursive(block: Callable[[], nn.Module], times: int, own: Sequence[str] = ()) -> Stack:
    """One block run `times` times, each time on what it has just returned: depth without further weights.

        body = recursive(lambda: Block(arch.width), arch.times, own=("*norm*",))     # times = choice(1, 2, 4)

    It is a stack of `times` blocks that `tie` makes one: parameters count once, multiply-accumulates each time. What
    `own` names, by patterns within a block, each run has to itself, as MiniViT's have their norms (arXiv:2204.07154);
    and always its buffers: batch norm sees other values at each run and keeps statistics for each. 0 times is the
    identity.

    Args:
        block: builds the block; called once for each run, and must build alike.

    Raises:
        ValueError: a block in place of what builds one, times below 0, or blocks that differ.
    """
    if isinstance(block, nn.Module):
        raise ValueError(f"recursive: {type(block).__name__} is a module: give a function that builds it, lambda: ...")
    if isinstance(times, bool) or not isinstance(times, int) or times < 0:
        raise ValueError(f"recursive: times = {times!r}: a block is run 0 times or more, a whole number")
    blocks = stack(block() for _ in range(times))
    tie(blocks, max(times, 1), own)
    return blocks


def _through(layers: Iterable[nn.Module | None], x: Any) -> Any:
    for layer in layers:
        x = cast(nn.Module, layer)(x)
    return x


_RESERVED = frozenset({"chosen", "options", "training"})
