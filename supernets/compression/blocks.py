"""Which blocks of a trained network matter: scores from calibration data, and the ranking that follows from them.

A space of depths then keeps the most important ones in their own order:

    RANKING = rank_blocks(parent, "model.layers", task)
    depth = choice(6, 8, 12)                                                       # in the space
    model.layers = keep(model.layers, sorted(RANKING[: arch.depth]))               # in build

All scores look at the network as it runs: what a block adds is its output less its input, in the first tensor that it
takes and returns. Leaving a block out is to add nothing.
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
"""From a block's number, what it takes and what it returns, to what is taken for returned."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """A network in evaluation mode, its blocks, and training batches of a task."""

    network: nn.Module
    blocks: Sequence[nn.Module]
    task: Task
    batches: Sequence[Any]

    def loss(self, batch: Any, change: Change) -> Tensor:
        """Of one batch, with what the blocks return changed."""
        with _changed(self.blocks, change):
            loss = self.task.loss(self.task.outputs(self.network, batch), batch)
        if not bool(torch.isfinite(loss)):
            raise CompressionError(f"the loss of a calibration batch is {float(loss)}: scores need data without NaN")
        return loss


class BlockScore(ABC):
    """How important each block is: the larger, the more."""

    name: ClassVar[str]

    @abstractmethod
    def __call__(self, calibration: Calibration) -> Tensor:
        """(blocks,)."""


@dataclass(frozen=True)
class LeaveOneOut(BlockScore):
    """By how much the loss grows without the block."""

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
    """One less the mean cosine of what the block takes and what it returns (ShortGPT, arXiv:2403.03853, eq. 1)."""

    name: ClassVar[str] = "influence"

    axis: int = -1
    """The axis of features: -1 of tokens, 1 of images."""

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
    """A gate on what each block adds, learnt with a penalty on open gates while the weights stay (as FoldGPT does,
    arXiv:2407.00928, section 3.1: what a block adds is multiplied by its gate).

    Gates begin at 1 and stay between 0 and 1. One step of Adam a batch, over all batches in turn.
    """

    name: ClassVar[str] = "gate"

    steps: int = 60
    lr: float = 0.02
    penalty: float = 0.1
    """Of the mean gate, as a share of the loss of the whole network."""

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
    """(blocks,) how important each block of a trained network is; the network and its weights stay as they are.

    Args:
        blocks: the path of an `nn.ModuleList` or `nn.Sequential` whose modules return what the next one takes.
        score: one of `SCORES` with settings, ``gate(steps=200)``, or one of yours.
        batches: of the task's training data.

    Raises:
        CompressionError: no such list, a block that changes the shape, no batch, or a loss that is no number.
        SpellingError: no such score, or one without such a setting.
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
    """The numbers of the blocks, the most important first; of equal ones the earlier. See `block_scores`."""
    found = block_scores(network, blocks, task, score, batches=batches, seed=seed)
    return [int(number) for number in torch.argsort(found, descending=True, stable=True)]


# -- running


def _returned(number: int, taken: Tensor, returned: Tensor) -> Tensor:
    return returned


def _without(left: int, number: int, taken: Tensor, returned: Tensor) -> Tensor:
    return taken if number == left else returned


@contextmanager
def _changed(blocks: Sequence[nn.Module], change: Change) -> Iterator[None]:
    """What blocks return changed by `change`."""

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
    """In evaluation mode, its parameters without gradients; as it was afterwards."""
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
