"""Importance scores for the units of a coupled group in the largest network; units are sorted by them.

Scores come from weights alone, from activations on calibration batches, or from the effect of a unit on the loss.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from supernets.compression.units import Group, Part
from supernets.errors import CompressionError
from supernets.supernet import Supernet
from supernets.tasks import Task, to_device

NUM_BATCHES = 8
"""Default number of calibration batches."""


class Calibration:
    """Gradients and layer inputs of a supernet's largest network on some training batches of a task.

    Raises:
        CompressionError: `batches` is below 1.
    """

    def __init__(self, supernet: Supernet, task: Task, batches: int = NUM_BATCHES, seed: int = 0) -> None:
        if batches < 1:
            raise CompressionError(f"batches = {batches}: scores need at least 1 batch to calibrate on")
        self.supernet = supernet
        self.task = task
        self.batches = batches
        self.seed = seed
        self.learnt: dict[
            Score, Score | Callable[[Group, Calibration], Tensor]
        ] = {}  # scores that learn something once for all groups

    @cached_property
    def weights(self) -> dict[str, Tensor]:
        return self.supernet.state_dict()

    @cached_property
    def gradients(self) -> list[dict[str, Tensor]]:
        """The gradients of each batch's loss, by parameter of the largest network, in evaluation mode.

        Raises:
            CompressionError: a loss is not finite.
        """
        network = self._largest().requires_grad_(True)
        named = dict(network.named_parameters())
        found = []
        for number, batch in enumerate(self._data()):
            loss = self.task.loss(self.task.outputs(network, batch), batch)
            _check(loss, f"the loss of calibration batch {number}")
            gradients = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
            found.append({name: g.detach() for name, g in zip(named, gradients, strict=True) if g is not None})
        return found

    @cached_property
    def inputs(self) -> dict[str, Tensor]:
        """The mean absolute input of each matrix or kernel, (features,) by its name.

        Raises:
            CompressionError: an input is not finite.
        """
        network = self._largest()
        sums: dict[str, Tensor] = {}
        handles = [
            layer.register_forward_pre_hook(_adding(sums, f"{path}.weight".lstrip("."), layer))
            for path, layer in network.named_modules()
            if reads(layer) is not None
        ]
        with torch.no_grad():
            for batch in self._data():
                self.task.outputs(network, batch)
        for handle in handles:
            handle.remove()
        for name, value in sums.items():
            _check(value, f"what {name} reads of the calibration batches")
        return {name: value / self.batches for name, value in sums.items()}

    def _largest(self) -> nn.Module:
        return self.supernet.extract(self.supernet.space.largest(), apart=True).eval()

    def _data(self) -> Iterator[Any]:
        for number in range(self.batches):
            yield to_device(self.task.batch(number, self.seed), self.supernet.device)


def reads(layer: nn.Module) -> int | None:
    """Return the axis of a layer's input that its weight sums over; None for other kinds of layers."""
    if isinstance(layer, nn.Linear) or type(layer).__name__ == "Conv1D":
        return -1
    if isinstance(layer, nn.modules.conv._ConvNd) and layer.groups == 1 and not layer.transposed:
        return 1
    return None


def _adding(sums: dict[str, Tensor], name: str, layer: nn.Module) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    axis = reads(layer)
    assert axis is not None

    def add(_: nn.Module, given: tuple[Any, ...]) -> None:
        mean = given[0].detach().abs().movedim(axis, -1).flatten(0, -2).mean(0)
        sums[name] = sums[name] + mean if name in sums else mean

    return add


def _check(value: Tensor, what: str) -> None:
    if not bool(torch.isfinite(value).all()):
        raise CompressionError(
            f"{what} is no finite number: see that the parent's weights and the data are, or score by magnitude"
        )


# --- the scores ---------------------------------------------------------------------------------------------------


class Score:
    """Maps a group and a calibration to the importance of the group's units, (units,); higher comes first."""

    name: ClassVar[str]

    def __call__(self, group: Group, calibration: Calibration) -> Tensor:
        raise NotImplementedError


