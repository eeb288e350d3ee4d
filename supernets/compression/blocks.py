"""Importance of the blocks of a trained network: scores on calibration data, and the ranking by score.

A space of depths can then keep the most important blocks, in their original order:

    RANKING = rank_blocks(parent, "model.layers", task)
    depth = choice(6, 8, 12)                                                       # in the space
    model.layers = keep(model.layers, sorted(RANKING[: arch.depth]))               # in build

Every score observes the running network. A block's contribution is its output minus its input, both taken from the
first tensor that it reads and returns. Removing a block replaces its output by its input.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernets.errors import CompressionError
from supernets.spelling import parse
from supernets.tasks import Task, to_device

NUM_BATCHES = 8

Change = Callable[[int, Tensor, Tensor], Tensor]
"""Maps a block's index, input and output to the output that replaces the original one."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """A network in evaluation mode, its blocks, and training batches of the task."""

    network: nn.Module
    blocks: Sequence[nn.Module]
    task: Task
    batches: Sequence[Any]

    def loss(self, batch: Any, change: Change) -> Tensor:
        """Return the loss of one batch while `change` replaces the blocks' outputs.

        Raises:
            CompressionError: the loss is not finite.
        """
        with _changed(self.blocks, change):
            loss = self.task.loss(self.task.outputs(self.network, batch), batch)
        if not bool(torch.isfinite(loss)):
            raise CompressionError(f"the loss of a calibration batch is {float(loss)}: scores need data without NaN")
        return loss


class BlockScore(ABC):
    """Scores the importance of each block; higher is more important."""

    name: ClassVar[str]

    @abstractmethod
    def __call__(self, calibration: Calibration) -> Tensor:
        """Return one score per block, (blocks,)."""


@dataclass(frozen=True)
class LeaveOneOut(BlockScore):
    """The increase of the mean loss when the block is removed."""

    name: ClassVar[str] = "loss"

    @torch.no_grad()
    def __call__(self, calibration: Calibration) -> Tensor:
        whole = sum(calibration.loss(batch, _returned) for batch in calibration.batches)
        found = [
            sum(calibration.loss(batch, partial(_without, left)) for batch in calibration.batches) - whole
            for left in range(len(calibration.blocks))
        ]
        return torch.stack([torch.as_tensor(score) for score in found]) / len(calibration.batches)


@dataclass(frozen=True)
class Influence(BlockScore):
    """One minus the mean cosine similarity of a block's input and output (ShortGPT, arXiv:2403.03853, eq. 1)."""

    name: ClassVar[str] = "influence"

    axis: int = -1
    """The feature axis: -1 for tokens, 1 for images."""

    @torch.no_grad()
    def __call__(self, calibration: Calibration) -> Tensor:
        sums, counts = [0.0] * len(calibration.blocks), [0] * len(calibration.blocks)

        def noting(number: int, taken: Tensor, returned: Tensor) -> Tensor:
            cosine = F.cosine_similarity(taken.double(), returned.double(), dim=self.axis)
            sums[number] += float(cosine.sum())
            counts[number] += cosine.numel()
            return returned

        for batch in calibration.batches:
            calibration.loss(batch, noting)
        return torch.tensor([1 - total / max(count, 1) for total, count in zip(sums, counts, strict=True)])


@dataclass(frozen=True)
class LearntGate(BlockScore):
    """A gate on each block's contribution, learnt with a penalty on open gates while the weights stay fixed (as in
    FoldGPT, arXiv:2407.00928, section 3.1, where a gate multiplies the contribution of its block).

    Gates start at 1 and stay in [0, 1]. Adam takes one step per batch and cycles through the batches.
    """

    name: ClassVar[str] = "gate"

    steps: int = 60
    lr: float = 0.02
    penalty: float = 0.1
    """Weight of the mean gate, relative to the loss of the whole network on the first batch."""

    def __post_init__(self) -> None:
        if self.steps < 1 or self.lr <= 0 or self.penalty < 0:
            rule = "steps are 1 or more, lr is above 0 and penalty 0 or more"
            raise CompressionError(f"gate(steps={self.steps}, lr={self.lr}, penalty={self.penalty}): {rule}")

    def __call__(self, calibration: Calibration) -> Tensor:
        parameter = next(calibration.network.parameters())
        gates = torch.ones(len(calibration.blocks), dtype=parameter.dtype, device=parameter.device, requires_grad=True)
        optimizer = torch.optim.Adam([gates], lr=self.lr)

        def gated(number: int, taken: Tensor, returned: Tensor) -> Tensor:
            return taken + gates[number] * (returned - taken)

        with torch.no_grad():
            weight = self.penalty * abs(float(calibration.loss(calibration.batches[0], _returned)))
        for step in range(self.steps):
            batch = calibration.batches[step % len(calibration.batches)]
            (calibration.loss(batch, gated) + weight * gates.mean()).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()
            with torch.no_grad():
                gates.clamp_(0, 1)
        return gates.detach()


