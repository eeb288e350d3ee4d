"""The shared tensors of a supernet, and the gradients that land in them.

A network's parameter is a leaf over a box of the stored tensor. When backward has filled the leaf's gradient, a hook
moves it into the stored tensor's own: the first one is taken as it is, later ones are added into their block of it. So
no full-size zero tensor is ever made, and the optimiser knows exactly what was touched.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from supernets.layout import Axes, Box, Extent, Shape, blocked_view

Reading = nn.Parameter | Callable[[], Tensor]
"""What a module reads as its parameter: a leaf over a box of a stored tensor, or a function that computes it from
leaves each time, so that a network can be run and backpropagated any number of times. Blocked where axes are fused."""


@dataclass(frozen=True)
class Touched:
    """The box of a tensor that backward has touched since the last step, with its gradient."""

    name: str
    whole: Tensor
    grad: Tensor
    decays: bool  # matrices do, vectors (biases, norms) do not
    box: Box | None = None  # of ``whole``; None is all of it

    def of(self, tensor: Tensor) -> Tensor:
        """Return the box as a view of ``whole``, or of another tensor of its shape."""
        return tensor if self.box is None else self.box.of(tensor)


class SharedTensor:
    """One stored parameter: its values, and the gradient of the box touched since the last step."""

    def __init__(self, name: str, value: Tensor, axes: Axes, trainable: bool = True) -> None:
        self.name = name
        self.axes = axes
        self.trainable = trainable
        self.value = value.contiguous()
        self.blocked = blocked_view(self.value, axes)  # the view that boxes speak of
        self.grad: Tensor | None = None  # of shape box.size
        self.box: Box | None = None
        self._cuts: dict[tuple[Shape, ...], tuple[Box, Tensor]] = {}

    @property
    def shape(self) -> Shape:
        return tuple(self.value.shape)

    def leaf(self, shape: Shape) -> nn.Parameter:
        """Return a parameter that views the box of ``shape``, blocked if axes are fused; its gradient goes here."""
        box, view = self._cut(shape)
        parameter = nn.Parameter(view, self.trainable)
        if self.trainable:
            parameter.register_post_accumulate_grad_hook(lambda leaf: self._take(leaf, box))  # type: ignore[no-untyped-call]
        return parameter

    def _cut(self, shape: Shape) -> tuple[Box, Tensor]:
        """Return the box of ``shape`` and its view, from a cache, because few shapes recur often."""
        key = (tuple(shape), *(shape.counts if isinstance(shape, Extent) else ()))
        if key not in self._cuts:
            box = self.axes.box(shape, self.shape)
            self._cuts[key] = (box, box.of(self.blocked))
        return self._cuts[key]

    def full_grad(self) -> Tensor | None:
        """The gradient at the full shape, zero outside the touched box; None if nothing was touched."""
        if self.grad is None or self.box is None:
            return None
        full = torch.zeros_like(self.blocked)
        self.box.of(full).copy_(self.grad)
        return full.view(self.shape)

    @torch.no_grad()
    def _take(self, leaf: Tensor, box: Box) -> None:
        grad, leaf.grad = leaf.grad, None
        assert grad is not None
        if self.grad is None or self.box is None:
            self.grad, self.box = grad, box
        elif self.box.covers(box):
            box.within(self.box).of(self.grad).add_(grad)
        else:
            self._grow(self.box.union(box))
            box.within(self.box).of(self.grad).add_(grad)

    def _grow(self, box: Box) -> None:
        assert self.grad is not None and self.box is not None
        grown = self.grad.new_zeros(box.size)
        self.box.within(box).of(grown).copy_(self.grad)
        self.grad, self.box = grown, box


@dataclass
class Store:
    """Shared parameters by name, and the buffers that every architecture slices (batch-norm statistics, masks)."""

    parameters: dict[str, SharedTensor]
    buffers: dict[str, Tensor]

    def named_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Yield every stored tensor at full size, parameters first, in the order of the model."""
        for name, shared in self.parameters.items():
            yield name, shared.value
        yield from self.buffers.items()

    def touched(self) -> list[Touched]:
        """Return the parameters that hold a gradient."""
        return [
            Touched(shared.name, shared.blocked, shared.grad, shared.value.dim() > 1, shared.box)
            for shared in self.parameters.values()
            if shared.grad is not None
        ]

    def optimized(self) -> dict[str, Tensor]:
        """Return the tensors whose shapes the optimiser's state has."""
        return {name: shared.blocked for name, shared in self.parameters.items()}

    def zero_grad(self) -> None:
        for shared in self.parameters.values():
            shared.grad = shared.box = None

    @torch.no_grad()
    def copy_(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy values in place, so that existing networks see them."""
        for name, tensor in self.named_tensors():
            tensor.copy_(tensors[name])

    def to(self, device: torch.device) -> None:
        """Move all tensors; existing networks keep the old ones."""
        for name, shared in self.parameters.items():
            self.parameters[name] = SharedTensor(name, shared.value.to(device), shared.axes, shared.trainable)
        self.buffers = {name: buffer.to(device) for name, buffer in self.buffers.items()}


def leading(buffer: Tensor, shape: Shape, axes: Axes | None = None) -> Tensor:
    """Return the leading part of a stored buffer as a view; with blocks, the leading part of each, as a copy."""
    if axes is None or not axes.fused:
        return buffer[tuple(slice(size) for size in shape)]
    return axes.box(shape, tuple(buffer.shape)).of(blocked_view(buffer.contiguous(), axes)).reshape(shape)
