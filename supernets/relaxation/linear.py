"""Masked products and their gradients, at little more than the cost of the unmasked products."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from supernets.relaxation.precision import product_type


class _SpreadProduct(torch.autograd.Function):
    """tensor * mask, for a mask that is constant on cells of several axes.

    The default gradient of indexing would add up entry by entry; this function uses products with 0/1 matrices instead.
    """

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, grid: Tensor, places: tuple[int, ...], cells: tuple[Tensor, ...]) -> Tensor:
        ctx.save_for_backward(tensor, grid)
        ctx.places, ctx.cells = places, cells
        return tensor * _spread(grid, places, cells, tensor.dim())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        tensor, grid = ctx.saved_tensors
        own = grad * _spread(grid, ctx.places, ctx.cells, tensor.dim()) if ctx.needs_input_grad[0] else None
        return (
            own,
            _gathered(grad * tensor, grid, ctx.places, ctx.cells) if ctx.needs_input_grad[1] else None,
            None,
            None,
        )


def spread_product(tensor: Tensor, grid: Tensor, places: tuple[int, ...], cells: tuple[Tensor, ...]) -> Tensor:
    """Return ``tensor`` times a mask, which at index i of axis ``places[n]`` has the value of ``grid`` at
    ``cells[n][i]``."""
    return _SpreadProduct.apply(tensor, grid, places, cells)  # type: ignore[no-any-return, no-untyped-call]


def _spread(grid: Tensor, places: tuple[int, ...], cells: tuple[Tensor, ...], dim: int) -> Tensor:
    shape = [1] * dim
    for number, (place, cell) in enumerate(zip(places, cells, strict=True)):
        grid = grid.index_select(number, cell.to(grid.device))
        shape[place] = len(cell)
    return grid.view(shape)


def _gathered(product: Tensor, grid: Tensor, places: tuple[int, ...], cells: tuple[Tensor, ...]) -> Tensor:
    """Return the sum over each cell."""
    others = [axis for axis in range(product.dim()) if axis not in places]
    summed = product.sum(others) if others else product
    for number, cell in enumerate(cells):
        marks = torch.nn.functional.one_hot(cell, grid.shape[number]).to(summed)
        summed = torch.tensordot(summed, marks, dims=([0], [0]))  # replaces the axis by its cells, as the last axis
    return summed


# --- linear layers --------------------------------------------------------------------------------------------------

ACTIVATION_PASSES, WEIGHT_PASSES = 3.5, 6
"""Elementwise passes of a step over activations if these are masked, and over weights if those are."""


def vectors_linear(x: Tensor, weight: Tensor, bias: Tensor | None, outputs: Tensor, inputs: Tensor) -> Tensor:
    """Apply a linear layer with the mask ``outputs[i] * inputs[j]``, on the weight or the activations.

    The function masks whichever is cheaper.

    Args:
        x: (..., num_in); weight: (num_out, num_in); outputs: (num_out,); inputs: (num_in,).
        bias: (num_out,), already masked.
    """
    num_out, num_in = weight.shape
    dtype = product_type(x)
    weight, outputs, inputs = weight.to(dtype), outputs.to(dtype), inputs.to(dtype)
    bias = None if bias is None else bias.to(dtype)
    flat = x.to(dtype).reshape(-1, num_in)
    cheap = ACTIVATION_PASSES * len(flat) * (num_in + num_out) < WEIGHT_PASSES * num_in * num_out
    layer = _ActivationsMasked if cheap else _VectorsMasked
    y: Tensor = layer.apply(flat, weight, bias, outputs, inputs)  # type: ignore[no-untyped-call]
    return y.view(*x.shape[:-1], num_out)


def grid_linear(x: Tensor, weight: Tensor, bias: Tensor | None, grid: Tensor, cells: tuple[Tensor, Tensor]) -> Tensor:
    """Apply a linear layer with the mask ``grid[cells[0][i], cells[1][j]]``; otherwise as `vectors_linear`."""
    dtype = product_type(x)
    bias = None if bias is None else bias.to(dtype)
    flat = x.to(dtype).reshape(-1, x.shape[-1])
    y: Tensor = _GridMasked.apply(flat, weight.to(dtype), bias, grid.to(dtype), cells)  # type: ignore[no-untyped-call]
    return y.view(*x.shape[:-1], len(weight))


Grads = tuple[Tensor | None, ...]


class _ActivationsMasked(torch.autograd.Function):
    """Masks the activations; outside the products it reads nothing of the weight's size."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, outputs: Tensor, inputs: Tensor) -> Tensor:
        plain = (x * inputs) @ weight.T
        ctx.save_for_backward(x, weight, outputs, inputs, plain if ctx.needs_input_grad[3] else None)
        return plain * outputs if bias is None else torch.addcmul(bias, plain, outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Grads:
        x, weight, outputs, inputs, plain = ctx.saved_tensors
        for_x, for_weight, for_bias, for_outputs, for_inputs = ctx.needs_input_grad
        masked = grad * outputs
        into = masked @ weight if for_x or for_inputs else None
        return (
            into * inputs if for_x and into is not None else None,
            masked.T @ (x * inputs) if for_weight else None,
            grad.sum(0) if for_bias else None,
            (grad * plain).sum(0) if for_outputs else None,
            (into * x).sum(0) if for_inputs and into is not None else None,
        )


class _VectorsMasked(torch.autograd.Function):
    """Masks the weight; outside the products it reads nothing of the activations' size."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, outputs: Tensor, inputs: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight, outputs, inputs)
        return torch.nn.functional.linear(x, (weight * inputs).mul_(outputs[:, None]), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Grads:
        x, weight, outputs, inputs = ctx.saved_tensors
        for_x, for_weight, for_bias, for_outputs, for_inputs = ctx.needs_input_grad
        into = grad @ (weight * inputs).mul_(outputs[:, None]) if for_x else None
        whole = grad.T @ x if for_weight or for_outputs or for_inputs else None
        product = whole * weight if whole is not None and (for_outputs or for_inputs) else None
        return (
            into,
            whole.mul_(inputs).mul_(outputs[:, None]) if for_weight and whole is not None else None,
            grad.sum(0) if for_bias else None,
            product @ inputs if for_outputs and product is not None else None,
            outputs @ product if for_inputs and product is not None else None,
        )


class _GridMasked(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, grid: Tensor, cells: tuple[Tensor, Tensor]
    ) -> Tensor:
        ctx.save_for_backward(x, weight, grid)
        ctx.cells = cells
        return torch.nn.functional.linear(x, _spread(grid, (0, 1), cells, 2).mul_(weight), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Grads:
        x, weight, grid = ctx.saved_tensors
        for_x, for_weight, for_bias, for_grid, _ = ctx.needs_input_grad
        mask = _spread(grid, (0, 1), ctx.cells, 2)
        into = grad @ (mask * weight) if for_x else None
        whole = grad.T @ x if for_weight or for_grid else None
        for_cells = _gathered(whole * weight, grid, (0, 1), ctx.cells) if for_grid and whole is not None else None
        for_whole = whole.mul_(mask) if for_weight and whole is not None else None
        return into, for_whole, grad.sum(0) if for_bias else None, for_cells, None
