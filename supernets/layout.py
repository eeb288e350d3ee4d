"""Which part of a stored tensor belongs to a smaller one: the one definition of a slice.

A stored tensor is viewed with every fused axis split in two, ``(k * n, ...) -> (k, n, ...)``; in that view every
smaller tensor is a box: the leading part of a feature axis, the centre of a convolution kernel's axis.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import Tensor, nn

from supernets.errors import ShapeError, SupernetError

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Blocks:
    """``count`` equal blocks fused along ``axis``, each sliced on its own.

    ``[q|k|v]`` is ``Blocks(3)``, an LSTM ``Blocks(4)``.
    """

    count: int
    axis: int = 0

    def __post_init__(self) -> None:
        if self.count < 1:
            raise SupernetError(
                f"Blocks(count={self.count}): a fused axis has at least one block; give a count of 1 or more"
            )


@dataclass(frozen=True)
class Centre:
    """The centre of these axes is kept instead of their leading part, as for convolution kernels."""

    axes: tuple[int, ...]

    def __init__(self, *axes: int) -> None:
        object.__setattr__(self, "axes", axes)


Layout = Blocks | Centre
Layouts = Mapping[str, Layout | tuple[Layout, ...]]


@dataclass(frozen=True)
class Box:
    """A box in the blocked view of one stored tensor: where it starts and how long it is along every axis."""

    start: Shape
    size: Shape

    def of(self, blocked: Tensor) -> Tensor:
        """The box as a view of ``blocked``."""
        for axis, (start, size) in enumerate(zip(self.start, self.size, strict=True)):
            if size != blocked.shape[axis]:
                blocked = blocked.narrow(axis, start, size)
        return blocked

    def covers(self, other: "Box") -> bool:
        return all(
            a <= b and b + m <= a + n for a, n, b, m in zip(self.start, self.size, other.start, other.size, strict=True)
        )

    def within(self, outer: "Box") -> "Box":
        """The same box in the coordinates of ``outer``."""
        return Box(tuple(b - a for a, b in zip(outer.start, self.start, strict=True)), self.size)

    def union(self, other: "Box") -> "Box":
        """The smallest box around both."""
        start = tuple(map(min, self.start, other.start))
        stop = (max(a + n, b + m) for a, n, b, m in zip(self.start, self.size, other.start, other.size, strict=True))
        return Box(start, tuple(end - begin for begin, end in zip(start, stop, strict=True)))


@dataclass(frozen=True)
class Axes:
    """How the axes of one parameter are cut: ``blocks[i]`` fused blocks along axis i, the kernel axes ``centred``."""

    blocks: Shape
    centred: frozenset[int]

    def blocked(self, shape: Shape) -> Shape:
        """``shape`` with every fused axis split: ``(k * n,) -> (k, n)``."""
        return tuple(size for n, k in zip(shape, self.blocks, strict=True) for size in ((k, n // k) if k > 1 else (n,)))

    def box(self, shape: Shape, stored: Shape) -> Box:
        """Where a tensor of ``shape`` lies within one of shape ``stored``."""
        start: list[int] = []
        for axis, (n, full, k) in enumerate(zip(shape, stored, self.blocks, strict=True)):
            start += [0] * (k > 1) + [(full - n) // 2 if axis in self.centred else 0]
        return Box(tuple(start), self.blocked(shape))

    @property
    def fused(self) -> bool:
        return any(k > 1 for k in self.blocks)


def named_axes(module: nn.Module, layouts: Layouts) -> dict[str, Axes]:
    """How every parameter of ``module`` is cut: by the user's ``layouts``, else as the classes around it imply.

    Raises:
        SupernetError: a layout names an axis that does not exist.
        ShapeError: a fused axis does not divide into its blocks.
    """
    axes: dict[str, Axes] = {}
    modules = dict(module.named_modules(remove_duplicate=False))
    for path, owner in modules.items():
        above, _, own = path.rpartition(".")
        for attribute, parameter in owner.named_parameters(recurse=False, remove_duplicate=False):
            name = f"{path}.{attribute}" if path else attribute
            patterns = [pattern for pattern in layouts if fnmatchcase(name, pattern)]
            given = [layouts[pattern] for pattern in patterns]
            flat = [layout for one in given for layout in (one if isinstance(one, tuple) else (one,))]
            implied = flat or [*_implied(owner, attribute), *_projected(modules[above], own, owner, attribute)]
            axes[name] = _axes(name, tuple(parameter.shape), (*_kernel(owner, attribute), *implied))
    return axes


def check_patterns(layouts: Layouts, names: Iterable[str]) -> None:
    """Raise where a layout names nothing: a silent typo would share fused weights wrongly."""
    names = list(names)
    for pattern in layouts:
        if not any(fnmatchcase(name, pattern) for name in names):
            known = ", ".join(names[:6]) + ", ..." * (len(names) > 6)
            raise SupernetError(f"layout pattern {pattern!r} matches no parameter; the model has {known}")


def _axes(name: str, shape: Shape, layouts: tuple[Layout, ...]) -> Axes:
    blocks, centred = [1] * len(shape), set[int]()
    for layout in layouts:
        for axis in layout.axes if isinstance(layout, Centre) else (layout.axis,):
            if not 0 <= axis < len(shape):
                raise SupernetError(
                    f"layout of {name} names axis {axis}; its shape {shape} has axes 0 to {len(shape) - 1}"
                )
            if isinstance(layout, Centre):
                centred.add(axis)
            elif shape[axis] % layout.count:
                raise ShapeError(
                    f"{name} has {shape[axis]} rows along axis {axis}, which do not divide into {layout.count} fused "
                    "blocks; correct the layout or the space"
                )
            else:
                blocks[axis] = layout.count
    return Axes(tuple(blocks), frozenset(centred))


def _kernel(owner: nn.Module, attribute: str) -> Iterator[Layout]:
    """A convolution keeps the centre of its kernel."""
    if isinstance(owner, nn.modules.conv._ConvNd) and attribute == "weight":
        yield Centre(*range(2, owner.weight.dim()))


def _implied(owner: nn.Module, attribute: str) -> Iterator[Layout]:
    """The layout that a parameter's owner implies by its class."""
    if isinstance(owner, nn.MultiheadAttention) and attribute.startswith("in_proj_"):
        yield Blocks(3)
    elif isinstance(owner, nn.RNNBase | nn.RNNCellBase) and not attribute.startswith("weight_hr"):
        if isinstance(owner, nn.LSTM | nn.LSTMCell):
            yield Blocks(4)
        elif isinstance(owner, nn.GRU | nn.GRUCell):
            yield Blocks(3)
        stacked = attribute.startswith("weight_ih_l") and not attribute.startswith("weight_ih_l0")
        if stacked and getattr(owner, "bidirectional", False):
            yield Blocks(2, axis=1)  # its input is the forward states, then the backward ones