@dataclass(frozen=True)
class Magnitude(Score):
    """The sum of squares of a unit's weights, each tensor normalised by its own total.

    Vectors count only in a group without matrices.
    """

    name: ClassVar[str] = "magnitude"

    def __call__(self, group: Group, calibration: Calibration) -> Tensor:
        found = torch.zeros(group.units, dtype=torch.float64)
        for part in _matrices(group, calibration.weights):
            squares = part.units_first(calibration.weights[part.name].detach().cpu().double(), group.units)
            energy = squares.square().sum(1)
            found += energy / energy.sum().clamp(min=torch.finfo(torch.float64).tiny)
        return found


@dataclass(frozen=True)
class Activation(Score):
    """The mean absolute input that later layers read from a unit (Minitron, arXiv:2407.14679, section 2.2).

    For hidden units this is the value after their activation, for heads the output of attention, for the width the
    output of norms. A group that only norms and embeddings use falls back to `magnitude`.
    """

    batches: int = NUM_BATCHES
    name: ClassVar[str] = "activation"

    def __call__(self, group: Group, calibration: Calibration) -> Tensor:
        found = torch.zeros(group.units, dtype=torch.float64)
        for part in group.parts:
            read = calibration.inputs.get(part.name)
            if read is not None and part.axis == calibration.supernet.survey.ends[part.name][0]:
                means = part.units_first(_along(read.cpu().double(), part, calibration), group.units).mean(1)
                found += means / means.mean().clamp(min=torch.finfo(torch.float64).tiny)
        return found if bool(found.any()) else Magnitude()(group, calibration)


def _along(values: Tensor, part: Part, calibration: Calibration) -> Tensor:
    """Return ``values`` (size,) along the part's axis, with as many axes as the part's tensor."""
    shape = [1] * calibration.weights[part.name].dim()
    shape[part.axis] = part.size
    return values.view(shape)


@dataclass(frozen=True)
class Taylor(Score):
    """The first-order estimate of the change in loss when a unit is removed.

    It is the mean over batches of the absolute sum of gradient times weight over all parameters of the unit
    (arXiv:1906.10771, eq. 7, over coupled groups).
    """

    batches: int = NUM_BATCHES
    name: ClassVar[str] = "taylor"

    def __call__(self, group: Group, calibration: Calibration) -> Tensor:
        return torch.stack([products.sum(1).abs() for products in _products(group, calibration)]).mean(0)


@dataclass(frozen=True)
class Hessian(Score):
    """The mean over batches of the sum of (gradient times weight) squared over a unit's parameters.

    This is the saliency of optimal brain damage (LeCun et al., 1989, eq. 5, without its factor 1/2), with squared
    gradients as the diagonal of the Hessian. NViT (arXiv:2110.04869) divides such a score by the cost of a unit; units
    of a group cost the same.
    """

    batches: int = NUM_BATCHES
    name: ClassVar[str] = "hessian"

    def __call__(self, group: Group, calibration: Calibration) -> Tensor:
        return torch.stack([products.square().sum(1) for products in _products(group, calibration)]).mean(0)


def _products(group: Group, calibration: Calibration) -> Iterator[Tensor]:
    """Yield the products of gradients and weights for each batch, (units, parameters)."""
    for gradients in calibration.gradients:
        yield torch.cat(
            [
                part.units_first((gradients[part.name] * calibration.weights[part.name]).cpu().double(), group.units)
                for part in group.parts
                if part.name in gradients and gradients[part.name].shape == calibration.weights[part.name].shape
            ]
            or [torch.zeros(group.units, 1, dtype=torch.float64)],
            dim=1,
        )


def _matrices(group: Group, weights: dict[str, Tensor]) -> Sequence[Part]:
    return [part for part in group.parts if weights[part.name].dim() > 1] or list(group.parts)


SCORES: dict[str, type[Score]] = {score.name: score for score in (Magnitude, Activation, Taylor, Hessian)}
"""Scores from weights, activations and gradients; `scores.SCORES` adds one from learnt gates."""