SCORES: dict[str, type[BlockScore]] = {made.name: made for made in (Influence, LeaveOneOut, LearntGate)}


def block_scores(
    network: nn.Module,
    blocks: str,
    task: Task,
    score: str | BlockScore = "influence",
    *,
    batches: int = NUM_BATCHES,
    seed: int = 0,
) -> Tensor:
    """Return the importance of each block of a trained network, (blocks,). The network stays unchanged.

    Args:
        blocks: path of an `nn.ModuleList` or `nn.Sequential` in which each module's output is the next one's input.
        score: the name of one of `SCORES`, optionally with settings, as ``gate(steps=200)``, or a `BlockScore`.
        batches: number of training batches of the task.

    Raises:
        CompressionError: the path names no such list, a block changes the shape, `batches` is below 1, or a loss is
            not finite.
        SpellingError: the score or one of its settings is unknown.
    """
    method = parse(score, SCORES, "score of blocks") if isinstance(score, str) else score
    listed = dict(network.named_modules()).get(blocks)
    if not isinstance(listed, nn.ModuleList | nn.Sequential) or not len(listed):
        there = [path for path, part in network.named_modules() if isinstance(part, nn.ModuleList | nn.Sequential)]
        raise CompressionError(
            f"{blocks!r} is no list of blocks in the network: there are {', '.join(filter(None, there)) or 'none'}"
        )
    if batches < 1:
        raise CompressionError(f"batches = {batches}: scores need at least 1 batch to calibrate on")
    parameters = list(network.parameters())
    device = parameters[0].device if parameters else torch.device("cpu")
    data = [to_device(task.batch(step, seed), device) for step in range(batches)]
    with _frozen(network):
        return method(Calibration(network, list(listed), task, data))


def rank_blocks(
    network: nn.Module,
    blocks: str,
    task: Task,
    score: str | BlockScore = "influence",
    *,
    batches: int = NUM_BATCHES,
    seed: int = 0,
) -> list[int]:
    """Return the indices of the blocks, most important first; ties keep network order. See `block_scores`."""
    found = block_scores(network, blocks, task, score, batches=batches, seed=seed)
    return [int(number) for number in torch.argsort(found, descending=True, stable=True)]


# -- forward passes


def _returned(number: int, taken: Tensor, returned: Tensor) -> Tensor:
    return returned


def _without(left: int, number: int, taken: Tensor, returned: Tensor) -> Tensor:
    return taken if number == left else returned


@contextmanager
def _changed(blocks: Sequence[nn.Module], change: Change) -> Iterator[None]:
    """Replace the outputs of the blocks by `change` within the context."""

    def hook(number: int, block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        taken = next((value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)), None)
        returned = output if isinstance(output, Tensor) else output[0]
        if taken is None or taken.shape != returned.shape:
            shape = "nothing" if taken is None else tuple(taken.shape)
            raise CompressionError(
                f"block {number} takes {shape} and returns {tuple(returned.shape)}: only blocks that keep the shape "
                "can be left out"
            )
        new = change(number, taken, returned)
        return new if isinstance(output, Tensor) else (new, *output[1:])

    hooks = [block.register_forward_hook(partial(hook, i), with_kwargs=True) for i, block in enumerate(blocks)]
    try:
        yield
    finally:
        for handle in hooks:
            handle.remove()


@contextmanager
def _frozen(network: nn.Module) -> Iterator[None]:
    """Put the network in evaluation mode without parameter gradients; restore both settings on exit."""
    modes = {part: part.training for part in network.modules()}
    wanted = {parameter: parameter.requires_grad for parameter in network.parameters()}
    network.eval().requires_grad_(False)
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode
        for parameter, wants in wanted.items():
            parameter.requires_grad_(wants)