def _projected(above: nn.Module, own: str, owner: nn.Module, attribute: str) -> Iterator[Layout]:
    """The layout of a projection within a block of attention or of a gated layer, as other libraries write them.

    Names are not enough: the sizes that the block around it tells must agree.
    """
    weight = getattr(owner, attribute)
    if type(owner).__name__ == "Conv1D" and own == "c_attn":  # of transformers: (inputs, outputs)
        width = getattr(above, "embed_dim", 0)
        outputs = weight.shape[-1]
        if width and outputs in (2 * width, 3 * width):  # [q|k|v], of cross-attention [k|v]
            yield Blocks(outputs // width, axis=weight.dim() - 1)
    if not isinstance(owner, nn.Linear):
        return
    heads = getattr(above, "num_heads", 0)
    if own in ("qkv", "Wqkv") and heads and owner.out_features % (3 * heads) == 0:
        yield Blocks(3)
    elif own in ("gate_up_proj", "gate_up") and owner.out_features % 2 == 0:
        yield Blocks(2)
    groups = _query_groups(above)
    if groups and own in ("q_proj", "k_proj", "v_proj"):
        yield Blocks(groups)
    elif groups and own in ("o_proj", "out_proj") and attribute == "weight":
        yield Blocks(groups, axis=1)


def _query_groups(attention: nn.Module) -> int:
    """How many groups the queries of an attention form, each with a key and value of its own; 0 where it does not say.

    Fewer queries are then the leading ones of each group, or a query would meet another group's key.
    """
    keys = getattr(getattr(attention, "config", None), "num_key_value_heads", None)
    return keys if isinstance(keys, int) and hasattr(attention, "num_key_value_groups") and keys > 1 else 0


def blocked_view(tensor: Tensor, axes: Axes) -> Tensor:
    """``tensor`` (contiguous) with its fused axes split; a view."""
    return tensor.view(axes.blocked(tuple(tensor.shape))) if axes.fused else tensor
