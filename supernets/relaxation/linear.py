"""Products with masks, and their gradients, at hardly more than the cost of the products without."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class _SpreadProduct(torch.autograd.Function):
    """tensor * mask, the mask being constant on the cells of several axes.

    Written out, indexing would have its gradient added up entry after entry; here it is a product with 0/1 matrices.
    """

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, grid: Tensor, places: tuple[int, ...], cells: tuple[Tensor, ...]) -> Tensor:
        ctx.save_for_backward(tensor, grid)
        ctx.places, ctx.cells = places, cells
        return tensor * _spread(grid, places, cells, tensor.dim())

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        tensor, grid = ctx.saved_tensors
        own = grad * _spread(grid, ctx.places, ctx.cells, tensor.dim()) if ctx.needs_input_grad[0] else None
        return own, _gathered(grad * tensor, grid, ctx.places, ctx.cells) if ctx.needs_input_grad[1] else None, None, None


def spread_product(tensor: Tensor, grid: Tensor, places: tuple[int, ...], cells: tuple[Tensor, ...]) -> Tensor:
    """``tensor`` times the mask whose value at index i of axis ``places[n]`` is that of ``grid`` at ``cells[n][i]``."""
    return _SpreadProduct.apply(tensor, grid, places, cells)  # type: ignore[no-any-return, no-untyped-call]


def _spread(grid: Tensor, places: tuple[int, ...], cells: tuple[Tensor, ...], dim: int) -> Tensor:
    shape = [1] * dim
    for number, (place, cell) in enumerate(zip(places, cells, strict=True)):
        grid = grid.index_select(number, cell.to(grid.device))
        shape[place] = len(cell)
    return grid.view(shape)


def _gathered(product: Tensor, grid: Tensor, places: tuple[int, ...], cells: tuple[Tensor, ...]) -> Tensor:
    """The sum over each cell."""
    others = [axis for axis in range(product.dim()) if axis not in places]
    summed = product.sum(others) if others else product
    for number, cell in enumerate(cells):
        marks = torch.nn.functional.one_hot(cell, grid.shape[number]).to(summed)
        summed = torch.tensordot(summed, marks, dims=([0], [0]))  # the axis goes, its cells become the last
    return summed


class _MaskedLinear(torch.autograd.Function):
    """(x * inputs) @ weight.T * outputs, masking activations: their gradient reads nothing of the weight's size."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, outputs: Tensor, inputs: Tensor) -> Tensor:
        plain = torch.nn.functional.linear(x * inputs, weight)
        ctx.save_for_backward(x, weight, outputs, inputs, plain if ctx.needs_input_grad[2] else None)
        return plain * outputs

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
        x, weight, outputs, inputs, plain = ctx.saved_tensors
        for_x, for_weight, for_outputs, for_inputs = ctx.needs_input_grad
        masked = grad * outputs
        into = masked @ weight if for_x or for_inputs else None
        return (
            into * inputs if for_x and into is not None else None,
            masked.flatten(0, -2).T @ (x * inputs).flatten(0, -2) if for_weight else None,
            (grad * plain).flatten(0, -2).sum(0) if for_outputs else None,
            (into * x).flatten(0, -2).sum(0) if for_inputs and into is not None else None,
        )


def masked_linear(x: Tensor, weight: Tensor, outputs: Tensor, inputs: Tensor, bias: Tensor | None) -> Tensor:
    """A linear layer of independent output and input masks.

    Args:
        x: (..., num_in); weight: (num_out, num_in); outputs: (num_out,); inputs: (num_in,).
        bias: (num_out,), masked already.
    """
    rows = x.numel() // x.shape[-1]
    if rows > weight.shape[1] or x.dim() < 2:  # masking the weight is cheaper
        y = torch.nn.functional.linear(x, weight * outputs[:, None] * inputs)
    else:
        y = _MaskedLinear.apply(x, weight, outputs, inputs)  # type: ignore[no-untyped-call]
    return y if bias is None else y + bias
