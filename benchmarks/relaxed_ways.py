"""Ways to compute the expectation of a layer over two choices of its sizes, with equal weights and equal results.

A layer is linear in its weight, so the expectation of its outputs is the output of the expected weight. The ways differ
in their computation and in what they keep for backward.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces import Space, choice
from supernets import Supernet
from supernets.optim import OptimizerConfig
from supernets.relaxation import Mixture

OPTIMIZER = OptimizerConfig("adamw", lr=1e-4)


def nothing() -> None:
    """The update if only the network is measured."""


@dataclass(frozen=True)
class Way:
    """One way to make a training step: forward, backward, `update`; then `clear`, which is not timed."""

    name: str
    forward: Callable[[Tensor], Tensor]
    weights: Sequence[Tensor]
    """Trained; kept for backward without taking memory of their own."""
    clear: Callable[[], None]
    """Removes gradients."""
    logits: Sequence[Tensor] = ()
    """Of the probabilities."""
    update: Callable[[], object] = nothing

    def step(self, x: Tensor) -> None:
        torch.autograd.backward(self.forward(x).square().mean())
        self.update()

    def reset(self) -> None:
        self.clear()
        for logits in self.logits:
            logits.grad = None


@dataclass(frozen=True)
class Layer:
    """A layer at its full size, and how it is run."""

    name: str
    outputs: int
    inputs: int
    build: Callable[[int, int], nn.Module]
    """From the numbers of outputs and inputs."""
    run: Callable[[Tensor, Tensor, Tensor], Tensor]
    """From input, weight and bias, of any of the sizes."""
    shape: tuple[int, ...]
    """Of the input; -1 stands for its features."""

    @property
    def axis(self) -> int:
        return self.shape.index(-1)

    def outputs_of(self, x: Tensor) -> tuple[int, ...]:
        """The shape of the full layer's output."""
        return (*x.shape[: self.axis], self.outputs, *x.shape[self.axis + 1 :])

    def example(self) -> Tensor:
        return torch.randn([self.inputs if size < 0 else size for size in self.shape])


def linear(outputs: int, inputs: int, tokens: int) -> Layer:
    return Layer(
        name=f"linear {inputs} → {outputs}, {tokens:,} tokens",
        outputs=outputs,
        inputs=inputs,
        build=lambda out, into: nn.Linear(into, out),
        run=F.linear,
        shape=(1, tokens, -1),
    )


def convolution(outputs: int, inputs: int, side: int, batch: int) -> Layer:
    return Layer(
        name=f"convolution 7x7, {inputs} → {outputs}, {side}x{side}, batch {batch}",
        outputs=outputs,
        inputs=inputs,
        build=lambda out, into: nn.Conv2d(into, out, 7, padding=3),
        run=partial(F.conv2d, padding=3),
        shape=(batch, -1, side, side),
    )


def spaced(full: int, number: int) -> tuple[int, ...]:
    """Return evenly spaced sizes up to the full one."""
    return tuple(round(full * (n + 1) / number) for n in range(number))


def sizes(layer: Layer, number: int) -> Space:
    """A space of two choices with this number of options each."""

    class Sizes(Space):
        outputs = choice(*spaced(layer.outputs, number))
        inputs = choice(*spaced(layer.inputs, number))

    return Sizes()


# --- the ways -----------------------------------------------------------------------------------------------------


def ways(layer: Layer, number: int, device: str, *, outputs_too: bool) -> list[Way]:
    """The full layer alone, then its relaxations over `number` x `number` options."""
    space = sizes(layer, number)
    supernet = Supernet(space, lambda arch: layer.build(arch.outputs, arch.inputs), device=device)
    dense = supernet.extract(space.largest())
    made = [
        Way("dense", dense, list(dense.parameters()), dense.zero_grad),
        relaxed(supernet, space),
        padded_weights(layer, space, dense),
    ]
    return [*made, mixed_outputs(layer, space, dense)] if outputs_too else made


def relaxed(supernet: Supernet, space: Space) -> Way:
    """`Supernet.relax`: the stored weight times a mask computed from the probabilities."""
    logits = some_logits(space, supernet.device)
    mixture = Mixture(space, probabilities(logits))
    module = supernet.relax(mixture).train()

    def forward(x: Tensor) -> Tensor:
        mixture.update(probabilities(logits))
        y: Tensor = module(x)
        return y

    clear = supernet.optimizer(OPTIMIZER).zero_grad
    return Way("relax", forward, list(supernet.state_dict().values()), clear, list(logits.values()))


def padded_weights(layer: Layer, space: Space, dense: nn.Module) -> Way:
    """Sum all slices of the weight, each padded with zeros to the full size and multiplied by its probability."""
    weight, bias = (parameter.detach().clone().requires_grad_() for parameter in dense.parameters())
    logits = some_logits(space, weight.device)

    def forward(x: Tensor) -> Tensor:
        p, q = probabilities(logits).values()
        total, offset = torch.zeros_like(weight), torch.zeros_like(bias)
        for i, outputs in enumerate(spaced(layer.outputs, len(p))):
            offset = offset + p[i] * grown(bias[:outputs], bias.shape)
            for j, inputs in enumerate(spaced(layer.inputs, len(q))):
                total = total + p[i] * q[j] * grown(weight[:outputs, :inputs], weight.shape)
        return layer.run(x, total, offset)

    return Way("padded weights added", forward, (weight, bias), clearing(weight, bias), list(logits.values()))


def mixed_outputs(layer: Layer, space: Space, dense: nn.Module) -> Way:
    """Run every option's layer and sum the outputs, each padded with zeros and multiplied by its probability."""
    weight, bias = (parameter.detach().clone().requires_grad_() for parameter in dense.parameters())
    logits = some_logits(space, weight.device)

    def forward(x: Tensor) -> Tensor:
        p, q = probabilities(logits).values()
        parts = []
        for i, outputs in enumerate(spaced(layer.outputs, len(p))):
            for j, inputs in enumerate(spaced(layer.inputs, len(q))):
                y = layer.run(x.narrow(layer.axis, 0, inputs), weight[:outputs, :inputs], bias[:outputs])
                parts.append(p[i] * q[j] * grown(y, layer.outputs_of(x)))
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total

    return Way("outputs mixed", forward, (weight, bias), clearing(weight, bias), list(logits.values()))


def grown(tensor: Tensor, shape: Sequence[int]) -> Tensor:
    """Pad a tensor with zeros at the ends of its axes."""
    missing = [full - size for full, size in zip(shape, tensor.shape, strict=True)]
    return F.pad(tensor, [size for more in reversed(missing) for size in (0, more)])


def clearing(*tensors: Tensor) -> Callable[[], None]:
    def clear() -> None:
        for tensor in tensors:
            tensor.grad = None

    return clear


def some_logits(space: Space, device: torch.device) -> dict[str, Tensor]:
    """Return leaves for every choice, the same each time, with unequal probabilities."""
    rng = torch.Generator().manual_seed(0)
    return {
        slot.path: torch.randn(len(slot.options), generator=rng).to(device).requires_grad_() for slot in space.slots
    }


def probabilities(logits: dict[str, Tensor]) -> dict[str, Tensor]:
    return {path: leaf.softmax(0) for path, leaf in logits.items()}
